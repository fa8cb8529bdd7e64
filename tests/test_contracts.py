"""One suite for every objective, every task and every layer map: a new one is tested by being listed."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import ClassLabel, Dataset

from kd.analysis.verdicts import values_of
from kd.base.judge import CKA, EXPLANATIONS, OF_TASKS
from kd.base.types import Batch, MaskName, Setting, Shape, Splits, StudentOutputs, TeacherOutputs, UserError
from kd.config.objective import USED_BY
from kd.data.unlabelled import joined
from kd.evaluation.predict import answers, by_example
from kd.models.layers import LAYER_MAPS, layer_map
from kd.objectives import OBJECTIVES
from kd.serving import package
from kd.tasks import TASKS, options_of, task_named
from kd.teacher.run import top_log_probs
from tests.tasks import series
from tests.tiny import bert, tokenizer

# Objectives

STUDENT, TEACHER = Shape(2, 8, 2), Shape(3, 8, 2)
OTHER = Shape(3, 12, 3)
"""A teacher of other width and heads than the student's."""
SHAPES = {"classes": (6, 3), "tokens": (4, 5, 11)}
NUMBERS = {"a number a position": (6,), "windows of numbers": (6, 4, 2)}
"""Outputs that are no scores of options, for terms that compare numbers."""
LAYERS = {"hidden": (4, 5, 8), "attention": (4, 2, 5, 5), "relation": (4, 3, 5, 8)}
TOKEN_AXES = {"hidden": (1,), "attention": (2, 3), "relation": (2,)}
"""Of outputs, which a task may name as it likes, it is the first after the batch's."""


def setting(temperature=2.0, beta=0.5, teacher=TEACHER):
    return Setting(temperature, beta, STUDENT, teacher, ((0, 1), (1, 2)), ((0, 1),))


@dataclass(frozen=True)
class Compared:
    """A term, and the shapes of what it is fed, by name; a mask over all but the last axis of the logits."""

    term: object
    shape: tuple[int, ...]
    student: dict[str, tuple[int, ...]]
    teacher: dict[str, tuple[int, ...]]


def cases():
    found = {}
    for name, build in OBJECTIVES.items():
        settings = {f"T={t:g}, beta={b:g}": setting(t, b) for t in (1.0, 4.0) for b in (0.0, 0.3, 1.0)}
        for words, given in settings.items():
            term = build(given)
            if term is None or term.needs.teacher or term in [each.term for each in found.values()]:
                continue
            for kind, shape in SHAPES.items():
                found[f"{name}, {words}, {kind}"] = Compared(term, shape, {"logits": shape}, {"logits": shape})
            two = {"start": (6, 3), "end": (6, 3)}
            found[f"{name}, {words}, two outputs"] = Compared(term, (6, 3), two, two)
            for kind, shape in NUMBERS.items() if name == "mse" else ():
                found[f"{name}, {kind}"] = Compared(term, (6, 0), {"values": shape}, {"values": shape})
        for words, teacher in {"same shape": TEACHER, "other shape": OTHER}.items():
            term = build(setting(teacher=teacher))
            if term is None or not term.needs.teacher:
                continue
            ours, theirs = dict(LAYERS), dict(LAYERS)
            if teacher is OTHER:
                theirs |= {"attention": (4, 3, 5, 5), "relation": (4, 3, 5, 12)}
            if term.needs.widths:  # the projection has joined them
                assert term.needs.widths == (8, 12)
                ours["hidden"] = theirs["hidden"] = (4, 5, 12)
            fed = [
                {"logits": (4, 3)} | {one: shapes[kind_of(one)] for one in names}
                for names, shapes in ((term.needs.student, ours), (term.needs.teacher, theirs))
            ]
            found[f"{name}, {words}"] = Compared(term, (4, 5, 0), *fed)
    return found


def kind_of(name):
    return name.partition(".")[0]


def is_output(name):
    """Whether it is an output of the task and no layer."""
    return kind_of(name) not in LAYERS


CASES_OF_TERMS = cases()
ZERO_WHERE_EQUAL = set(OBJECTIVES) - {"none", "hard"}
"""Terms that are distances to the teacher; the others are least, but not 0, where the student equals it."""
every_term = pytest.mark.parametrize("case", CASES_OF_TERMS.values(), ids=CASES_OF_TERMS)


def draw(shape, seed=0, size=3.0):
    return size * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def as_said(name, raw):
    """Attention maps are distributions over keys; all else may be any number."""
    return raw.softmax(-1) if kind_of(name) == "attention" else raw


def fed(shapes, seed, size=3.0):
    return {name: as_said(name, draw(shape, seed + i, size)) for i, (name, shape) in enumerate(sorted(shapes.items()))}


def holes(shape, seed=9):
    """A mask over the positions with holes in it, and never all of one kind."""
    mask = torch.rand(shape[:-1], generator=torch.Generator().manual_seed(seed)) < 0.6
    mask.view(-1)[0], mask.view(-1)[1] = True, False
    return mask


def sample(case):
    return fed(case.student, 1), fed(case.teacher, 50), holes(case.shape)


def outputs(kind, given):
    layers = {one: {} for one in LAYERS}
    for name, value in given.items():
        if not is_output(name):
            layers[kind_of(name)][int(name.partition(".")[2])] = value
    return kind({name: value for name, value in given.items() if is_output(name)}, **layers)


def compare(case, student, teacher, mask):
    total, count = case.term(outputs(StudentOutputs, student), outputs(TeacherOutputs, teacher), mask)
    assert total.shape == count.shape == ()
    return total, count


def used(case):
    return case.term.needs.student or tuple(case.student)


