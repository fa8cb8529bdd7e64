"""What is known of a candidate and of the version it would follow: figures for the gates."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from kd import tracking
from kd.analysis.gates import Observed, drop
from kd.analysis.slices import fairness, slices_of
from kd.base.budgets import BUDGETS
from kd.base.busy import is_timed, was_busy
from kd.base.console import say
from kd.base.judge import Judge, metric_of
from kd.base.types import RunRecord, UserError
from kd.config import GateOptions, RowOptions, options_from
from kd.run.data import Rows, load_rows, predictions
from kd.serving import package
from kd.serving.sitting import in_turn, log
from kd.tasks import TASKS, options_of, task_named

LOGGED = {"min_agreement": "fidelity/agreement", "max_ece": "calibration/ece", "min_parity": "export/agreement"}
"""Gates on what the run behind a version logged; `export/` is a task's `fidelity/` to the version before export."""
OWN = ("format", "parameters", "max_length")
"""Settings of a model in which a candidate may differ from the champion."""
NEEDED = {"kd.role", "kd.seed", "kd.dataset", "kd.test_digest"}
"""Tags of the run behind a version, beside its task."""
AGAINST_CHAMPION = ("allowed_drop", "max_slice_drop")
WEAKEST = 3
"""Slices that are named as those on which a version is worst."""


@dataclass(frozen=True)
class Version:
    """A registered version and the finished run behind it.

    Attributes:
        name: of the registered model.
        number: of the version.
        record: of the run.
        exported: its format, where it is not as trained; else empty.
        now: the run that has measured it now, on this machine; None where it was not measured again.
    """

    name: str
    number: str
    record: RunRecord
    exported: str
    now: RunRecord | None = None

    @property
    def costs(self) -> Mapping[str, float]:
        """What was measured now."""
        return self.now.metrics if self.now else {}

    @property
    def measurement(self) -> RunRecord:
        """The run whose figures of latency, memory and size apply: all of them are of one measurement."""
        return self.now or self.record

    @property
    def uri(self) -> str:
        """Where the registry has it."""
        return f"models:/{self.name}/{self.number}"

    @cached_property
    def folder(self) -> Path:
        """Its files, brought here."""
        return tracking.stored_model(self.uri, "model").folder

    @property
    def judge(self) -> type[Judge]:
        """What its task says of predictions."""
        return task_named(self.record.tags["kd.task"])


def version_at(uri: str, option: str) -> Version:
    """Find a version that this project made and whose run finished.

    Raises UserError where there is none, its run did not finish, or `mlflow gc` would take its artifacts.
    """
    found = tracking.model_version(uri, option)
    named = f"{option}={uri.removeprefix('models:/')!r}"
    if tracking.source_deleted(found):
        raise UserError(
            f"{named}: the run behind it, {found.run_id}, is deleted, so `mlflow gc` would remove the version's files: "
            f"restore it first (mlflow runs restore --run-id {found.run_id})"
        )
    if (state := tracking.status(found.run_id)) != "FINISHED":
        raise UserError(f"{named}: its run {found.run_id} is {state or 'gone'}, not FINISHED")
    record = tracking.record(found.run_id)
    if record.tags.get("kd.task") not in TASKS or not record.tags.keys() >= NEEDED:
        raise UserError(f"{named} was not made by this project, or its tags were removed, so its figures are unknown")
    return Version(found.name, str(found.version), record, record.tags.get("kd.format", "").replace("safetensors", ""))


def require_same_service(candidate: Version, champion: Version) -> None:
    """Check that a candidate answers the same questions as the champion, with the same words.

    Raises UserError for another task, other inputs or outcomes: callers of the champion would be answered otherwise.
    """
    ours, its = (package.read_settings(one.folder) for one in (candidate, champion))
    for name in ours.keys() | its.keys():
        mine, theirs = ours.get(name), its.get(name)
        if name not in OWN and mine != theirs:
            raise UserError(
                f"candidate={candidate.uri!r} cannot follow {champion.uri}: its {name} are {str(mine)[:200]}, the "
                f"champion's {str(theirs)[:200]}; give it a registered model of its own"
            )


def measured(versions: Sequence[Version], parent: tracking.Run) -> list[Version]:
    """Measure versions on this machine in one sitting, each into a run nested in the promotion's."""
    found = []
    for version, figures in zip(versions, in_turn([version.uri for version in versions]), strict=True):
        title, tags = f"measure {version.name} version {version.number}", {"kd.stage": "measure"}
        with tracking.run(title, tags, parent) as child:
            log(child, figures)
        found.append(replace(version, now=tracking.record(child.run_id)))
    return found


def scored(version: Version, metric: str, run: tracking.Run) -> Version:
    """Score a version on its test rows now, where the run behind it has not been; the promotion's run then says so."""
    if f"test/{metric}" in version.record.metrics:
        return version
    config, rows = rows_behind(version.record, f"candidate={version.uri!r}")
    table = _scored_now(version, config, rows, run)
    found = {f"test/{name}": value for name, value in version.judge.quality(table).items()}
    metrics = {**version.record.metrics, **found, **version.judge.diagnostics(None, table)}
    return replace(version, record=replace(version.record, metrics=metrics))


