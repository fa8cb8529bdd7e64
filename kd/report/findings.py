"""A comparison, from records of runs and what their artifacts add."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial

import pandas as pd

from kd import tracking
from kd.analysis.comparison import compare, split_of, uneven_steps
from kd.analysis.doubts import doubts
from kd.analysis.slices import Details, Fairness, Score, SeedTest, Slice, fairness, slice_differences
from kd.analysis.table import Arm, Doubt, Pair, Table
from kd.analysis.verdicts import Values, differences, over_examples, values_of
from kd.base.judge import RAM_MEANS, Judge, metric_of
from kd.base.types import STANDARD_COLUMNS, RunRecord, UserError
from kd.config import CompareConfig, listed
from kd.report.tables import Finding
from kd.tasks import TASKS, task_named

MOST_DRAWN = 5
"""Trained arms whose predictions are drawn; more lines hide one another."""
Compared = tuple[int, pd.DataFrame, pd.DataFrame]
"""Seed, an arm's predictions, and those they are compared with."""


def find(records: list[RunRecord], config: CompareConfig) -> tuple[list[Finding], list[str]]:
    """Make tables of runs, with what their artifacts add; notes say what was left out.

    Raises:
        UserError: no run has a score, or something that was named is not there.
    """
    judges = {str(name): task_named(name) for name in TASKS}
    directions = {name: judge.directions for name, judge in judges.items()}
    tables, notes = compare(records, directions, config, {name: judge.bounds for name, judge in judges.items()})
    if not tables:
        said = "".join(f"; {note}" for note in notes)
        raise UserError(f"{_given(config)}: no finished run with a {split_of(config.metric)} score matches{said}")
    guides = _guides(records)
    steps = {record.run_id: int(record.params["steps"]) for record in records if "steps" in record.params}
    findings = []
    for table in tables:
        judge = task_named(table.task)
        scored = tracking.times_scored(table.digest) if table.split == "test" else None
        table = replace(table, times_scored=scored, doubts=doubts(table, guides))
        table = replace(table, figures=judge.figures, pictures=judge.pictures)
        table = replace(table, arms=tuple(replace(arm, guide=_guide(arm, table, guides)) for arm in table.arms))
        stored = Stored(table, judge)
        details, examples = _details(stored, listed(config.slice_by))
        notes += [*stored.notes, *uneven_steps(table, steps), *_other_means(table, records)]
        findings.append((over_examples(table, examples), details))
    return findings, notes


def _other_means(table: Table, records: Sequence[RunRecord]) -> list[str]:
    """Note where the model RAM of some runs of a table was measured otherwise than that of the others."""
    shown = {run_id for arm in table.arms for run_id in arm.run_ids}
    measured = [one for one in records if one.run_id in shown and "profile/ram_model_mib" in one.metrics]
    older = [one for one in measured if RAM_MEANS not in one.tags]
    if len(older) in (0, len(measured)):
        return []
    return [
        f"model RAM of {len(older)} of {len(measured)} runs counts the code of libraries too, as older versions "
        "measured it: compare it among these runs alone"
    ]


def _guides(records: Sequence[RunRecord]) -> dict[str, RunRecord]:
    """Return the run that made each teacher, by the URI that its students name; one that is gone is left out."""
    found = {}
    for uri in dict.fromkeys(record.tags.get("kd.teacher", "") for record in records):
        if uri.startswith(("models:/", "runs:/")):
            with suppress(tracking.Gone):
                found[uri] = tracking.record(tracking.maker(uri, "teacher"))
    return found


def _guide(arm: Arm, table: Table, guides: Mapping[str, RunRecord]) -> str:
    """Return the key of the arm that an arm's teachers are of; empty where they are of several, or not in the table."""
    made = {guides[uri].run_id for uri in arm.teachers if uri in guides}
    found = [one.key for one in table.arms if one is not arm and made & {*one.run_ids}]
    return found[0] if len(found) == 1 and len(made) == len(arm.teachers) else ""