def gradient(case, student, teacher, mask):
    leaves = {name: value.clone().requires_grad_() for name, value in student.items()}
    compare(case, leaves, teacher, mask)[0].backward()
    assert all((leaves[name].grad is not None) == (name in used(case)) for name in leaves)
    return {name: leaves[name].grad for name in used(case)}


def masked(name, value, mask):
    """Where a tensor stands at masked positions."""
    if kind_of(name) == "attention":
        where = ~(mask.unsqueeze(-1) & mask.unsqueeze(-2)).unsqueeze(1)
    elif kind_of(name) == "relation":
        where = ~mask[:, None, :, None]
    elif is_output(name) and value.shape[: mask.dim()] != mask.shape:
        where = torch.zeros(value.shape, dtype=torch.bool)  # of the row, and the mask of its tokens
    else:
        where = (~mask).reshape(*mask.shape, *[1] * (value.dim() - mask.dim()))
    return where.expand(value.shape)


def filled(given, mask, filling):
    return {name: value.masked_fill(masked(name, value, mask), filling) for name, value in given.items()}


def equal(case, teacher):
    """A student that says what its teacher says."""
    pairs = zip(case.term.needs.student, case.term.needs.teacher, strict=True)
    said = {name: value.clone() for name, value in teacher.items() if is_output(name)}
    return said | {mine: teacher[its].clone() for mine, its in pairs}


def assert_close(one, other, **tolerance):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], **tolerance)


def test_terms_go_by_the_names_of_their_objectives_and_masks_that_tasks_know():
    assert {name: build(setting()).name for name, build in OBJECTIVES.items() if name != "none"} == {
        name: name for name in OBJECTIVES if name != "none"
    }
    assert {case.term.mask for case in CASES_OF_TERMS.values()} <= set(get_args(MaskName))
    assert {case.term.name for case in CASES_OF_TERMS.values()} == set(OBJECTIVES) - {"none"}


def test_without_an_objective_nothing_is_compared():
    assert OBJECTIVES["none"](setting()) is None


@every_term
def test_the_count_is_the_number_of_valid_positions(case):
    student, teacher, mask = sample(case)
    assert compare(case, student, teacher, mask)[1] == mask.sum()


@every_term
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_extreme_outputs_give_no_infinity_and_no_nan(case, dtype):
    student, teacher, mask = sample(case)
    for given, seed, sign in ((student, 1, 1e4), (teacher, 1, -1e4)):
        for name in given:
            raw = draw(given[name].shape, seed).sign() * sign
            given[name] = as_said(name, raw).to(dtype)
    mask = torch.ones_like(mask)
    total, _ = compare(case, student, teacher, mask)
    assert total.isfinite()
    assert total >= 0
    assert all(value.isfinite().all() for value in gradient(case, student, teacher, mask).values())


@every_term
def test_bf16_is_computed_in_float32_so_small_differences_are_not_lost(case):
    student, teacher, mask = sample(case)
    half = [{name: value.bfloat16() for name, value in given.items()} for given in (student, teacher)]
    full = [{name: value.float() for name, value in given.items()} for given in half]
    total, _ = compare(case, *half, mask)
    assert total.dtype == torch.float32
    assert total == compare(case, *full, mask)[0]


@every_term
def test_an_all_masked_batch_gives_exactly_nothing_and_no_gradient(case):
    student, teacher, mask = sample(case)
    mask = torch.zeros_like(mask)
    total, count = compare(case, student, teacher, mask)
    assert (total.item(), count.item()) == (0.0, 0)
    assert not any(value.any() for value in gradient(case, student, teacher, mask).values())


@every_term
def test_a_batch_whose_features_have_no_position_at_all_gives_nothing_and_no_error(case):
    student, teacher, mask = sample(case)
    if case.term.needs.student:
        return  # every feature has tokens
    nothing = [{name: value[:0] for name, value in given.items()} for given in (student, teacher)]
    total, count = compare(case, *nothing, mask[:0])
    assert (total.item(), count.item()) == (0.0, 0)
    assert all(value.shape[0] == 0 for value in gradient(case, *nothing, mask[:0]).values())


@every_term
@pytest.mark.parametrize("whose", ["student", "teacher", "both"])
@pytest.mark.parametrize("filling", [float("nan"), float("inf"), 1e30])
def test_what_stands_at_masked_positions_reaches_neither_loss_nor_gradient(case, whose, filling):
    student, teacher, mask = sample(case)
    clean, steps = compare(case, student, teacher, mask)[0], gradient(case, student, teacher, mask)
    if whose != "teacher":
        student = filled(student, mask, filling)
    if whose != "student":
        teacher = filled(teacher, mask, filling)
    assert torch.equal(compare(case, student, teacher, mask)[0], clean)
    found = gradient(case, student, teacher, mask)
    assert all(torch.equal(found[name], steps[name]) for name in steps)
    assert not any(found[name][masked(name, found[name], mask)].any() for name in found)
    assert any(found[name].any() for name in found)


@every_term
def test_no_gradient_reaches_the_teacher(case):
    student, teacher, mask = sample(case)
    for value in (*student.values(), *teacher.values()):
        value.requires_grad_()
    compare(case, student, teacher, mask)[0].backward()
    assert all(value.grad is None for value in teacher.values())
    assert all(student[name].grad.any() for name in used(case))