def rows_behind(record: RunRecord, named: str) -> tuple[RowOptions, Rows]:
    """Read the rows again that a run was trained and scored on, by the options it logged.

    Raises UserError, naming what is `named`, where the data is not to be had, or is no longer the same.
    """
    try:
        options = options_from(RowOptions, options_of(record.params.get("task", "classification")), record.params)
        rows = load_rows(options)
    except (UserError, KeyError) as error:
        raise UserError(f"{named}: the rows it was scored on cannot be read again: {error}") from error
    found = {"kd.validation_digest": rows.validation_digest, "kd.test_digest": rows.test_digest}
    for tag, digest in found.items():
        if record.tags.get(tag, digest) != digest:
            raise UserError(
                f"{named}: {tag.split('.')[1].split('_')[0]} rows of dataset={options.dataset!r} are not those it was "
                f"scored on (digest {digest[:8]}, then {record.tags[tag][:8]}); put the same data back"
            )
    return options, rows


def _scored_now(version: Version, config: RowOptions, rows: Rows, run: tracking.Run) -> pd.DataFrame:
    say(f"{version.uri} has no predictions of these test rows: it is scored on them now")
    run.set_tags(
        {"kd.test_scored": "true", "kd.test_digest": rows.test_digest, "kd.role": version.record.tags["kd.role"]}
    )
    with tracking.usable(version.uri):
        answers = tracking.load_served(version.uri).predict(rows.task.requests(rows.splits.test))
    return predictions(config, rows.task, rows.splits.test, rows.task.from_served(pd.DataFrame(answers)))


def gather(
    candidate: Version, champion: Version | None, gates: GateOptions, metric: str, run: tracking.Run
) -> tuple[dict[str, Observed], dict[str, str]]:
    """Return the figure of each gate, and why others do not apply; both by option.

    Args:
        candidate: measured, where a budget was given.
        champion: what it would follow; None at a first promotion.
        gates: their thresholds.
        metric: test metric, without its split.
        run: of the promotion; what has no predictions is scored in it, which raises UserError where the data is gone.
    """
    own, task = candidate.record.metrics, candidate.record.tags["kd.task"].replace("_", " ")
    known = {figure.key for figure in candidate.judge.figures}
    figures = {"min_metric": Observed(own.get(f"test/{metric}"), f"test/{metric}")}
    figures |= {gate: Observed(own.get(name), name) for gate, name in LOGGED.items()}
    figures |= {gate: _cost(name, candidate, champion) for gate, name in BUDGETS.items()}
    figures |= {gate: _cost(name, candidate, champion) for gate, (name, _) in of_devices(gates).items()}
    absent = {} if candidate.exported else {"min_parity": "it is served as it was trained"}
    absent |= {
        gate: f"{task} has no {name}"
        for gate, name in LOGGED.items()
        if name.replace("export/", "fidelity/") not in known
    }
    if candidate.record.tags["kd.role"] == "teacher":
        absent |= dict.fromkeys(("min_teacher_share", "min_agreement"), "it is a teacher")
    else:
        figures["min_teacher_share"] = _teacher_share(candidate, metric)
    if gates.max_group_ratio is not None:
        figures["max_group_ratio"] = _group_ratio(candidate, gates, metric, run)
    if champion is None:
        absent |= dict.fromkeys(AGAINST_CHAMPION, "there is no other champion")
    elif any(getattr(gates, gate) is not None for gate in AGAINST_CHAMPION):
        figures |= _against(candidate, champion, metric, run)
    return figures, {gate: f"does not apply: {why}" for gate, why in absent.items()}


def of_devices(gates: GateOptions) -> dict[str, tuple[str, float]]:
    """Return the gates that the required devices stand for: by name, such as `fits.phone.ram_mib`, metric and most."""
    return {
        f"fits.{name}.{limit}": limited
        for name, device in gates.required_devices.items()
        for limit, limited in device.limits.items()
    }


def _cost(name: str, candidate: Version, champion: Version | None) -> Observed:
    beside = f"; the champion has {champion.costs[name]:.4g}" if champion and name in champion.costs else ""
    busy = ", which was busy" if is_timed(name) and candidate.now and was_busy(candidate.now.tags) else ""
    return Observed(candidate.costs.get(name), f"{name} (on this machine{busy}{beside})")


def teacher_of(record: RunRecord) -> RunRecord | None:
    """Return the run of a student's teacher; None where the teacher is no model of this store."""
    uri = record.tags.get("kd.teacher", "")
    if not uri.startswith(("models:/", "runs:/")):
        return None
    try:
        return tracking.record(tracking.maker(uri, "kd.teacher"))
    except tracking.Gone:
        return None


def logged(record: RunRecord) -> pd.DataFrame | None:
    """Return the predictions on test that a run logged; None where there are none."""
    try:
        return tracking.table(record.run_id, "predictions_test.parquet")
    except tracking.Gone:
        return None


def same_test(one: RunRecord, other: RunRecord) -> bool:
    """Whether two runs were scored on the same test rows, so that their figures compare."""
    return one.tags.get("kd.test_digest") == other.tags.get("kd.test_digest")


