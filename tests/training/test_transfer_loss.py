"""The loss of rows without labels: what each row weighs, whatever the batch, and that their labels are never needed."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset

from kd.base.types import OUTPUTS_ALONE, MaskName, Needs, Stopped, TeacherOutputs
from kd.data.encoded import ChosenRows
from kd.training import loop
from kd.training.loop import fit
from tests import tiny
from tests.training.test_loop import (
    OFTEN,
    RECIPE,
    ROWS,
    Reports,
    Watched,
    collate,
    difference,
    encoded,
    job,
    masks,
    teacher,
    terminate,
    trained,
    weights,
)


@dataclass(frozen=True)
class Squared:
    """A term of any precision, at each row or at each token."""

    name: str = "squared"
    mask: MaskName = "positions"
    needs: Needs = OUTPUTS_ALONE

    def __call__(self, student, teacher, mask):
        distance = (student.outputs["logits"] - teacher.outputs["logits"]).square().sum(-1)
        if mask.dim() == 2:
            distance = distance.unsqueeze(1).expand(mask.shape)
        return (distance * mask).sum(), mask.sum()


def quarter_unlabelled() -> Dataset:
    return encoded().map(lambda row: {"labels": -100 if row["feature"] % 4 == 0 else row["feature"] % 2})


def relabelled(keep, rows=None) -> Dataset:
    """The same rows, those where `keep` is false without a label."""
    return (rows or encoded()).map(lambda row: {"labels": row["feature"] % 2 if keep(row["feature"]) else -100})


def step_loss(work, batches):
    """What a step over these micro-batches of rows minimises."""
    recipe = replace(RECIPE, batch_size=len(batches[0]), gradient_accumulation=len(batches))
    trainer = loop._Trainer(work, recipe, {})
    made = [work.collate(work.features.__getitems__(batch)) for batch in batches]
    taken, _ = trainer.get_batch_samples(iter(made), len(made), torch.device("cpu"))
    return sum(trainer.compute_loss(work.model, each) for each in taken)


@pytest.mark.parametrize("parts", [1, 2, 6])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("mask", ["positions", "tokens"])
def test_a_row_with_a_label_weighs_both_losses_and_one_without_the_teachers_alone(tmp_path, parts, alpha, mask):
    """The formula row by row, in float64."""
    model = tiny.bert(layers=1, seed=7, dropout=0.0).double()
    given = {"features": quarter_unlabelled(), "transfer": True, "alpha": alpha, "weights": {"squared": 0.7}}
    work = job(tmp_path, model=model, terms=(Squared(mask=mask),), **given)
    found = step_loss(work, np.arange(ROWS).reshape(parts, -1).tolist())

    batch = collate(list(work.features))
    logits = model(**batch.inputs).logits
    labelled = batch.truth["labels"] != -100
    assert labelled.sum() == 18
    valid = masks(batch)[mask].double().reshape(ROWS, -1).sum(1)
    term = 0.7 * (logits - teacher(batch.features).outputs["logits"]).square().sum(-1)
    task = F.cross_entropy(logits, batch.truth["labels"], reduction="none", ignore_index=-100)
    each = torch.where(labelled, alpha * term, term)
    expected = (each * valid).sum() / valid.sum() + (1 - alpha) * task[labelled].sum() / ROWS
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)


def test_accumulated_micro_steps_equal_the_full_batch_also_where_some_have_no_label_at_all(tmp_path):
    rows = relabelled(lambda row: row >= ROWS // 2)
    found = []
    for batch_size, accumulation in ((8, 1), (4, 2), (2, 4)):
        recipe = replace(
            RECIPE, batch_size=batch_size, gradient_accumulation=accumulation, epochs=1, learning_rate=1e-4
        )
        model = tiny.bert(layers=2, seed=7, dropout=0.0)
        found.append(trained(job(tmp_path / str(batch_size), model=model, features=rows, transfer=True), recipe))
    assert difference(found[0], found[1]) < 1e-6
    assert difference(found[0], found[2]) < 1e-6
    plain = job(tmp_path / "plain", model=tiny.bert(layers=2, seed=7, dropout=0.0), features=rows)
    assert difference(found[0], trained(plain, replace(RECIPE, epochs=1, learning_rate=1e-4))) > 1e-5


def test_where_every_row_has_its_label_it_is_the_loss_without_transfer_rows(tmp_path):
    rows = relabelled(lambda row: True)
    losses = []
    for more in (False, True):
        work = job(tmp_path / str(more), features=rows, transfer=more, alpha=0.3, model=tiny.bert(dropout=0.0))
        losses.append(step_loss(work, [list(range(ROWS))]))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-6, atol=0)


def test_alpha_one_is_the_same_with_and_without_labels(tmp_path):
    none = {"alpha": 1.0, "validate": lambda model: {"score": 0.0}}
    some = trained(job(tmp_path / "a", features=quarter_unlabelled(), transfer=True, **none))
    assert difference(some, trained(job(tmp_path / "b", **none))) == 0


def test_alpha_zero_asks_the_teacher_about_rows_without_labels_alone(tmp_path):
    rows = quarter_unlabelled()

    def other(features, device=None):
        logits = teacher(features).outputs["logits"]
        unlabelled = torch.from_numpy(features % 4 == 0).unsqueeze(1)
        return TeacherOutputs({"logits": torch.where(unlabelled, logits, -logits)})

    one, same = (trained(job(tmp_path / str(i), features=rows, transfer=True, alpha=0.0, teacher=each))
                 for i, each in enumerate((teacher, other)))  # fmt: skip
    assert difference(one, same) == 0
    assert difference(one, trained(job(tmp_path / "c", features=rows, alpha=0.0))) > 1e-5


def test_the_parts_that_are_reported_are_means_and_the_share_of_a_term_counts_all_it_weighs(tmp_path):
    reports = Reports()
    rows, model = quarter_unlabelled(), tiny.bert(dropout=0.0)
    batch = collate(list(rows))
    with torch.no_grad():
        logits = model(**batch.inputs).logits
    expected = float(F.cross_entropy(logits, batch.truth["labels"]))  # over rows with labels
    work = job(tmp_path, features=rows, transfer=True, alpha=0.0, model=model, report=reports)
    fitted = fit(work, replace(RECIPE, batch_size=ROWS, epochs=1))
    (metrics,) = reports.training.values()
    assert metrics["train/loss_task"] == pytest.approx(expected, abs=1e-4)
    assert fitted.warnings == ()  # at alpha 0 the term counts on rows without labels


def test_rows_that_were_sorted_out_are_never_trained_on_and_the_others_keep_their_teachers_outputs(tmp_path):
    asked = []

    def listening(features, device):
        asked.extend(features.tolist())
        return teacher(features)

    class Listed:
        """Encoded rows without the luxury of a data set."""

        def __init__(self, rows):
            self.rows = rows

        def __len__(self):
            return len(self.rows)

        def __getitem__(self, column):
            return np.array(self.rows[column])

        def __getitems__(self, places):
            return [self.rows[place] for place in places]

    kept = np.array([1, 2, 5, 8, 13, 21])
    rows = ChosenRows(Listed(quarter_unlabelled()), kept)
    assert len(rows) == len(kept)
    fit(job(tmp_path, features=rows, transfer=True, teacher=listening), replace(RECIPE, epochs=2, batch_size=3))
    assert sorted(asked) == sorted([*kept.tolist()] * 2)


@OFTEN
@pytest.mark.parametrize("asked", [2, 4])
def test_a_stopped_training_on_transfer_rows_that_come_again_ends_at_exactly_the_same_weights(tmp_path, asked, every_s):
    recipe = replace(RECIPE, epochs=3, epoch_rows=40, checkpoint_every_s=every_s)  # five updates an epoch
    given = {"features": quarter_unlabelled(), "transfer": True}
    straight, again = Watched(), Watched()
    whole = trained(job(tmp_path / "a", validate=straight, **given), recipe)
    with pytest.raises(Stopped):
        trained(job(tmp_path / "b", report=Reports(asked, terminate), **given), recipe)
    second = job(tmp_path / "b", model=tiny.bert(layers=2, seed=99), validate=again, **given)
    torch.manual_seed(123)
    assert fit(second, recipe).resumed_step == asked + 1
    assert difference(again.last, straight.last) == 0
    assert difference(weights(second.model), whole) == 0