@every_term
def test_the_sum_does_not_depend_on_how_a_batch_is_split_nor_on_its_order(case):
    student, teacher, mask = sample(case)
    whole, count = compare(case, student, teacher, mask)
    order = torch.randperm(len(mask), generator=torch.Generator().manual_seed(4))
    for parts in (order[:1], order[1:]), (order[:2], order[2:3], order[3:]), (order,):
        picked = [
            [{name: value[rows] for name, value in given.items()} for given in (student, teacher)] for rows in parts
        ]
        sums, counts = zip(
            *(compare(case, *both, mask[rows]) for both, rows in zip(picked, parts, strict=True)), strict=True
        )
        assert sum(counts) == count
        torch.testing.assert_close(sum(sums), whole)


@every_term
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_neither_loss_nor_count_nor_gradient(case, side):
    student, teacher, mask = sample(case)
    total, count = compare(case, student, teacher, mask)
    steps = gradient(case, student, teacher, mask)

    def padded(name, value, fill):
        for axis in TOKEN_AXES.get(kind_of(name), (1,)) if mask.dim() > 1 and value.dim() > mask.dim() else ():
            extra = draw([*value.shape[:axis], 3, *value.shape[axis + 1 :]], 5) if fill is None else fill
            if fill is not None:
                extra = torch.full([*value.shape[:axis], 3, *value.shape[axis + 1 :]], fill)
            value = torch.cat([extra, value] if side == "left" else [value, extra], axis)
        return value

    more = [{name: padded(name, value, None) for name, value in given.items()} for given in (student, teacher)]
    wider = mask if mask.dim() == 1 else torch.nn.functional.pad(mask, (3, 0) if side == "left" else (0, 3))
    found, counted = compare(case, *more, wider)
    torch.testing.assert_close(found, total)
    assert counted == count
    for name, value in gradient(case, *more, wider).items():
        torch.testing.assert_close(value, padded(name, steps[name], 0.0))


@every_term
def test_steps_against_the_gradient_bring_the_student_nearer_to_its_teacher(case):
    _, teacher, mask = sample(case)
    mask = torch.ones_like(mask)
    raw = {name: draw(shape, 1).requires_grad_() for name, shape in case.student.items()}
    optimizer = torch.optim.Adam(raw.values(), lr=0.1)
    values = []
    for _ in range(300):
        total, _ = compare(case, {name: as_said(name, value) for name, value in raw.items()}, teacher, mask)
        values.append(total.item())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert values[-1] < 0.2 * values[0]
    for name in filter(is_output, used(case)):
        if raw[name].dim() > mask.dim():
            assert (raw[name].argmax(-1) == teacher[name].argmax(-1)).all()


@every_term
def test_the_student_that_equals_its_teacher_loses_nothing(case):
    _, teacher, mask = sample(case)
    if {name: value.shape for name, value in equal(case, teacher).items()} != case.student:
        assert "other shape" in next(words for words, one in CASES_OF_TERMS.items() if one is case)
        return
    same = compare(case, equal(case, teacher), teacher, mask)[0]
    if case.term.name in ZERO_WHERE_EQUAL:
        assert same == pytest.approx(0, abs=1e-5)
        found = gradient(case, equal(case, teacher), teacher, mask)
        assert_close(found, {name: torch.zeros_like(value) for name, value in found.items()}, atol=1e-5, rtol=0)
    worse = fed(case.student, 1) | {name: -value for name, value in teacher.items() if is_output(name)}
    assert same < compare(case, worse, teacher, mask)[0]


@pytest.mark.parametrize("name", USED_BY["temperature"])
def test_the_temperature_does_not_scale_the_gradient(name):
    """Gradients of a divergence at T fall as 1/T^2; T^2 puts them back (Hinton et al. 2015, section 2.1)."""
    norms = []
    for temperature in (1.0, 3.0, 20.0):
        case = Compared(OBJECTIVES[name](setting(temperature)), (64, 10), {"logits": (64, 10)}, {"logits": (64, 10)})
        mask = torch.ones(64, dtype=torch.bool)
        norms.append(gradient(case, fed(case.student, 1, 0.01), fed(case.teacher, 2, 0.01), mask)["logits"].norm())
    assert norms[0] > 0
    assert norms[1:] == [pytest.approx(float(norms[0]), rel=0.03)] * 2


@pytest.mark.parametrize("name", OBJECTIVES)
def test_what_is_said_to_play_no_part_plays_none_for_arms_do_not_tell_it_apart(name):
    base = OBJECTIVES[name](setting())
    assert (base == OBJECTIVES[name](setting(temperature=3.0))) == (name not in USED_BY["temperature"])
    assert (base == OBJECTIVES[name](setting(beta=0.1))) == (name != "jsd")
    assert (base == OBJECTIVES[name](replace(setting(), pairs=((0, 0),), inner=((0, 2),)))) == (
        name not in USED_BY["match"]
    )


def said_by(kind, values):
    return kind({"logits": values})


@every_term
def test_of_several_outputs_each_is_compared_with_its_namesake_and_weighs_the_same(case):
    """Start with end, say, would be a loss of its own, which no law above sees."""
    student, teacher, mask = sample(case)
    if case.term.needs.student or len(student) < 2:
        return
    total, count = compare(case, student, dict(reversed(teacher.items())), mask)
    alone = [compare(case, {name: student[name]}, {name: teacher[name]}, mask) for name in student]
    torch.testing.assert_close(total, torch.stack([each for each, _ in alone]).mean())
    assert all(counted == count for _, counted in alone)