def _teacher_share(candidate: Version, metric: str) -> Observed:
    """Share of the teacher's quality that is kept; for falling metrics the teacher's value over the candidate's."""
    about, teacher = f"share of its teacher's test/{metric}", teacher_of(candidate.record)
    if teacher is None or not same_test(candidate.record, teacher):
        return Observed(None, f"{about} (the teacher's score on the same test rows is not in the store, so it)")
    pair = (candidate.record.metrics.get(f"test/{metric}"), teacher.metrics.get(f"test/{metric}"))
    ours, theirs = pair if candidate.judge.directions[metric] else pair[::-1]
    return Observed(ours / theirs if ours is not None and theirs is not None and theirs > 0 else None, about)


def _against(candidate: Version, champion: Version, metric: str, run: tracking.Run) -> dict[str, Observed]:
    higher = candidate.judge.directions[metric]
    ours, theirs = _predictions(candidate, champion, run)

    def quality(part: pd.DataFrame) -> float:
        return metric_of(candidate.judge, part, metric)

    def drop_on(rows: np.ndarray) -> float:
        return (1 if higher else -1) * (quality(theirs.iloc[rows]) - quality(ours.iloc[rows]))

    lost, slices = drop(ours, theirs, quality, higher), _by_slice(ours, candidate.judge, drop_on)
    beside = f"drop of test/{metric} from the champion, version {champion.number}"
    worst, which = max(slices, key=lambda one: (not math.isfinite(one[0]), one[0]), default=(None, ""))
    of = f"its worst slice {which}" if which else "its worst slice (none has enough examples, so it)"
    return {
        "allowed_drop": Observed(lost.at_most, f"{beside}, at 95 % confidence (on average {lost.mean:+.4g})"),
        "max_slice_drop": Observed(worst, f"{beside}, on {of}"),
    }


def _group_ratio(candidate: Version, gates: GateOptions, metric: str, run: tracking.Run) -> Observed:
    """Return how far the metric differs between the groups of a column; UserError where there is no such column."""
    judge, table = candidate.judge, logged(candidate.record)
    if table is None:
        table = _scored_now(candidate, *rows_behind(candidate.record, f"candidate={candidate.uri!r}"), run)
    column, table = gates.ratio_by or judge.slices[0], light(table, judge)
    known = [name for name in table.columns if name not in ("example_id", *judge.outcomes)]
    if column not in known:
        raise UserError(
            f"ratio_by={column!r} is no column of the predictions of {candidate.uri}: give one of {', '.join(known)}; "
            "slice_columns keeps further columns when a model is trained"
        )

    def score(rows: np.ndarray) -> float:
        return metric_of(judge, table.iloc[rows], metric)

    about = f"test/{metric} of the groups of {column}, the larger value by the smaller"
    found = fairness(table, column, [score], judge.directions[metric])
    if found is None:
        return Observed(None, f"{about} (fewer than two groups have 30 examples, so it)")
    sides = f"worst {found.worst} {found.worst_value:.4g}, best {found.best} {found.best_value:.4g}"
    left = f"; {found.left_out} groups have too few examples" * bool(found.left_out)
    return Observed(found.ratio, f"{about} ({sides}{left})")


def light(table: pd.DataFrame, judge: Judge | type[Judge]) -> pd.DataFrame:
    """Leave out the columns that metrics do not need, of which every resampling would copy its rows."""
    return table[[name for name in table.columns if not (judge.wide and name.startswith(judge.wide))]]


def _by_slice(table: pd.DataFrame, judge: type[Judge], value: Callable[[np.ndarray], float]) -> list[tuple[float, str]]:
    """Return what `value` gives for the rows of each slice of a test set that is large enough, and the slice's name."""
    return [
        (value(rows), f"{column} {name}")
        for column in judge.slices
        if column in table.columns
        for name, rows in slices_of(table, column).items()
    ]


def weakest(version: Version, metric: str) -> list[str]:
    """Name the slices of the test set on which a version is worst; empty where it has no logged predictions."""
    if (table := logged(version.record)) is None:
        return []
    sign = 1 if version.judge.directions[metric] else -1
    found = _by_slice(table, version.judge, lambda rows: sign * metric_of(version.judge, table.iloc[rows], metric))
    known = sorted(one for one in found if math.isfinite(one[0]))
    return [f"{name}: {sign * value:.3g}" for value, name in known[:WEAKEST]]


def _predictions(candidate: Version, champion: Version, run: tracking.Run) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return both versions' predictions on the candidate's test rows; one that has none logged is scored now."""
    ours = logged(candidate.record)
    theirs = logged(champion.record) if same_test(candidate.record, champion.record) else None
    if ours is None or theirs is None:
        config, rows = rows_behind(candidate.record, f"candidate={candidate.uri!r}")
        ours = _scored_now(candidate, config, rows, run) if ours is None else ours
        theirs = _scored_now(champion, config, rows, run) if theirs is None else theirs
    return light(ours, candidate.judge), light(theirs, candidate.judge)
