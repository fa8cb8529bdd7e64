"""One suite for every objective, every task and every layer map: a new one is tested by being listed."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import ClassLabel, Dataset
from tiny import bert, tokenizer

from kd import packaging
from kd.data.splits import Splits
from kd.models.layers import LAYER_MAPS, layer_map
from kd.objectives import OBJECTIVES
from kd.tasks import TASKS
from kd.types import MaskName, TeacherOutputs, UserError

# Objectives

TERMS = {
    f"{objective}, T={temperature:g}": term
    for objective, terms in OBJECTIVES.items()
    for temperature in (1.0, 4.0)
    for term in terms(temperature)
}
ZERO_WHERE_EQUAL = {"soft"}
"""Terms that are distances to the teacher; the others are least, but not 0, where the student equals it."""
SHAPES = {"classes": (6, 3), "tokens": (4, 5, 11)}
every_term = pytest.mark.parametrize("term", TERMS.values(), ids=TERMS)
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def draw(shape, seed=0, size=3.0):
    return size * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def holes(shape, seed=9):
    """A mask over the positions with holes in it, and never all of one kind."""
    mask = torch.rand(shape[:-1], generator=torch.Generator().manual_seed(seed)) < 0.6
    mask.view(-1)[0], mask.view(-1)[1] = True, False
    return mask


def compare(term, student, teacher, mask):
    total, count = term(SimpleNamespace(logits=student), TeacherOutputs(logits=teacher), mask)
    assert total.shape == count.shape == ()
    return total, count


def gradient(term, student, teacher, mask):
    leaf = student.clone().requires_grad_()
    compare(term, leaf, teacher, mask)[0].backward()
    return leaf.grad


def test_terms_have_names_and_masks_that_the_trainer_and_the_tasks_know():
    for terms in OBJECTIVES.values():
        names = [term.name for term in terms(2.0)]
        assert len(names) == len(set(names))
        assert "task" not in names  # the name of the task's own loss
        assert {term.mask for term in terms(2.0)} <= set(get_args(MaskName))


def test_without_an_objective_nothing_is_compared():
    assert OBJECTIVES["none"](2.0) == ()


@every_term
@every_shape
def test_the_count_is_the_number_of_valid_positions(term, shape):
    mask = holes(shape)
    assert compare(term, draw(shape, 1), draw(shape, 2), mask)[1] == mask.sum()


@every_term
@every_shape
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_extreme_logits_give_no_infinity_and_no_nan(term, shape, dtype):
    student, teacher = draw(shape, 1).to(dtype), draw(shape, 2).to(dtype)
    student[0], teacher[0] = 1e4 * student[0].sign(), -1e4 * student[0].sign()
    mask = torch.ones(shape[:-1], dtype=torch.bool)
    total, _ = compare(term, student, teacher, mask)
    assert total.isfinite()
    assert total >= 0
    assert gradient(term, student, teacher, mask).isfinite().all()


@every_term
@every_shape
def test_bf16_is_computed_in_float32_so_small_differences_are_not_lost(term, shape):
    student, teacher = draw(shape, 1).bfloat16(), draw(shape, 2).bfloat16()
    mask = holes(shape)
    total, _ = compare(term, student, teacher, mask)
    exact, _ = compare(term, student.float(), teacher.float(), mask)
    assert total.dtype == torch.float32
    assert total == exact


@every_term
@every_shape
def test_an_all_masked_batch_gives_exactly_nothing_and_no_gradient(term, shape):
    mask = torch.zeros(shape[:-1], dtype=torch.bool)
    total, count = compare(term, draw(shape, 1), draw(shape, 2), mask)
    assert (total.item(), count.item()) == (0.0, 0)
    assert not gradient(term, draw(shape, 1), draw(shape, 2), mask).any()


@every_term
@every_shape
@pytest.mark.parametrize("whose", ["student", "teacher", "both"])
@pytest.mark.parametrize("filling", [float("nan"), float("inf"), 1e30])
def test_what_stands_at_masked_positions_reaches_neither_loss_nor_gradient(term, shape, whose, filling):
    mask = holes(shape)
    student, teacher = draw(shape, 1), draw(shape, 2)
    clean, steps = compare(term, student, teacher, mask)[0], gradient(term, student, teacher, mask)
    if whose != "teacher":
        student = student.masked_fill(~mask.unsqueeze(-1), filling)
    if whose != "student":
        teacher = teacher.masked_fill(~mask.unsqueeze(-1), filling)
    assert torch.equal(compare(term, student, teacher, mask)[0], clean)
    assert torch.equal(gradient(term, student, teacher, mask), steps)
    assert not steps[~mask].any()


@every_term
@every_shape
def test_no_gradient_reaches_the_teacher(term, shape):
    teacher = draw(shape, 2).requires_grad_()
    student = draw(shape, 1).requires_grad_()
    compare(term, student, teacher, holes(shape))[0].backward()
    assert teacher.grad is None
    assert student.grad.any()


@every_term
@every_shape
def test_the_sum_does_not_depend_on_how_a_batch_is_split(term, shape):
    mask, student, teacher = holes(shape), draw(shape, 1), draw(shape, 2)
    whole, count = compare(term, student, teacher, mask)
    for cuts in ([1], [2, 3]):
        pieces = zip(*(part.tensor_split(cuts) for part in (student, teacher, mask)), strict=True)
        sums, counts = zip(*(compare(term, *piece) for piece in pieces), strict=True)
        assert sum(counts) == count
        torch.testing.assert_close(sum(sums), whole)


@every_term
@every_shape
def test_padding_changes_neither_loss_nor_count_nor_gradient(term, shape):
    mask, student, teacher = holes(shape), draw(shape, 1), draw(shape, 2)
    total, count = compare(term, student, teacher, mask)
    steps = gradient(term, student, teacher, mask)
    for axis in range(len(shape) - 1):
        extra = [*shape]
        extra[axis] = 3
        padded = [torch.cat([logits, draw(extra, 5)], axis) for logits in (student, teacher)]
        padded.append(torch.cat([mask, torch.zeros(extra[:-1], dtype=torch.bool)], axis))
        more, counted = compare(term, *padded)
        torch.testing.assert_close(more, total)
        assert counted == count
        torch.testing.assert_close(gradient(term, *padded).narrow(axis, 0, shape[axis]), steps)


@every_term
@every_shape
def test_a_step_against_the_gradient_brings_the_student_nearer_to_its_teacher(term, shape):
    mask, student, teacher = holes(shape), draw(shape, 1), draw(shape, 2)
    for _ in range(200):
        student = student - 0.3 * gradient(term, student, teacher, mask)
    assert (student.argmax(-1) == teacher.argmax(-1))[mask].all()


@every_term
@every_shape
def test_the_student_that_equals_its_teacher_loses_nothing(term, shape):
    teacher, mask = draw(shape, 2), holes(shape)
    if term.name in ZERO_WHERE_EQUAL:
        assert compare(term, teacher.clone(), teacher, mask)[0] == pytest.approx(0, abs=1e-5)
        torch.testing.assert_close(gradient(term, teacher, teacher, mask), torch.zeros_like(teacher), atol=1e-5, rtol=0)
    assert compare(term, teacher.clone(), teacher, mask)[0] < compare(term, -teacher, teacher, mask)[0]


# Tasks

TEXTS = [
    "good",
    "the film was very bad",
    "a fine story",
    "poor plot",
    "it was not good",
    "the very good very fine book",
]


@dataclass(frozen=True)
class Case:
    """A tiny data set of one task, and what its suite must know of the task."""

    columns: dict[str, str]
    splits: Splits
    model: Callable[[object], torch.nn.Module]
    right: Callable[[object, Dataset], np.ndarray]
    """Logits that say the truth with near certainty."""


def labelled(name, start):
    texts = TEXTS[start:] + TEXTS[:start]
    return Dataset.from_dict(
        {
            "text": texts,
            "label": [int("good" in text or "fine" in text) for text in texts],
            "example_id": [f"{name}:{i}" for i in range(len(texts))],
            "group": [f"{name}:{i}" for i in range(len(texts))],
        }
    ).cast_column("label", ClassLabel(names=["bad", "good"]))


def truth_of_labels(task, rows):
    return 50.0 * np.eye(len(task.labels), dtype=np.float32)[rows["label"]]


CASES = {
    "classification": Case(
        columns={"text_column": "text", "text_pair_column": "", "label_column": "label"},
        splits=Splits(labelled("train", 0), labelled("validation", 2), labelled("test", 4), ()),
        model=lambda task: bert(task.labels).eval(),
        right=truth_of_labels,
    ),
}
every_task = pytest.mark.parametrize("name", TASKS)


@dataclass(frozen=True)
class Prepared:
    task: object
    case: Case
    encoded: Dataset
    batch: dict[str, torch.Tensor]
    outputs: object


PREPARED = {}


def prepared(name):
    if name not in PREPARED:
        case = CASES[name]
        task = TASKS[name].from_columns(case.columns).fitted(case.splits)
        encoded = task.encode(case.splits.test, tokenizer(), 16)
        batch = task.collate(tokenizer())(list(encoded))
        with torch.no_grad():
            outputs = case.model(task)(**inputs_of(batch))
        PREPARED[name] = Prepared(task, case, encoded, batch, outputs)
    return PREPARED[name]


def inputs_of(batch):
    return {key: value for key, value in batch.items() if key not in ("labels", "row")}


def test_every_task_has_a_tiny_data_set_here():
    assert set(CASES) == set(TASKS)


@every_task
def test_encoding_keeps_the_order_of_the_rows_and_counts_their_tokens(name):
    got = prepared(name)
    rows = got.case.splits.test
    assert list(got.encoded["row"]) == list(range(len(rows)))
    assert list(got.encoded["length"]) == [len(ids) for ids in got.encoded["input_ids"]]
    alone = [got.task.encode(rows.select([i]), tokenizer(), 16)[0]["input_ids"] for i in range(len(rows))]
    assert list(got.encoded["input_ids"]) == alone


@every_task
def test_no_encoded_row_is_longer_than_asked(name):
    got = prepared(name)
    assert max(got.encoded["length"]) > 5
    assert max(got.task.encode(got.case.splits.test, tokenizer(), 5)["length"]) == 5


@every_task
def test_collation_pads_to_the_longest_and_keeps_every_row_in_place(name):
    got = prepared(name)
    assert got.batch["input_ids"].shape == (len(got.encoded), max(got.encoded["length"]))
    assert got.batch["attention_mask"].sum(1).tolist() == list(got.encoded["length"])
    assert got.batch["row"].tolist() == list(range(len(got.encoded)))
    for ids, padded, length in zip(
        got.encoded["input_ids"], got.batch["input_ids"], got.encoded["length"], strict=True
    ):
        assert padded[:length].tolist() == ids


@every_task
def test_padding_does_not_change_what_the_model_says(name):
    got = prepared(name)
    shortest = int(np.argmin(got.encoded["length"]))
    alone = inputs_of(got.task.collate(tokenizer())([got.encoded[shortest]]))
    with torch.no_grad():
        logits = got.case.model(got.task)(**alone).logits
    padded = got.outputs.logits[shortest : shortest + 1, : logits.shape[1]]
    torch.testing.assert_close(logits, padded, atol=1e-5, rtol=1e-4)


@every_task
def test_every_mask_fits_what_it_masks(name):
    got = prepared(name)
    masks = got.task.masks(got.batch)
    assert set(masks) == set(get_args(MaskName))
    assert all(mask.dtype == torch.bool for mask in masks.values())
    assert masks["positions"].shape == got.outputs.logits.shape[:-1]
    assert torch.equal(masks["tokens"], got.batch["attention_mask"].bool())


@every_task
def test_the_loss_counts_its_target_mask_and_does_not_depend_on_how_a_batch_is_split(name):
    got = prepared(name)
    whole, count = got.task.loss(got.outputs, got.batch)
    assert whole.isfinite()
    assert count == got.task.masks(got.batch)["target"].sum()
    total, counted = 0.0, 0
    for part in (slice(0, 1), slice(1, None)):
        outputs = SimpleNamespace(logits=got.outputs.logits[part])
        sums = got.task.loss(outputs, {key: value[part] for key, value in got.batch.items()})
        total, counted = total + sums[0], counted + sums[1]
    assert counted == count
    torch.testing.assert_close(total, whole)


@every_task
def test_predictions_carry_the_ids_of_their_rows_and_what_reports_read(name):
    got = prepared(name)
    rows = got.case.splits.test
    table = got.task.predictions(rows, got.outputs.logits.numpy())
    assert list(table["example_id"]) == list(rows["example_id"])
    assert list(table["group"]) == list(rows["group"])
    assert {"label", "prediction", "loss"} <= set(table.columns)
    assert not table.isna().any().any()


@every_task
def test_the_truth_scores_best_in_each_metrics_own_direction(name):
    got = prepared(name)
    rows = got.case.splits.test
    right = got.case.right(got.task, rows)
    best, worst, some = (
        got.task.quality(got.task.predictions(rows, logits)) for logits in (right, -right, got.outputs.logits.numpy())
    )
    assert list(best) == list(got.task.directions)
    for metric, rises in got.task.directions.items():
        order = [worst[metric], some[metric], best[metric]]
        assert order == sorted(order, reverse=not rises), metric
        assert best[metric] != worst[metric]


@every_task
def test_the_truth_is_well_calibrated_and_its_opposite_is_not(name):
    got = prepared(name)
    rows = got.case.splits.test
    right = got.case.right(got.task, rows)
    best, worst = (got.task.calibration(got.task.predictions(rows, logits)) for logits in (right, -right))
    assert all(key.startswith("calibration/") for key in best)
    assert all(best[key] < 1e-6 < worst[key] for key in best)


@every_task
def test_a_student_that_says_what_its_teacher_says_is_faithful(name):
    got = prepared(name)
    rows = got.case.splits.test
    own = got.task.predictions(rows, got.outputs.logits.numpy())
    other = got.task.predictions(rows, -got.outputs.logits.numpy())
    same, different = got.task.fidelity(own, own), got.task.fidelity(other, own)
    assert same["fidelity/agreement"] == 1.0
    assert different["fidelity/agreement"] < 1.0
    assert all(key.startswith("fidelity/") for key in same)


@every_task
def test_trivial_baselines_predict_every_example_of_validation_and_test(name):
    got = prepared(name)
    made = list(got.task.baselines(got.case.splits))
    assert made
    for _, tables in made:
        assert set(tables) == {"validation", "test"}
        for split, table in tables.items():
            assert list(table["example_id"]) == list(getattr(got.case.splits, split)["example_id"])
            assert set(got.task.quality(table)) == set(got.task.directions)


@every_task
def test_what_predictions_say_of_themselves_needs_no_fitted_task_so_that_any_run_can_be_compared(name):
    got = prepared(name)
    table = got.task.predictions(got.case.splits.test, got.outputs.logits.numpy())
    kind = TASKS[name]
    assert kind.quality(table) == got.task.quality(table)
    assert kind.calibration(table) == got.task.calibration(table)
    assert kind.fidelity(table, table) == got.task.fidelity(table, table)
    assert kind.paired_test(table, table) == got.task.paired_test(table, table)


@every_task
def test_the_columns_to_slice_by_are_there(name):
    got = prepared(name)
    table = got.task.predictions(got.case.splits.test, got.outputs.logits.numpy())
    assert set(TASKS[name].slices) <= set(table.columns)
    assert not set(TASKS[name].slices) & {"example_id", "prediction", "loss"}  # these are outcomes


@every_task
def test_the_paired_test_shows_nothing_between_equals_and_less_doubt_the_more_two_differ(name):
    got = prepared(name)
    rows = got.case.splits.test
    right = got.case.right(got.task, rows)
    tables = [got.task.predictions(rows, logits) for logits in (right, -right, got.outputs.logits.numpy())]
    for table in tables:
        assert got.task.paired_test(table, table)[1] == 1.0
    found = {(i, j): got.task.paired_test(tables[i], tables[j]) for i in range(3) for j in range(3)}
    assert len({word for word, _ in found.values()}) == 1
    assert all(word for word, _ in found.values())
    assert all(0 <= p <= 1 for _, p in found.values())
    assert all(found[i, j][1] == pytest.approx(found[j, i][1]) for i, j in found)
    assert found[0, 1][1] == min(p for _, p in found.values()) < 1


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """Logits of a model for the test rows, and what its pyfunc answers to them."""
    made = {}

    def answers(name):
        if name not in made:
            got = prepared(name)
            model = got.case.model(got.task)
            with torch.no_grad():
                for weight in model.parameters():
                    weight *= 8 if weight.dim() > 1 else 1  # random weights answer nearly the same to all rows
                logits = model(**inputs_of(got.batch)).logits.numpy()
            folder = tmp_path_factory.mktemp(name)
            packaging.save(folder, model, tokenizer(), {**got.task.serving(), "max_length": 16})
            made[name] = logits, packaging.answer(got.task.served, folder, got.task.requests(got.case.splits.test))
        return made[name]

    return answers


@every_task
def test_what_is_served_scores_as_what_was_evaluated(name, answered):
    got = prepared(name)
    rows = got.case.splits.test
    logits, answers = answered(name)
    evaluated = got.task.predictions(rows, logits)
    served = got.task.predictions(rows, got.task.from_served(answers))
    assert np.diff(np.sort(evaluated["loss"])).max() > 0.01  # else rows could change places unseen
    assert list(served.columns) == list(evaluated.columns)
    for column in evaluated.columns:
        if evaluated[column].dtype.kind == "f":
            np.testing.assert_allclose(served[column], evaluated[column], atol=1e-6, err_msg=column)
        else:
            assert list(served[column]) == list(evaluated[column]), column


@every_task
def test_what_was_served_can_be_kept_as_json_and_still_scores_the_same(name, answered):
    got = prepared(name)
    rows = got.case.splits.test
    answers = answered(name)[1]
    kept = pd.read_json(io.StringIO(answers.to_json(orient="records")), orient="records")
    once, again = (got.task.predictions(rows, got.task.from_served(one)) for one in (answers, kept))
    assert list(once["prediction"]) == list(again["prediction"])
    np.testing.assert_allclose(once["loss"], again["loss"], atol=1e-6)


@every_task
def test_what_is_served_can_be_written_down(name):
    got = prepared(name)
    requests = got.task.requests(got.case.splits.test)
    assert len(requests) == len(got.case.splits.test)
    assert got.task.served.is_file()
    assert json.loads(json.dumps(got.task.serving())) == got.task.serving()


# Layer maps

DEPTHS = range(1, 25)
every_map = pytest.mark.parametrize("name", LAYER_MAPS)


def counts(name, depth):
    """How many layers a student can have that this strategy takes from a source this deep."""
    for count in range(1, depth + 1):
        try:
            yield count, layer_map(count, name, depth)
        except UserError:
            return


@every_map
def test_indices_rise_are_as_many_as_asked_and_lie_within_the_source(name):
    for depth in DEPTHS:
        for count, indices in counts(name, depth):
            if name == "random":
                assert indices == ()
                continue
            assert len(indices) == count
            assert list(indices) == sorted(set(indices))
            assert 0 <= indices[0] <= indices[-1] < depth
            assert all(type(index) is int for index in indices)


@every_map
def test_every_strategy_gives_as_many_layers_as_it_has(name):
    for depth in DEPTHS:
        available = {"odd": depth // 2, "even": (depth + 1) // 2}.get(name, depth)
        assert len(list(counts(name, depth))) == available
        with pytest.raises(UserError, match=rf"student_layers={depth + 1}: .* at most {available}$"):
            layer_map(depth + 1, name, depth)


def test_each_strategy_does_what_its_name_says():
    for depth in DEPTHS:
        for count in range(1, depth + 1):
            assert layer_map(count, "first", depth) == tuple(range(depth))[:count]
            assert layer_map(count, "last", depth) == tuple(range(depth))[-count:]
        assert all(index % 2 == 1 for count, found in counts("odd", depth) for index in found)
        assert all(index % 2 == 0 for count, found in counts("even", depth) for index in found)
        for count, found in counts("spaced", depth):
            gaps = np.diff(found)
            assert count == 1 or (found[0], found[-1]) == (0, depth - 1)
            assert count == 1 or gaps.max() - gaps.min() <= 1


def test_strategies_differ_where_they_should():
    found = [layer_map(4, name, 12) for name in LAYER_MAPS]
    assert len(set(found)) == len(LAYER_MAPS)