@pytest.mark.parametrize("name", [*USED_BY["temperature"], "hard"])
@pytest.mark.parametrize("kept", [11, 4])
def test_the_most_probable_options_and_the_rest_stand_for_all_of_a_teachers_logits(name, kept):
    """All kept, it is the loss itself. Else the rest counts as one option, in which no divergence can be seen."""
    for beta in (0.0, 0.4, 1.0):
        term = OBJECTIVES[name](setting(temperature=2.0, beta=beta))
        student, teacher, mask = draw((4, 5, 11), 1), draw((4, 5, 11), 2), holes((4, 5, 11))
        leaf = student.clone().requires_grad_()
        exact, _ = term(said_by(StudentOutputs, student), said_by(TeacherOutputs, teacher), mask)
        found, count = term(said_by(StudentOutputs, leaf), said_by(TeacherOutputs, top_log_probs(teacher, kept)), mask)
        found.backward()
        assert count == mask.sum()
        assert leaf.grad.isfinite().all()
        if kept == 11 or name == "hard":
            torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-4)
        elif name != "dkd":  # its second part is taken over other options
            assert 0 < found < exact
        same, _ = term(said_by(StudentOutputs, teacher), said_by(TeacherOutputs, top_log_probs(teacher, kept)), mask)
        assert name == "hard" or same.abs() < 1e-4


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

    options: dict[str, object]
    splits: Callable[[], Splits]
    processor: Callable[[object], object]
    model: Callable[[object], torch.nn.Module]
    said: Callable[[object, Dataset, object], list]
    """Records by example that say the truth, as sure as given, by example or all alike; below 0 its opposite."""
    tokens: str
    """The column of features that is padded."""
    padded: Callable[[Batch], tuple[torch.Tensor, torch.Tensor]]
    """These columns of a batch, padded behind, and how many of each row are no padding."""
    states: Callable[[Batch], torch.Tensor]
    """Which states of a layer belong to something, `(batch, length)`."""
    faithful: dict[str, float]
    """Figures of a student that says what its teacher says."""
    error: str
    """A column of predictions that tells examples apart."""
    beside: int = 0
    """States of a feature that are no tokens."""
    exact: float = 1e-6
    """How far figures may differ that were computed another way, in their unit."""


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


def said_of_labels(task, rows, sure):
    logits = np.multiply(np.eye(len(task.labels), dtype=np.float32)[rows["label"]], np.reshape(sure, (-1, 1)))
    return [[{"logits": row}] for row in logits]


def forecasts(task, rows, sure):
    """Forecasts with the smaller errors the surer; the opposite is 100 mg/dL beside."""
    truth = np.array(rows["target"])
    errors = np.random.default_rng(0).normal(0, 1, (len(truth), 1 + len(task.options.levels), truth.shape[1]))
    sure = np.broadcast_to(sure, len(truth)).reshape(-1, 1, 1)
    said = truth[:, None] + np.where(sure > 0, 0, 100.0) + errors * 5 / np.abs(sure)
    return [[{"forecast": own[0], "quantiles": np.sort(own[1:], axis=0).T}] for own in said]


CASES = {
    "classification": Case(
        options={"text_column": "text", "text_pair_column": "", "label_column": "label", "max_length": 16},
        splits=lambda: Splits(labelled("train", 0), labelled("validation", 2), labelled("test", 4), ()),
        processor=lambda task: tokenizer(),
        model=lambda task: bert(task.labels).eval(),
        said=said_of_labels,
        tokens="input_ids",
        padded=lambda batch: (batch.inputs["input_ids"], batch.inputs["attention_mask"].sum(1)),
        states=lambda batch: batch.inputs["attention_mask"].bool(),
        faithful={"fidelity/agreement": 1.0},
        error="loss",
    ),
    "forecasting": Case(
        options=series.CONTRACT,
        splits=series.contract_splits,
        processor=series.prompts,
        model=series.time_llm,
        said=forecasts,
        tokens="prompt",
        padded=lambda batch: (batch.inputs["prompt_ids"], batch.inputs["prompt_length"]),
        states=lambda batch: torch.ones(len(batch), series.PATCHES, dtype=torch.bool),
        faithful={"fidelity/rmse": 0.0},
        error="squared_error",
        beside=series.PATCHES,
        exact=1e-3,
    ),
}
every_task = pytest.mark.parametrize("name", TASKS)


def tasks_with(*parts):
    """Those that have methods, or figures that begin so."""

    def has(kind, part):
        return hasattr(kind, part) or any(figure.key.startswith(part) for figure in kind.figures)

    return pytest.mark.parametrize("name", [name for name in TASKS if all(has(task_named(name), one) for one in parts)])


@dataclass(frozen=True)
class Prepared:
    task: object
    case: Case
    splits: Splits
    rows: Dataset
    processor: object
    model: torch.nn.Module
    encoded: Dataset
    batch: Batch
    raw: object
    records: list

    def collate(self, features):
        return self.task.collate(self.processor)(list(features))

    def answers(self, batch):
        """What the model says of a batch, its layers too."""
        with torch.no_grad():
            return self.model(**batch.inputs, output_hidden_states=True)

    def table(self, records=None):
        """Predictions on the test rows; of the model's own answers where no records are given."""
        return self.task.predictions(self.rows, self.records if records is None else records)

    def said(self, sure):
        return self.table(self.case.said(self.task, self.rows, sure))


PREPARED = {}


def prepared(name):
    if name not in PREPARED:
        case, splits = CASES[name], CASES[name].splits()
        task = made(name, splits)
        processor, model = case.processor(task), case.model(task)
        encoded = features_of(task, splits.test, processor)
        batch = task.collate(processor)(list(encoded))
        with torch.no_grad():
            raw = model(**batch.inputs)
            records = by_example(task.answer(model, batch), np.array(encoded["example"]))
        PREPARED[name] = Prepared(task, case, splits, splits.test, processor, model, encoded, batch, raw, records)
    return PREPARED[name]


def made(name, splits, **options):
    chosen = options_of(name)(**CASES[name].options | options)
    return task_named(name).from_options(chosen).fitted(splits)