def beside(records: Mapping[str, RunRecord], experiment: str) -> list[str]:
    """Return the runs of the teachers of these runs, given by id, and of the trivial baselines on the same rows."""
    rows = {record.tags["kd.dataset_digest"] for record in records.values()}
    simple = [
        run.run_id
        for digest in dict.fromkeys(record.tags["kd.test_digest"] for record in records.values())
        for run in tracking.runs([experiment], f"tags.`kd.test_digest` = '{digest}' and tags.`kd.role` = 'trivial'")
        if run.tags["kd.dataset_digest"] in rows
    ]
    teachers = [guide.run_id for guide in _guides([*records.values()]).values()]
    return [run_id for run_id in dict.fromkeys([*simple, *teachers]) if run_id not in records]


def doubts_about(run_id: str) -> list[Doubt]:
    """Return what speaks against promoting the model of one run: its baselines, its teacher, and its control."""
    record, experiment = tracking.record(run_id), tracking.experiment_of(run_id)
    control = f"tags.`kd.arm` = '{record.tags.get('kd.control_arm', '')}'"
    same = f"{control} and tags.`kd.test_digest` = '{record.tags['kd.test_digest']}'"
    records = {one.run_id: one for one in (*tracking.runs([experiment], same), record)}
    found = [*records.values(), *map(tracking.record, beside(records, experiment))]
    task, judge = record.tags["kd.task"], task_named(record.tags["kd.task"])
    tables, _ = compare(found, {task: judge.directions}, CompareConfig(), {task: judge.bounds})
    guides = _guides(found)
    return [doubt for table in tables for doubt in doubts(table, guides) if run_id in doubt.run_ids]


def _given(config: CompareConfig) -> str:
    names = ("experiments", "filter", "runs", "models", "metric")
    given = [f"{name}={getattr(config, name)!r}" for name in names if getattr(config, name)]
    return ", ".join(given) or "experiments='' (the default)"


class Stored:
    """What the runs of a table have stored of single examples; each run is read once, what is missing is noted."""

    def __init__(self, table: Table, judge: type[Judge]) -> None:
        """Read nothing yet."""
        self.table = table
        self.judge = judge
        self.file = f"predictions_{'validation' if table.split == 'val' else 'test'}.parquet"
        self.notes: list[str] = []
        self.predictions = cache(self._predictions)
        self.values = cache(self._values)

    def _predictions(self, run_id: str) -> pd.DataFrame | None:
        found = self._read(run_id, self.judge.wide)
        if found is None:
            self.notes.append(f"run {run_id} has no {self.file}: slices and tests of single examples leave it out")
        return found

    def _read(self, run_id: str, without: str) -> pd.DataFrame | None:
        try:
            return tracking.table(run_id, self.file, without)
        except tracking.Gone:
            return None

    def _values(self, run_id: str) -> Values | None:
        found = self.predictions(run_id)
        return None if found is None else values_of(found, self.table.metric, self.judge)

    def drawn(self) -> dict[str, pd.DataFrame]:
        """Return whole predictions of the first run of the arms that are drawn, where the task has pictures of them."""
        trained = [arm for arm in self.table.arms if arm.role != "trivial"][:MOST_DRAWN]
        trivial = [arm for arm in self.table.arms if arm.role == "trivial"][:1]
        chosen = [*trained, *trivial] if self.judge.pictures else []
        return {arm.key: whole for arm in chosen if (whole := self._read(arm.run_ids[0], without="")) is not None}

    def pairs(self, pairs: Sequence[Pair]) -> list[Compared]:
        """Return seed and predictions of pairs of runs, of those where both have stored them.

        Raises:
            UserError: they are of different examples.
        """
        both = [(pair.seed, self.predictions(pair.run_id), self.predictions(pair.against)) for pair in pairs]
        found = [(seed, ours, theirs) for seed, ours, theirs in both if ours is not None and theirs is not None]
        for seed, ours, theirs in found:
            if not ours["example_id"].equals(theirs["example_id"]):
                raise UserError(
                    f"two runs of seed {seed} share a test digest, but their predictions are of other examples"
                )
        return found

    def differences(self, pairs: Sequence[Pair]) -> Values | None:
        """Return differences `(seeds, examples)`; None where not every run has them.

        Raises:
            UserError: as `pairs`.
        """
        if not pairs or len(self.pairs(pairs)) < len(pairs):
            return None
        both = [(pair.seed, self.values(pair.run_id), self.values(pair.against)) for pair in pairs]
        known = [(seed, ours, theirs) for seed, ours, theirs in both if ours is not None and theirs is not None]
        return differences(known) if len(known) == len(pairs) else None


