"""The loop: accumulation, resume, order, choice of checkpoint and reporting change nothing that they should not."""

import os
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset
from transformers import TrainerCallback

from kd.base.types import Batch, Objective, Stopped, StudentOutputs, TeacherOutputs, UserError
from kd.config import FitOptions
from kd.models.precision import resolve_precision
from kd.objectives import Comparison
from kd.objectives.distributions import soft_kl
from kd.training import loop
from kd.training.loop import Job, _Trainer, fit, last_checkpoint
from kd.training.sampler import LengthGroups
from tests import tiny

ROWS = 24
RECIPE = FitOptions(
    dataset="tiny",
    epochs=2,
    batch_size=8,
    learning_rate=0.01,
    patience=0,
    precision="fp32",
    seed=3,
    checkpoint_every_s=0.0,
)


def encoded() -> Dataset:
    """Features of 4 to 20 tokens; every third of the first half is unlabelled, so counts differ between batches."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(4, 21, ROWS).tolist()
    return Dataset.from_dict(
        {
            "input_ids": [draw.integers(5, 60, length).tolist() for length in lengths],
            "labels": [-100 if row < ROWS // 2 and row % 3 == 0 else row % 2 for row in range(ROWS)],
            "feature": list(range(ROWS)),
            "length": lengths,
        }
    )


def collate(features):
    width = max(one["length"] for one in features)
    inputs = {
        "input_ids": torch.tensor([one["input_ids"] + [0] * (width - one["length"]) for one in features]),
        "attention_mask": torch.tensor([[1] * one["length"] + [0] * (width - one["length"]) for one in features]),
    }
    labels = torch.tensor([one["labels"] for one in features])
    return Batch(inputs, {"labels": labels}, np.array([one["feature"] for one in features]))


def masks(batch):
    labelled = batch.truth["labels"] != -100
    return {
        "target": labelled,
        "positions": torch.ones_like(labelled),
        "tokens": batch.inputs["attention_mask"].bool(),
    }


def task_loss(raw, batch):
    labels = batch.truth["labels"]
    total = F.cross_entropy(raw.logits, labels, reduction="sum", ignore_index=-100)
    return total, (labels != -100).sum()


TASK = SimpleNamespace(masks=masks, outputs=lambda raw, batch: {"logits": raw.logits}, loss=task_loss)


def teacher(features: np.ndarray, device: object = None) -> TeacherOutputs:
    said = np.random.default_rng(1).normal(size=(ROWS, 2)).astype(np.float32)
    return TeacherOutputs({"logits": torch.from_numpy(said)[features]})


def validation_loss(model) -> dict[str, float]:
    batch = collate(list(encoded()))
    model.eval()
    with torch.no_grad():
        total, count = task_loss(model(**batch.inputs), batch)
    model.train()
    return {"score": float(total / count)}


SOFT = (Comparison("soft", soft_kl, (2.0,)),)


def job(folder, terms=SOFT, alpha=0.5, weights=None, **changes) -> Job:
    made = Job(
        model=tiny.bert(layers=2, seed=7),
        features=encoded(),
        collate=collate,
        task=TASK,
        objective=Objective(terms, weights or {}, alpha),
        teacher=teacher,
        validate=validation_loss,
        metric=("score", True),
        report=lambda metrics, step: None,
        watch=None,
        folder=folder,
        title="tiny",
    )
    return replace(made, **changes)


def task_with(**changes):
    """The toy's masks, outputs and loss, some of them changed."""
    return SimpleNamespace(**{**vars(TASK), **changes})