def features_of(task, rows, processor):
    """What a model is fed, numbered as where it is kept."""
    encoded = task.encode(rows, processor)
    return encoded.add_column("feature", list(range(len(encoded))))


def each_tensor(raw, change):
    """What a model said, each tensor changed; what it did not say is None."""
    found = {field.name: getattr(raw, field.name) for field in fields(raw)}
    return SimpleNamespace(**{name: change(one) if torch.is_tensor(one) else None for name, one in found.items()})


def part_of(batch, places):
    """Some features of a batch, as padded."""
    inputs, truth = ({name: value[places] for name, value in each.items()} for each in (batch.inputs, batch.truth))
    return Batch(inputs, truth, batch.features[places])


def opposite(records):
    return [[{name: -value for name, value in one.items()} for one in own] for own in records]


def test_every_task_has_a_tiny_data_set_here():
    assert set(CASES) == set(TASKS)


@every_task
def test_encoding_keeps_the_order_of_the_rows_and_counts_what_a_forward_reads(name):
    got = prepared(name)
    owners = list(got.encoded["example"])
    assert owners == sorted(owners)
    assert {*owners} == {*range(len(got.rows))}
    assert list(got.encoded["length"]) == [len(ids) + got.case.beside for ids in got.encoded[got.case.tokens]]
    alone = [got.task.encode(got.rows.select([i]), got.processor) for i in range(len(got.rows))]
    for column in {*got.encoded.column_names} - {"example", "feature"}:
        assert list(got.encoded[column]) == [one for own in alone for one in own[column]], column
    assert owners == [i for i, own in enumerate(alone) for _ in own["example"]]
    assert all({*own["example"]} == {0} for own in alone)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "max_length" in case.options])
def test_no_encoded_row_is_longer_than_asked(name):
    got = prepared(name)
    assert max(got.encoded["length"]) > 5
    assert max(features_of(made(name, got.splits, max_length=5), got.rows, got.processor)["length"]) == 5


@every_task
def test_collation_pads_to_the_longest_and_keeps_every_row_in_place(name):
    got = prepared(name)
    tokens, counts = got.case.padded(got.batch)
    lengths = [len(ids) for ids in got.encoded[got.case.tokens]]
    assert len({*lengths}) > 1
    assert tokens.shape == (len(got.encoded), max(lengths))
    assert counts.tolist() == lengths
    assert got.batch.features.tolist() == list(range(len(got.encoded)))
    assert len(got.batch) == len(got.encoded)
    for ids, padded, length in zip(got.encoded[got.case.tokens], tokens, lengths, strict=True):
        assert padded[:length].tolist() == ids
    for place, feature in enumerate(got.encoded):
        alone = got.collate([feature])
        for ours, theirs in ((alone.inputs, got.batch.inputs), (alone.truth, got.batch.truth)):
            own = {key: value[0] for key, value in ours.items()}
            row = {key: theirs[key][place][tuple(map(slice, value.shape))] for key, value in own.items()}
            assert_close(row, own, rtol=0, atol=0)
            assert ours.keys() == theirs.keys()


@every_task
def test_collation_is_a_function_of_the_features_alone(name):
    """What is drawn from a global generator, masking say, would differ between student and teacher, and on resume."""
    got = prepared(name)
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        found.append(got.collate([got.encoded[2], got.encoded[0]]))
    one, other = found
    assert one.features.tolist() == other.features.tolist() == [2, 0]
    for ours, theirs in ((one.inputs, other.inputs), (one.truth, other.truth)):
        assert_close(dict(ours), dict(theirs), rtol=0, atol=0)


@every_task
def test_the_model_is_fed_no_truth_and_no_number_of_a_feature(name):
    batch = prepared(name).batch
    assert not {*batch.inputs} & ({*batch.truth} | {"feature", "example", "length"})


@every_task
def test_a_record_is_given_for_each_feature_and_joined_to_its_own_example(name):
    got = prepared(name)
    found = answers(got.model, Listed(got.encoded), got.collate, got.task.answer, batch_size=2)
    assert [len(own) for own in found] == [len(own) for own in got.records]
    for own, at_once in zip(found, got.records, strict=True):
        for one, other in zip(own, at_once, strict=True):
            assert one.keys() == other.keys()
            assert all(np.allclose(one[key], other[key], atol=1e-5) for key in one)


class Listed:
    """Features as the rest reads them."""

    def __init__(self, encoded):
        self.encoded = encoded

    def __len__(self):
        return len(self.encoded)

    def __getitem__(self, column):
        return np.array(self.encoded[column])

    def __getitems__(self, places):
        return [self.encoded[place] for place in places]


@every_task
def test_padding_changes_neither_what_the_model_says_nor_its_layers(name):
    got = prepared(name)
    shortest = int(np.argmin(got.encoded["length"]))
    alone = got.collate([got.encoded[shortest]])
    one, all_ = got.answers(alone), got.answers(got.batch)
    here, there = got.task.masks(alone)["tokens"], got.task.masks(got.batch)["tokens"][shortest : shortest + 1]
    assert len(one.hidden_states) == len(all_.hidden_states) > 1
    for ours, theirs in zip(one.hidden_states, all_.hidden_states, strict=True):
        torch.testing.assert_close(ours[here], theirs[shortest : shortest + 1][there], atol=1e-5, rtol=1e-4)
    row = vars(each_tensor(all_, lambda tensor: tensor[shortest : shortest + 1]))
    for key, value in vars(each_tensor(one, lambda tensor: tensor)).items():
        if value is not None:
            torch.testing.assert_close(value, row[key][tuple(map(slice, value.shape))], atol=1e-5, rtol=1e-4)