def _details(stored: Stored, wanted: tuple[str, ...]) -> tuple[Details, dict[str, Values]]:
    """Return slices, tests, churn and curves of a table's arms; also their differences by example.

    Raises:
        UserError: no predictions have a column that `slice_by` names.
    """
    table, judge = stored.table, stored.judge
    pairs = {arm.key: found for arm in table.arms if (found := stored.pairs(arm.pairs))}
    _require_columns(wanted, [ours for found in pairs.values() for _, ours, _ in found[:1]], judge)
    single = {arm.key: stored.differences(arm.pairs) for arm in table.arms}
    examples = {key: values for key, values in single.items() if values is not None}
    if alone := [arm.label for arm in table.arms if arm.pairs and arm.key not in examples]:
        stored.notes.append(f"the verdict is for new seeds, but for this test set alone: {', '.join(alone)}")
    curve_of = tracking.curves([run_id for arm in table.arms for run_id in arm.run_ids], f"val/{table.metric}")
    details = Details(
        slices={key: tuple(_slices(found, table, judge, wanted)) for key, found in pairs.items()},
        tests={
            key: tuple(SeedTest(seed, *judge.paired_test(ours, theirs)) for seed, ours, theirs in found)
            for key, found in pairs.items()
        },
        curves={
            arm.key: tuple(curve_of[run_id] for run_id in arm.run_ids if len(curve_of[run_id]) > 1)
            for arm in table.arms
        },
        churn={
            key: pd.DataFrame([judge.churn(theirs, ours) for _, ours, theirs in found]).mean().to_dict()
            for key, found in pairs.items()
        },
        fairness={arm.key: tuple(_fairness(stored, arm, wanted)) for arm in table.arms},
        predictions=stored.drawn(),
    )
    return details, examples


def _require_columns(wanted: tuple[str, ...], tables: list[pd.DataFrame], judge: type[Judge]) -> None:
    columns = dict.fromkeys(str(column) for table in tables for column in table.columns)
    known = [name for name in columns if name not in ("example_id", *judge.outcomes)]
    if known and (unknown := [name for name in wanted if name not in known]):
        raise UserError(
            f"slice_by={unknown[0]!r} is no column of the predictions: give some of {', '.join(known)}; "
            "slice_columns keeps further columns when a model is trained"
        )


def _slices(pairs: list[Compared], table: Table, judge: type[Judge], wanted: tuple[str, ...]) -> list[Slice]:
    names = wanted or _sliced_by(pairs[0][1], judge)
    score = partial(_score, metric=table.metric, judge=judge)
    scores = [(seed, score(ours), score(theirs)) for seed, ours, theirs in pairs]
    return slice_differences(pairs[0][1], names, scores, table.higher_is_better, table.bounds)


def _sliced_by(predictions: pd.DataFrame, judge: type[Judge]) -> tuple[str, ...]:
    """Return the task's own columns, and those that were kept when the model was trained."""
    own = (*STANDARD_COLUMNS, *judge.slices, *judge.outcomes)
    return (*judge.slices, *(str(column) for column in predictions.columns if column not in own))


def _score(predictions: pd.DataFrame, metric: str, judge: type[Judge]) -> Score:
    values = judge.example_values(predictions, metric)
    if values is None:
        return lambda rows: metric_of(judge, predictions.iloc[rows], metric)
    return lambda rows: float(values[rows].mean())  # whole metrics took most of the time


def _fairness(stored: Stored, arm: Arm, wanted: tuple[str, ...]) -> list[Fairness]:
    """Compare the groups of each column by an arm's runs that have predictions, the least fair column first."""
    table, judge = stored.table, stored.judge
    runs = [found for run_id in arm.run_ids if (found := stored.predictions(run_id)) is not None]
    scores = [_score(one, table.metric, judge) for one in runs]
    names = [name for name in wanted or _sliced_by(runs[0], judge) if name in runs[0].columns] if runs else []
    every = (fairness(runs[0], name, scores, table.higher_is_better) for name in names)
    return sorted((one for one in every if one), key=lambda one: -(one.ratio or math.inf))