def weights(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def difference(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def trained(work: Job, recipe: FitOptions = RECIPE) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)  # what an earlier test drew must not matter
    fit(work, recipe)
    return weights(work.model)


class Reports:
    """Keeps what is reported; does `then` once when `step` comes with a training loss."""

    def __init__(self, step: int = -1, then=lambda: None) -> None:
        self.step, self.then = step, then
        self.training: dict[int, dict[str, float]] = {}
        self.validation: dict[int, dict[str, float]] = {}

    def __call__(self, metrics, step):
        kept = self.training if "train/loss" in metrics else self.validation
        kept[step] = dict(metrics)
        if kept is self.training and step == self.step:
            self.then()


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


# Accumulation


def test_accumulated_micro_steps_equal_the_full_batch_also_where_masks_leave_different_counts(tmp_path):
    found = []
    for batch_size, accumulation in ((8, 1), (4, 2), (2, 4)):
        recipe = replace(RECIPE, batch_size=batch_size, gradient_accumulation=accumulation, epochs=1)
        work = job(tmp_path / str(batch_size), model=tiny.bert(layers=2, seed=7, dropout=0.0))
        # AdamW divides by the root of the squared gradient, which would blow up the rounding of near-zero gradients
        found.append(trained(work, replace(recipe, learning_rate=1e-4)))
    assert difference(found[0], weights(tiny.bert(layers=2, seed=7))) > 1e-5
    assert difference(found[0], found[1]) < 1e-6
    assert difference(found[0], found[2]) < 1e-6


def test_accumulated_gradients_equal_the_mean_over_all_valid_positions_of_the_step(tmp_path):
    """The oracle is plain PyTorch on the whole batch at once."""
    model = tiny.bert(layers=2, seed=7, dropout=0.0)
    batch = collate(list(encoded()))
    raw = model(**batch.inputs)
    task, labelled = task_loss(raw, batch)
    said = StudentOutputs(TASK.outputs(raw, batch))
    soft, positions = SOFT[0](said, teacher(batch.features), masks(batch)["positions"])
    (0.3 * soft / positions + 0.7 * task / labelled).backward()
    wanted = {name: value.grad.clone() for name, value in model.named_parameters()}

    work = job(tmp_path, model=tiny.bert(layers=2, seed=7, dropout=0.0), alpha=0.3)
    recipe = replace(RECIPE, batch_size=4, gradient_accumulation=ROWS // 4, epochs=1)
    trainer = loop._Trainer(work, recipe, {})
    seen = {}

    class Keep(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model=None, **_):
            seen.update({name: value.grad.clone() for name, value in model.named_parameters()})

    trainer.args.max_grad_norm = 0.0
    trainer.add_callback(Keep())
    trainer.train()
    assert difference(seen, wanted) < 1e-6


# Resume


class Watched:
    """Validates, and keeps the weights it saw last."""

    def __call__(self, model) -> dict[str, float]:
        self.last = weights(model)
        return validation_loss(model)


def test_training_changes_weights_and_leaves_the_configuration_as_it_was(tmp_path):
    """Trainer turns `use_cache` off, which would make a saved model generate slowly and look like another shape."""
    work = job(tmp_path)
    work.model.config.use_cache = True
    before, told = weights(work.model), work.model.config.to_json_string(use_diff=False)
    fit(work, RECIPE)
    assert difference(before, work.model.state_dict()) > 0
    assert work.model.config.to_json_string(use_diff=False) == told


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Weights after three epochs of three updates with dropout, uninterrupted, and those of the best checkpoint."""
    watched = Watched()
    best = trained(job(tmp_path_factory.mktemp("straight"), validate=watched), replace(RECIPE, epochs=3))
    return watched.last, best


def assert_continues_exactly(folder, straight, step: int) -> None:
    """Resume with other initial weights and another state of the global generators."""
    watched = Watched()
    second = job(folder, model=tiny.bert(layers=2, seed=99), validate=watched)
    torch.manual_seed(123)
    assert fit(second, replace(RECIPE, epochs=3)).resumed_step == step
    assert difference(watched.last, straight[0]) == 0
    assert difference(weights(second.model), straight[1]) == 0


OFTEN = pytest.mark.parametrize("every_s", [0.0, float("inf")], ids=["each epoch", "only when stopped"])
"""The laws of checkpoints hold however often one is written."""


@OFTEN
@pytest.mark.parametrize(("asked", "saved"), [(1, 2), (2, 3), (4, 5), (5, 6), (7, 8)], ids=lambda step: f"step {step}")
def test_a_stopped_training_ends_at_exactly_the_weights_of_an_uninterrupted_one(
    tmp_path, straight, asked, saved, every_s
):
    """SIGTERM comes while step `asked` is reported, so the next step is the last; steps 3 and 6 end an epoch."""
    recipe = replace(RECIPE, epochs=3, checkpoint_every_s=every_s)
    with pytest.raises(Stopped, match="checkpoint"):
        trained(job(tmp_path, report=Reports(asked, terminate)), recipe)
    assert_continues_exactly(tmp_path, straight, saved)


def test_a_stop_during_validation_loses_nothing(tmp_path, straight):
    def stop(model):
        terminate()
        return validation_loss(model)

    with pytest.raises(Stopped):
        trained(job(tmp_path, validate=stop), replace(RECIPE, epochs=3))
    assert_continues_exactly(tmp_path, straight, 4)


def test_a_stop_after_the_last_epoch_is_not_lost_and_nothing_is_trained_again(tmp_path, straight):
    calls = []

    def stop(model):
        calls.append(model)
        if len(calls) == 3:
            terminate()
        return validation_loss(model)

    with pytest.raises(Stopped):
        trained(job(tmp_path, validate=stop), replace(RECIPE, epochs=3))
    second = job(tmp_path, model=tiny.bert(layers=2, seed=99))
    assert fit(second, replace(RECIPE, epochs=3)).resumed_step == 9
    assert difference(weights(second.model), straight[1]) == 0


def test_a_stop_after_the_last_chance_to_save_claims_no_checkpoint(tmp_path, monkeypatch):
    save = _Trainer._save_checkpoint

    def stop(trainer, *given):
        save(trainer, *given)
        terminate()

    monkeypatch.setattr(_Trainer, "_save_checkpoint", stop)
    with pytest.raises(Stopped, match="no checkpoint yet"):
        trained(job(tmp_path), replace(RECIPE, epochs=1, checkpoint_every_s=1e9))
    assert last_checkpoint(tmp_path) is None


def test_a_torn_checkpoint_is_passed_over_and_the_weights_still_come_out_exactly(tmp_path, straight):
    with pytest.raises(Stopped):
        trained(job(tmp_path, report=Reports(4, terminate)), replace(RECIPE, epochs=3))
    torn = last_checkpoint(tmp_path)
    assert torn == tmp_path / "checkpoint-5"
    (torn / "trainer_state.json").unlink()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-3"
    assert_continues_exactly(tmp_path, straight, 3)


def test_a_stop_within_an_epoch_adds_no_validation_that_an_uninterrupted_training_has_not(tmp_path):
    reports = Reports(4, terminate)
    with pytest.raises(Stopped):
        fit(job(tmp_path, report=reports), RECIPE)
    assert list(reports.validation) == [3]


def test_a_checkpoint_state_cut_in_the_middle_of_writing_is_passed_over(tmp_path):
    for step, text in ((3, '{"global_step": 3}'), (10, '{"global_st')):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(text)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-3"
    shutil.rmtree(tmp_path / "checkpoint-3")
    assert last_checkpoint(tmp_path) is None


def test_early_stopping_still_counts_the_epochs_before_an_interruption(tmp_path):
    """Metric by epoch: 0.9, 0.8, 0.7, ...; patience 2 must stop after epoch 3, resumed after epoch 1 or not."""
    recipe = replace(RECIPE, epochs=6, patience=2)
    straight, falling = job(tmp_path / "a", validate=Falling()), Falling()
    assert fit(straight, recipe).steps == 9
    with pytest.raises(Stopped):
        fit(job(tmp_path / "b", validate=falling, report=Reports(7, terminate)), recipe)
    assert fit(job(tmp_path / "b", validate=falling), recipe).steps == 9


class Falling:
    """A metric that gets lower with each call."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, model) -> dict[str, float]:
        self.calls += 1
        return {"score": 1.0 - 0.1 * self.calls}


def test_signal_handlers_are_put_back_so_that_ctrl_c_works_after_training(tmp_path):
    before = (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))
    fit(job(tmp_path), replace(RECIPE, epochs=1))
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_the_same_seed_gives_the_same_weights_and_another_seed_gives_others(tmp_path):
    one, two = trained(job(tmp_path / "1")), trained(job(tmp_path / "2"))
    other = trained(job(tmp_path / "3"), replace(RECIPE, seed=4))
    assert difference(one, two) == 0
    assert difference(one, other) > 1e-4


# Order of rows

LENGTHS = np.random.default_rng(5).integers(4, 128, 1003).tolist()


@pytest.mark.parametrize(("count", "group"), [(1003, 8), (1003, 16), (7, 8), (8, 8), (1, 4), (400, 8), (401, 8)])
def test_every_row_comes_once_an_epoch(count, group):
    order = list(LengthGroups(LENGTHS[:count], group, seed=0))
    assert sorted(order) == list(range(count))
    assert len(LengthGroups(LENGTHS[:count], group, seed=0)) == count


@pytest.mark.parametrize(("count", "rows"), [(7, 7), (7, 6), (7, 20), (100, 1003), (1003, 100), (401, 802)])
def test_an_epoch_of_so_many_rows_takes_none_twice_before_all_came_once(count, rows):
    groups = LengthGroups(LENGTHS[:count], 8, seed=0, rows=rows)
    order = list(groups)
    assert len(order) == len(groups) == rows
    for start in range(0, rows, count):
        turn = order[start : start + count]
        assert len(set(turn)) == len(turn)
    groups.epoch = 1
    assert set(groups) != set(order) or rows >= count
    if rows == count:
        assert order == list(LengthGroups(LENGTHS[:count], 8, seed=0))


def test_rows_that_come_again_come_in_another_order():
    order = list(LengthGroups(LENGTHS[:100], 8, seed=0, rows=200))
    assert order[:100] != order[100:]


def test_order_is_a_function_of_seed_and_epoch_alone_and_leaves_the_global_generators_alone():
    orders = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        np.random.seed(noise)
        groups = LengthGroups(LENGTHS, 8, seed=0)
        groups.epoch = 4
        before = (torch.get_rng_state(), np.random.get_state()[1].copy())
        orders.append(list(groups))
        assert torch.equal(before[0], torch.get_rng_state())
        assert np.array_equal(before[1], np.random.get_state()[1])
    assert orders[0] == orders[1]


def test_epochs_and_seeds_differ_in_order():
    groups = LengthGroups(LENGTHS, 8, seed=0)
    first = list(groups)
    groups.epoch = 1
    assert list(groups) != first
    assert list(LengthGroups(LENGTHS, 8, seed=1)) != first


def test_lengths_within_a_batch_are_far_closer_than_in_random_order():
    def spread(order):
        return np.mean([np.ptp([LENGTHS[row] for row in order[i : i + 8]]) for i in range(0, 1000, 8)])

    assert spread(list(LengthGroups(LENGTHS, 8, seed=0))) < 0.2 * spread(list(range(len(LENGTHS))))


def test_each_epoch_of_a_training_uses_its_own_order(tmp_path):
    seen: list[int] = []

    def watching(features):
        seen.extend(one["feature"] for one in features)
        return collate(features)

    fit(job(tmp_path, collate=watching), RECIPE)
    epochs = [seen[:ROWS], seen[ROWS : 2 * ROWS]]
    assert [sorted(epoch) for epoch in epochs] == [list(range(ROWS))] * 2
    assert epochs[0] != epochs[1]


# Best checkpoint and early stopping


@dataclass
class Scripted:
    """Gives the scripted value at each validation and keeps the weights it saw."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        self.seen: list[dict[str, torch.Tensor]] = []

    def __call__(self, model) -> dict[str, float]:
        self.seen.append(weights(model))
        return {"score": self.values[len(self.seen) - 1]}


@OFTEN
@pytest.mark.parametrize(("higher", "best"), [(True, 1), (False, 2)], ids=["rising metric", "falling metric"])
def test_the_model_ends_as_the_epoch_that_is_best_on_validation_not_as_the_last(tmp_path, higher, best, every_s):
    script = Scripted((0.5, 0.9, 0.1, 0.4))
    work = job(tmp_path, validate=script, metric=("score", higher))
    fit(work, replace(RECIPE, epochs=4, checkpoint_every_s=every_s))
    assert (last_checkpoint(tmp_path) is None) == (every_s > 0)
    assert difference(weights(work.model), script.seen[best]) == 0
    assert difference(weights(work.model), script.seen[-1]) > 0


@OFTEN
def test_the_best_epoch_before_an_interruption_is_not_forgotten(tmp_path, every_s):
    script = Scripted((0.9, 0.5, 0.4))
    recipe = replace(RECIPE, epochs=3, checkpoint_every_s=every_s)
    with pytest.raises(Stopped):
        fit(job(tmp_path, validate=script, report=Reports(5, terminate)), recipe)
    work = job(tmp_path, validate=script)
    fit(work, recipe)
    assert difference(weights(work.model), script.seen[0]) == 0


def test_weights_held_in_memory_outlive_two_interruptions_and_a_checkpoint_that_is_rotated_away(tmp_path):
    """Best is epoch 2 of 6, which no checkpoint has; stops in epochs 3, 4 and 5 leave the last two checkpoints."""
    script = Scripted((0.5, 0.9, 0.4, 0.3, 0.2, 0.1))
    recipe = replace(RECIPE, epochs=6, checkpoint_every_s=float("inf"))
    for step in (7, 10, 13):
        with pytest.raises(Stopped):
            fit(job(tmp_path, validate=script, report=Reports(step, terminate)), recipe)
    work = job(tmp_path, validate=script)
    fit(work, recipe)
    assert difference(weights(work.model), script.seen[1]) == 0


def test_patience_stops_early_and_zero_never_does(tmp_path):
    assert fit(job(tmp_path / "a", validate=Falling()), replace(RECIPE, epochs=6, patience=2)).steps == 9
    assert fit(job(tmp_path / "b", validate=Falling()), replace(RECIPE, epochs=6, patience=0)).steps == 18


def test_a_loss_that_is_no_number_ends_in_one_line_that_names_the_learning_rate(tmp_path):
    def broken(outputs, batch):
        total, count = task_loss(outputs, batch)
        return total * float("nan"), count

    with pytest.raises(UserError, match="learning_rate") as caught:
        fit(job(tmp_path, task=task_with(loss=broken)), RECIPE)
    assert "\n" not in str(caught.value)


# Terms


@pytest.mark.parametrize("accumulation", [1, 2])
def test_terms_are_reported_apart_and_their_weighted_sum_is_the_loss(tmp_path, accumulation):
    reports = Reports()
    fit(job(tmp_path, alpha=0.3, report=reports), replace(RECIPE, batch_size=4, gradient_accumulation=accumulation))
    assert reports.training
    for metrics in reports.training.values():
        total = 0.3 * metrics["train/loss_soft"] + 0.7 * metrics["train/loss_task"]
        assert metrics["train/loss"] == pytest.approx(total, abs=2e-4)  # the Trainer rounds to four digits
    assert all(metrics.keys() == {"val/score"} for metrics in reports.validation.values())
    assert len(reports.validation) == RECIPE.epochs


def test_a_term_that_stays_under_one_per_cent_of_the_total_is_warned_about(tmp_path):
    fitted = fit(job(tmp_path / "a", alpha=0.001), RECIPE)
    assert len(fitted.warnings) == 1
    assert "'soft'" in fitted.warnings[0]
    assert fit(job(tmp_path / "b", alpha=0.5), RECIPE).warnings == ()


def test_without_terms_alpha_is_ignored_and_the_teacher_is_never_asked(tmp_path):
    def unwanted(rows):
        raise AssertionError("the teacher was asked")

    plain = trained(job(tmp_path / "a", terms=(), alpha=0.9, teacher=unwanted))
    assert difference(plain, trained(job(tmp_path / "b", terms=(), alpha=0.0, teacher=None))) == 0


def test_the_teacher_is_asked_about_the_very_rows_of_the_batch(tmp_path):
    asked: list[list[int]] = []

    def listening(features, device):
        asked.append(features.tolist())
        return teacher(features)

    order: list[list[int]] = []

    def watching(features):
        order.append([one["feature"] for one in features])
        return collate(features)

    fit(job(tmp_path, teacher=listening, collate=watching), replace(RECIPE, epochs=1))
    assert asked == order


def test_alpha_one_ignores_the_labels(tmp_path):
    flipped = encoded().map(lambda row: {"labels": 1 - row["labels"] if row["labels"] >= 0 else -100})
    constant = {"validate": lambda model: {"score": 0.0}, "alpha": 1.0}
    one = trained(job(tmp_path / "a", **constant))
    assert difference(one, trained(job(tmp_path / "b", features=flipped, **constant))) == 0


# Precision


def test_fp16_is_refused_without_a_gpu_and_explicit_precisions_pass_through(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False, {})
    with pytest.raises(UserError, match="fp16"):
        resolve_precision("fp16")
    assert resolve_precision("fp32") == "fp32"
    assert resolve_precision("bf16") == "bf16"
    assert resolve_precision("auto") in ("fp32", "bf16")


@pytest.mark.parametrize(("bf16", "wanted"), [(True, "bf16"), (False, "fp16")])
def test_auto_on_a_gpu_is_what_it_computes_in_hardware(monkeypatch, bf16, wanted):
    cuda = SimpleNamespace(is_available=lambda: True, is_bf16_supported=lambda including_emulation: bf16)
    monkeypatch.setattr(torch, "cuda", cuda)
    assert resolve_precision("auto") == wanted
    assert resolve_precision("fp16") == "fp16"


def test_bf16_training_keeps_float32_weights_and_differs_from_fp32(tmp_path):
    half, full = trained(job(tmp_path / "a"), replace(RECIPE, precision="bf16")), trained(job(tmp_path / "b"))
    assert all(value.dtype in (torch.float32, torch.int64) for value in half.values())
    assert 0 < difference(half, full) < 0.1


def test_after_bf16_training_the_model_computes_in_float32_as_it_will_be_served(tmp_path):
    work = job(tmp_path, validate=lambda model: {"score": 0.0})
    fit(work, replace(RECIPE, precision="bf16"))
    fresh = tiny.bert(layers=2)
    fresh.load_state_dict(work.model.state_dict())
    batch = collate(list(encoded()))
    with torch.no_grad():
        assert torch.equal(work.model.eval()(**batch.inputs).logits, fresh.eval()(**batch.inputs).logits)