@every_task
def test_every_mask_fits_what_it_masks(name):
    got = prepared(name)
    masks = got.task.masks(got.batch)
    assert set(masks) == set(get_args(MaskName))
    assert all(mask.dtype == torch.bool for mask in masks.values())
    assert masks["positions"].shape == masks["target"].shape
    assert torch.equal(masks["tokens"], got.case.states(got.batch))
    assert {states.shape[:2] for states in got.answers(got.batch).hidden_states} == {masks["tokens"].shape}
    outputs = got.task.outputs(got.raw, got.batch)
    assert outputs
    assert {len(values) for values in outputs.values()} == {int(masks["positions"].sum())}


@every_task
def test_outputs_are_the_same_whatever_else_is_in_the_batch(name):
    """They are kept one feature at a time, and compared a batch at a time."""
    got = prepared(name)
    whole, parts = got.task.outputs(got.raw, got.batch), []
    for feature in got.encoded:
        alone = got.collate([feature])
        parts.append(got.task.outputs(got.answers(alone), alone))
    found = {key: torch.cat([each[key] for each in parts]) for key in whole}
    assert_close(found, dict(whole), atol=1e-5, rtol=1e-4)


@every_task
def test_the_loss_counts_its_target_mask_and_does_not_depend_on_how_a_batch_is_split(name):
    got = prepared(name)
    whole, count = got.task.loss(got.raw, got.batch)
    assert whole.isfinite()
    assert count == got.task.masks(got.batch)["target"].sum()
    total, counted = 0.0, 0
    for part in (slice(0, 1), slice(1, None)):
        sums = got.task.loss(each_tensor(got.raw, lambda tensor, part=part: tensor[part]), part_of(got.batch, part))
        total, counted = total + sums[0], counted + sums[1]
    assert counted == count
    torch.testing.assert_close(total, whole)


@every_task
def test_a_row_without_a_target_counts_in_no_loss_and_is_valid_otherwise(name):
    got = prepared(name)
    rows, task = got.rows, got.task
    known, blank = rows.select(range(3)), rows.select(range(3, len(rows)))
    mixed = joined(known, blank.remove_columns([task.target]), task.inputs, task.target)
    batch = got.collate(features_of(task, mixed, got.processor))
    raw = got.answers(batch)
    masks, whole = task.masks(batch), task.masks(got.batch)
    assert not masks["target"][3:].any()
    assert torch.equal(masks["target"][:3], whole["target"][:3])
    assert all(torch.equal(masks[one], whole[one]) for one in ("positions", "tokens"))
    assert_close(dict(batch.inputs), dict(got.batch.inputs), rtol=0, atol=0)
    said = each_tensor(got.raw, lambda tensor: tensor[:3])
    first = part_of(got.batch, slice(3))
    for one, other in zip(task.loss(raw, batch), task.loss(said, first), strict=True):
        torch.testing.assert_close(one, other)
    leaf = each_tensor(raw, lambda tensor: tensor.clone().requires_grad_())
    task.loss(leaf, batch)[0].backward()
    steps = [value.grad for value in vars(leaf).values() if value is not None and value.grad is not None]
    assert steps
    assert all(step.isfinite().all() and step[:3].any() and not step[3:].any() for step in steps)


@tasks_with("trusted")
def test_what_is_trusted_is_at_least_as_sure_as_asked_and_balanced_where_asked(name):
    got = prepared(name)
    task, draw = got.task, np.random.default_rng(0)
    shapes = {key: values.shape[1:] for key, values in task.outputs(got.raw, got.batch).items()}
    said = {key: draw.normal(size=(200, *shape)).astype(np.float32) for key, shape in shapes.items()}
    none = {key: values[:0] for key, values in said.items()}
    shares = [task.trusted(said, sure, False, 0).mean() for sure in (0.0, 0.6, 0.9, 1.0)]
    assert shares[0] == 1
    assert shares == sorted(shares, reverse=True)
    assert 0 < shares[2] < shares[1] < 1
    assert not task.trusted(none, 0.5, True, 0).any()
    kept = [task.trusted(said, 0.6, True, seed) for seed in (0, 0, 1)]
    assert np.array_equal(kept[0], kept[1])
    assert not np.array_equal(kept[0], kept[2])
    assert all(not (one & ~task.trusted(said, 0.6, False, 0)).any() for one in kept)


@every_task
def test_predictions_carry_the_ids_of_their_rows_and_what_reports_read(name):
    got = prepared(name)
    table = got.table()
    assert list(table["example_id"]) == list(got.rows["example_id"])
    assert list(table["group"]) == list(got.rows["group"])
    assert {*got.task.slices, *got.task.outcomes} <= set(table.columns)
    assert not got.task.wide or any(name.startswith(got.task.wide) for name in table.columns)
    assert not table.isna().any().any()


@every_task
def test_the_truth_scores_best_in_each_metrics_own_direction(name):
    got = prepared(name)
    best, worst, some = (got.task.quality(table) for table in (got.said(50), got.said(-50), got.table()))
    assert list(best) == list(got.task.directions)
    for metric, rises in got.task.directions.items():
        order = [worst[metric], some[metric], best[metric]]
        assert order == sorted(order, reverse=not rises), metric
        assert best[metric] != worst[metric]
    assert set(got.task.bounds) <= set(got.task.directions)
    for metric, (low, high) in got.task.bounds.items():
        values = [found[metric] for found in (best, worst, some)]
        assert all((low is None or low <= value) and (high is None or value <= high) for value in values), metric


