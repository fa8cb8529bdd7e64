"""Finds what a comparison says: tables of the runs, with what their artifacts add."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd

from kd import tracking
from kd.analysis.comparison import Question, Table, compare
from kd.analysis.effort import uneven_steps
from kd.analysis.slices import Curve, Details, SeedTest, Slice, slice_differences
from kd.analysis.verdicts import Examples, over_examples
from kd.base.task import Task
from kd.base.types import STANDARD_COLUMNS, RunRecord, UserError
from kd.config import CompareConfig, listed
from kd.tasks import TASKS, task_named

VALUE = "kd.value"
"""Column of what an example adds to the metric; most of the time of slicing went into computing whole metrics."""
Finding = tuple[Table, Details]


def find(records: list[RunRecord], config: CompareConfig) -> tuple[list[Finding], list[str]]:
    """Make tables of runs, with what their artifacts add; notes say what was left out.

    Raises:
        UserError: no run has a score, or something asked for is not there.
    """
    directions = {str(name): task_named(name).directions for name in TASKS}
    question = Question(config.metric, config.baseline, listed(config.group_by))
    tables, notes = compare(records, directions, question)
    if not tables:
        said = "".join(f"; {note}" for note in notes)
        raise UserError(f"{_asked(config)}: no finished run with a {question.split} score matches{said}")
    steps = {record.run_id: int(record.params["steps"]) for record in records if "steps" in record.params}
    findings = []
    for table in tables:
        counted = replace(table, times_scored=tracking.times_scored(table.digest) if table.split == "test" else None)
        details, examples = _read(table, listed(config.slice_by))
        details = replace(details, notes=(*details.notes, *uneven_steps(table, steps)))
        findings.append((over_examples(counted, examples), details))
    return findings, notes


def _asked(config: CompareConfig) -> str:
    names = ("experiments", "filter", "runs", "models", "metric")
    given = [f"{name}={getattr(config, name)!r}" for name in names if getattr(config, name)]
    return ", ".join(given) or "experiments='' (the default)"


def _read(table: Table, wanted: tuple[str, ...]) -> tuple[Details, dict[str, Examples]]:
    """Read what the artifacts of a table's runs say: predictions of the pairs, and curves; also differences by example.

    Raises:
        UserError: no prediction has a column that `slice_by` names.
    """
    task = task_named(table.task)
    name = f"predictions_{'validation' if table.split == 'val' else table.split}.parquet"
    notes: list[str] = []

    @cache
    def predictions(run_id: str) -> pd.DataFrame | None:
        try:
            return tracking.table(run_id, name, without="score:")
        except tracking.Gone:
            notes.append(f"run {run_id} has no {name}: slices and tests of single examples leave it out")
            return None

    slices: dict[str, tuple[Slice, ...]] = {}
    tests: dict[str, tuple[SeedTest, ...]] = {}
    churn: dict[str, dict[str, float]] = {}
    curves: dict[str, tuple[Curve, ...]] = {}
    examples: dict[str, Examples] = {}
    columns: dict[str, None] = {}
    for arm in table.arms:
        drawn = (tracking.curve(run_id, f"val/{table.metric}") for run_id in arm.run_ids)
        curves[arm.key] = tuple(points for points in drawn if len(points) > 1)
        pairs = [(pair.seed, predictions(pair.run_id), predictions(pair.against)) for pair in arm.pairs]
        whole = [(seed, ours, theirs) for seed, ours, theirs in pairs if ours is not None and theirs is not None]
        _require_same_examples(whole)
        if whole:
            columns |= dict.fromkeys(map(str, whole[0][1].columns))
            slices[arm.key] = tuple(_slices(whole, table, task, wanted))
            churn[arm.key] = _churn(whole, task)
            tests[arm.key] = tuple(SeedTest(seed, *task.paired_test(ours, theirs)) for seed, ours, theirs in whole)
        if whole and len(whole) == len(pairs) and (values := differences(whole, table.metric, task)) is not None:
            examples[arm.key] = values
    _require_columns(wanted, [name for name in columns if name not in ("example_id", "prediction", "loss")])
    alone = [arm.label for arm in table.arms if arm.pairs and arm.key not in examples]
    if alone:
        notes.append(f"the verdict holds for new seeds, but for this test set alone: {', '.join(alone)}")
    return Details(slices, tests, curves, tuple(notes), churn), examples


def _churn(pairs: list[tuple[int, pd.DataFrame, pd.DataFrame]], task: type[Task]) -> dict[str, float]:
    found = [task.churn(theirs, ours) for _, ours, theirs in pairs]
    return {name: float(np.mean([each[name] for each in found])) for name in found[0]}


def differences(pairs: list[tuple[int, pd.DataFrame, pd.DataFrame]], metric: str, task: type[Task]) -> Examples | None:
    """Return each example's difference by seed, the mean of a seed's pairs; None where the metric is no mean."""
    _require_same_examples(pairs)
    seeds: dict[int, list[np.ndarray]] = {}
    for seed, ours, theirs in pairs:
        mine, other = task.example_values(ours, metric), task.example_values(theirs, metric)
        if mine is None or other is None:
            return None
        seeds.setdefault(seed, []).append(mine - other)
    groups = pd.factorize(pairs[0][1]["group"])[0].astype(np.int64)
    return np.stack([np.mean(values, axis=0) for values in seeds.values()]), groups


def _require_columns(wanted: tuple[str, ...], known: list[str]) -> None:
    if known and (unknown := [name for name in wanted if name not in known]):
        raise UserError(
            f"slice_by={unknown[0]!r} is no column of the predictions: give some of {', '.join(known)}; "
            "slice_columns keeps further columns when a model is trained"
        )


def _require_same_examples(pairs: list[tuple[int, pd.DataFrame, pd.DataFrame]]) -> None:
    for seed, ours, theirs in pairs:
        if not ours["example_id"].equals(theirs["example_id"]):
            raise UserError(f"two runs of seed {seed} share a test digest, but their predictions are of other examples")


def _slices(
    pairs: list[tuple[int, pd.DataFrame, pd.DataFrame]], table: Table, task: type[Task], wanted: tuple[str, ...]
) -> list[Slice]:
    columns = [str(column) for column in pairs[0][1].columns]
    more = [column for column in columns if column not in STANDARD_COLUMNS and column not in task.slices]
    names = wanted or (*task.slices, *more)

    def slim(predictions: pd.DataFrame) -> pd.DataFrame:
        values = task.example_values(predictions, table.metric)
        kept = [name for name in names if name in predictions]
        return predictions if values is None else predictions[kept].assign(**{VALUE: values})

    def quality(part: pd.DataFrame) -> float:
        return float(part[VALUE].mean()) if VALUE in part else task.quality(part)[table.metric]

    slimmed = [(seed, slim(ours), slim(theirs)) for seed, ours, theirs in pairs]
    return slice_differences(slimmed, names, quality, table.higher_is_better)