@tasks_with("calibration/")
def test_the_truth_is_well_calibrated_and_its_opposite_is_not(name):
    got = prepared(name)
    best, worst = (got.task.diagnostics(None, got.said(sure)) for sure in (50, -50))
    assert all(key.startswith("calibration/") for key in best)
    assert all(best[key] < 1e-6 < worst[key] for key in best)


@every_task
def test_no_diagnostic_figure_says_that_the_opposite_of_the_truth_is_better(name):
    got = prepared(name)
    best, worst = (got.task.diagnostics(None, got.said(sure)) for sure in (50, -50))
    directed = {figure.key: figure.higher_is_better for figure in got.task.figures}
    both = {key: rises for key, rises in directed.items() if rises is not None and {key} <= best.keys() & worst.keys()}
    assert all(key.startswith(OF_TASKS) for key in (*best, *worst))
    for key, rises in both.items():
        assert best[key] >= worst[key] if rises else best[key] <= worst[key], key
    assert any(best[key] != worst[key] for key in best)


@every_task
def test_a_student_that_says_what_its_teacher_says_is_faithful(name):
    got = prepared(name)
    own, other = got.table(), got.table(opposite(got.records))
    same, different = got.task.fidelity(own, own), got.task.fidelity(other, own)
    directed = {figure.key: figure.higher_is_better for figure in got.task.figures}
    for key, value in got.case.faithful.items():
        assert same[key] == value
        assert different[key] < value if directed[key] in (True, None) else different[key] > value
    assert all(key.startswith("fidelity/") for key in same)
    assert same.keys() >= different.keys()


@every_task
def test_the_figures_a_report_shows_are_those_that_runs_log(name):
    got = prepared(name)
    table = got.table()
    sure = got.said(5)
    logged = {*got.task.fidelity(table, table), *got.task.diagnostics(table, sure)}
    common = {figure.key for figure in (CKA, *EXPLANATIONS)}
    assert {figure.key for figure in got.task.figures} - common <= logged
    assert all(figure.key.startswith(OF_TASKS) for figure in got.task.figures)
    assert len({figure.title for figure in got.task.figures}) == len(got.task.figures)


@every_task
def test_the_objectives_of_a_task_are_known_and_the_default_comes_first(name):
    known = task_named(name).objectives
    assert len(set(known)) == len(known) > 0
    assert set(known) <= set(OBJECTIVES)
    assert "none" not in known


@every_task
def test_every_metric_is_judged_over_examples_or_groups_and_its_values_average_to_it(name):
    got = prepared(name)
    table = got.table()
    for metric, value in got.task.quality(table).items():
        found = values_of(table, metric, type(got.task))
        assert found.values.mean() == pytest.approx(value), metric
        assert len(found.groups) == len(found.values) > 1


@tasks_with("fidelity/right_where_teacher_wrong")
def test_examples_of_which_one_model_alone_is_right_are_counted_on_the_right_side(name):
    got = prepared(name)
    best, worst = got.said(50), got.said(-50)
    found = got.task.fidelity(best, worst)
    assert found["fidelity/right_where_teacher_wrong"] == len(got.rows)
    assert found["fidelity/wrong_where_teacher_right"] == 0
    assert got.task.fidelity(worst, best)["fidelity/wrong_where_teacher_right"] == len(got.rows)
    assert got.task.fidelity(best, best)["fidelity/right_where_teacher_wrong"] == 0


@every_task
def test_churn_is_nothing_between_equals_and_goes_the_way_it_went(name):
    got = prepared(name)
    best, worst = got.said(50), got.said(-50)
    assert set(got.task.churn(best, best).values()) == {0.0}
    better, poorer = got.task.churn(worst, best), got.task.churn(best, worst)
    first = next(iter(better))
    assert better[first] == poorer[first] == 1.0
    assert better != poorer
    with pytest.raises(ValueError, match="same examples"):
        got.task.churn(best, worst.iloc[::-1])


@tasks_with("calibration/")
def test_tempering_is_fitted_on_validation_alone_and_helps_who_is_too_sure(name):
    """A temperature fitted on test would be tuned on it."""
    got = prepared(name)
    sure = np.full(len(got.rows), 10.0)
    sure[0] *= -1  # one mistake, as sure as the rest
    table = got.said(sure)
    found = got.task.diagnostics(table, table)
    assert all(key.startswith("calibration/") for key in found)
    assert found["calibration/temperature"] > 1
    other = got.task.diagnostics(table, got.said(-sure))
    assert other["calibration/temperature"] == found["calibration/temperature"]
    without = got.task.diagnostics(None, table)
    assert without == {key: found[key] for key in without}
    assert got.task.diagnostics(got.said(50), table) == without


@tasks_with("explained")
def test_content_is_what_the_rows_say_and_neither_padding_nor_special_tokens(name):
    got = prepared(name)
    words = got.processor
    content = got.task.explained(got.batch, words)
    tokens = got.batch.inputs[content.key]
    assert content.mask.shape == tokens.shape
    assert content.mask.any(dim=1).all()
    assert not set(tokens[content.mask].tolist()) & set(words.all_special_ids)
    assert set(tokens[~content.mask].tolist()) <= set(words.all_special_ids)
    assert content.blank in words.all_special_ids


@tasks_with("evidence")
def test_the_evidence_for_what_was_decided_is_the_greatest_and_carries_a_gradient(name):
    got = prepared(name)
    said = each_tensor(got.raw, lambda tensor: tensor.detach().clone().requires_grad_())
    decided = got.task.decided(said)
    evidence = got.task.evidence(said, decided)
    assert decided.shape == evidence.shape == (len(got.batch),)
    evidence.sum().backward()
    assert sum(leaf.grad.abs().sum() for leaf in vars(said).values() if leaf is not None and leaf.grad is not None) > 0
    turned = got.task.evidence(each_tensor(got.raw, lambda tensor: -tensor), decided)
    assert (evidence > turned).all()


@every_task
def test_trivial_baselines_predict_every_example_of_validation_and_test(name):
    got = prepared(name)
    made = list(got.task.baselines(got.splits))
    assert made
    for _, tables in made:
        assert set(tables) == {"validation", "test"}
        for split, table in tables.items():
            assert list(table["example_id"]) == list(getattr(got.splits, split)["example_id"])
            assert set(got.task.quality(table)) == set(got.task.directions)


@every_task
def test_what_predictions_say_of_themselves_needs_no_fitted_task_so_that_any_run_can_be_compared(name):
    got = prepared(name)
    table = got.table()
    kind = task_named(name)
    assert kind.quality(table) == got.task.quality(table)
    assert kind.fidelity(table, table) == got.task.fidelity(table, table)
    assert kind.churn(table, table) == got.task.churn(table, table)
    assert kind.diagnostics(table, table) == got.task.diagnostics(table, table)
    assert kind.paired_test(table, table) == got.task.paired_test(table, table)


@every_task
def test_the_columns_to_slice_by_are_there(name):
    got = prepared(name)
    table = got.table()
    assert set(task_named(name).slices) <= set(table.columns)
    assert not set(task_named(name).slices) & {"example_id", *task_named(name).outcomes}


@every_task
def test_the_paired_test_shows_nothing_between_equals_and_less_doubt_the_more_two_differ(name):
    got = prepared(name)
    tables = [got.said(50), got.said(-50), got.table()]
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
    """Records of a model for the test rows, and what its pyfunc answers to them."""
    kept = {}

    def served(name):
        if name not in kept:
            got = prepared(name)
            model = got.case.model(got.task)
            with torch.no_grad():
                for weight in model.parameters():
                    weight *= 8 if weight.dim() > 1 else 1  # random weights answer nearly the same to all rows
                got.task.condensed(model)
                found = by_example(got.task.answer(model, got.batch), np.array(got.encoded["example"]))
            folder = tmp_path_factory.mktemp(name)
            package.save(folder, model, got.processor, got.task.serving(), got.task.shipped)
            kept[name] = found, package.answer(got.task.served, folder, got.task.requests(got.rows))
        return kept[name]

    return served


def assert_alike(table, wanted, exact):
    assert list(table.columns) == list(wanted.columns)
    for column in wanted.columns:
        if wanted[column].dtype.kind == "f":
            np.testing.assert_allclose(table[column], wanted[column], atol=exact, rtol=min(exact, 1e-5), err_msg=column)
        else:
            assert list(table[column]) == list(wanted[column]), column


@every_task
def test_what_is_served_scores_as_what_was_evaluated(name, answered):
    got = prepared(name)
    records, answers = answered(name)
    evaluated = got.table(records)
    assert np.diff(np.sort(evaluated[got.case.error])).max() > 0.01  # else rows could change places unseen
    assert_alike(got.table(got.task.from_served(answers)), evaluated, got.case.exact)


@every_task
def test_what_was_served_can_be_kept_as_json_and_still_scores_the_same(name, answered):
    got = prepared(name)
    answers = answered(name)[1]
    kept = pd.read_json(io.StringIO(answers.to_json(orient="records")), orient="records")
    once, again = (got.table(got.task.from_served(one)) for one in (answers, kept))
    assert_alike(again, once, got.case.exact)


@every_task
def test_a_trained_model_answers_as_before_without_what_only_training_needs(name):
    got = prepared(name)
    model = got.case.model(got.task)
    size = sum(weight.numel() for weight in model.parameters())
    with torch.no_grad():
        got.task.condensed(model)
        found = by_example(got.task.answer(model, got.batch), np.array(got.encoded["example"]))
    assert sum(weight.numel() for weight in model.parameters()) <= size
    assert_alike(got.table(found), got.table(), got.case.exact)


@every_task
def test_what_is_served_can_be_written_down(name):
    got = prepared(name)
    requests = got.task.requests(got.rows)
    assert len(requests) == len(got.rows)
    assert got.task.served.is_file()
    assert got.task.shipped is None or (got.task.shipped / "__init__.py").is_file()
    assert json.loads(json.dumps(got.task.serving())) == got.task.serving()


# Layer maps

DEPTHS = range(1, 25)
SAME_MAPS = ("top-k", "bottom-k")
"""Other words for a map."""
every_map = pytest.mark.parametrize("name", LAYER_MAPS)


def chosen(count, name, depth):
    """The layers a map takes, where the middle ones move the loss most."""
    return layer_map(count, name, depth, moved=lambda: [min(i, depth - i) for i in range(depth)])


def counts(name, depth):
    """How many layers a student can have that this strategy takes from a source this deep."""
    for count in range(1, depth + 1):
        try:
            yield count, chosen(count, name, depth)
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
            assert layer_map(count, "top-k", depth) == layer_map(count, "first", depth)
            assert layer_map(count, "bottom-k", depth) == layer_map(count, "last", depth)
        assert all(index % 2 == 1 for count, found in counts("odd", depth) for index in found)
        assert all(index % 2 == 0 for count, found in counts("even", depth) for index in found)
        for count, found in counts("spaced", depth):
            gaps = np.diff(found)
            assert count == 1 or (found[0], found[-1]) == (0, depth - 1)
            assert count == 1 or gaps.max() - gaps.min() <= 1


def test_strategies_differ_where_they_should():
    found = [chosen(4, name, 12) for name in LAYER_MAPS]
    assert len(set(found)) == len(LAYER_MAPS) - len(SAME_MAPS)
