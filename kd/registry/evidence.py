"""What is known of a candidate and of the version it would follow: figures for the gates."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pandas as pd

from kd import tracking
from kd.analysis.gates import Observed, drop
from kd.analysis.slices import Quality, slices_of
from kd.base.budgets import BUDGETS
from kd.base.console import say
from kd.base.judge import Judge
from kd.base.types import RunRecord, UserError
from kd.config import GateOptions, RowOptions
from kd.registry.rescore import rows_behind, score_test
from kd.run.data import Rows
from kd.serving import package
from kd.serving.measure import measure_apart
from kd.tasks import TASKS, task_named

LOGGED = {"min_agreement": "fidelity/agreement", "max_ece": "calibration/ece", "min_parity": "export/agreement"}
"""Gates on what the run behind a version logged; `export/` is a task's `fidelity/` to the version before export."""
OWN = ("format", "parameters", "max_length")
"""Settings of a model in which a candidate may differ from the champion."""
NEEDED = {"kd.role", "kd.seed", "kd.dataset", "kd.test_digest"}
"""Tags of the run behind a version, beside its task."""
AGAINST_CHAMPION = ("allowed_drop", "max_slice_drop")


@dataclass(frozen=True)
class Version:
    """A registered version and the finished run behind it.

    Attributes:
        name: of the registered model.
        number: of the version.
        record: of the run.
        exported: its format, where it is not as trained; else empty.
        costs: what was measured now, on this machine.
    """

    name: str
    number: str
    record: RunRecord
    exported: str
    costs: Mapping[str, float] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        """Where the registry has it."""
        return f"models:/{self.name}/{self.number}"

    @property
    def judge(self) -> type[Judge]:
        """What its task says of predictions."""
        return task_named(self.record.tags["kd.task"])


def version_at(uri: str, option: str) -> Version:
    """Find a version that this project made and whose run finished.

    Raises:
        UserError: there is no such version, its run did not finish, or `mlflow gc` would take its artifacts.
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

    Raises:
        UserError: another task, other inputs or other outcomes: callers of the champion would be answered otherwise.
    """
    settings = [
        package.read_settings(tracking.stored_model(one.uri, "candidate").folder) for one in (candidate, champion)
    ]
    for name in settings[0].keys() | settings[1].keys():
        mine, theirs = (one.get(name) for one in settings)
        if name not in OWN and mine != theirs:
            raise UserError(
                f"candidate={candidate.uri!r} cannot follow {champion.uri}: its {name} are {str(mine)[:200]}, the "
                f"champion's {str(theirs)[:200]}; give it a registered model of its own"
            )


def measured(version: Version, parent: tracking.Run) -> Version:
    """Measure a version on this machine in a fresh process, into a run nested in the promotion's."""
    tags = {"kd.stage": "measure", "kd.measured": version.uri}
    with tracking.run(f"measure {version.name} version {version.number}", tags, parent) as child:
        measure_apart(version.uri, child.run_id)
    return replace(version, costs=tracking.record(child.run_id).metrics)


def scored(version: Version, metric: str, run: tracking.Run) -> Version:
    """Score a version on its test rows now, where the run behind it has not been; the promotion's run then says so.

    Raises:
        UserError: the data is not to be had.
    """
    if f"test/{metric}" in version.record.metrics:
        return version
    config, rows = rows_behind(version.record, f"candidate={version.uri!r}")
    table = _scored_now(version, config, rows, run)
    found = {f"test/{name}": value for name, value in version.judge.quality(table).items()}
    metrics = {**version.record.metrics, **found, **version.judge.diagnostics(None, table)}
    return replace(version, record=replace(version.record, metrics=metrics))


def _scored_now(version: Version, config: RowOptions, rows: Rows, run: tracking.Run) -> pd.DataFrame:
    say(f"{version.uri} has no predictions of these test rows: it is scored on them now")
    run.set_tags(
        {"kd.test_scored": "true", "kd.test_digest": rows.test_digest, "kd.role": version.record.tags["kd.role"]}
    )
    return score_test(version.uri, config, rows)


@dataclass(frozen=True)
class Evidence:
    """Figures for the gates, and why others do not apply; both by option."""

    figures: Mapping[str, Observed]
    absent: Mapping[str, str]


def gather(
    candidate: Version, champion: Version | None, gates: GateOptions, metric: str, run: tracking.Run
) -> Evidence:
    """Return the figure of each gate that was given.

    Args:
        candidate: measured, where a budget was given.
        champion: what it would follow; None at a first promotion.
        gates: their thresholds.
        metric: test metric, without its split.
        run: of the promotion.

    Raises:
        UserError: predictions are needed that were not logged, and the data to make them is not to be had.
    """
    own = candidate.record.metrics
    figures = {"min_metric": Observed(own.get(f"test/{metric}"), f"test/{metric}")}
    figures |= {gate: Observed(own.get(name), name) for gate, name in LOGGED.items()}
    figures |= {gate: _cost(name, candidate, champion) for gate, name in BUDGETS.items()}
    absent = {} if candidate.exported else {"min_parity": "does not apply: it is served as it was trained"}
    absent |= _unknown_to(candidate)
    if candidate.record.tags["kd.role"] == "teacher":
        absent |= dict.fromkeys(("min_teacher_share", "min_agreement"), "does not apply: it is a teacher")
    else:
        figures["min_teacher_share"] = _teacher_share(candidate, metric)
    if champion is None:
        return Evidence(figures, absent | dict.fromkeys(AGAINST_CHAMPION, "does not apply: there is no other champion"))
    if gates.allowed_drop is not None or gates.max_slice_drop is not None:
        figures |= _against(candidate, champion, metric, run)
    return Evidence(figures, absent)


def _unknown_to(candidate: Version) -> dict[str, str]:
    """Return the gates on figures that the candidate's task does not have, and why they do not apply."""
    known = {figure.key for figure in candidate.judge.figures}
    task = candidate.record.tags["kd.task"].replace("_", " ")
    return {
        gate: f"does not apply: {task} has no {name}"
        for gate, name in LOGGED.items()
        if name.replace("export/", "fidelity/") not in known
    }


def _cost(name: str, candidate: Version, champion: Version | None) -> Observed:
    beside = f"; the champion has {champion.costs[name]:.4g}" if champion and name in champion.costs else ""
    return Observed(candidate.costs.get(name), f"{name} (on this machine{beside})")


def teacher_of(candidate: Version) -> RunRecord | None:
    """Return the run of a version's teacher; None where the teacher is no model of this store."""
    uri = candidate.record.tags.get("kd.teacher", "")
    if not uri.startswith(("models:/", "runs:/")):
        return None
    try:
        return tracking.record(tracking.maker(uri, "kd.teacher"))
    except tracking.Gone:
        return None


def _teacher_share(candidate: Version, metric: str) -> Observed:
    """Share of the teacher's quality that is kept; for falling metrics the teacher's value over the candidate's."""
    about = f"share of its teacher's test/{metric}"
    teacher = teacher_of(candidate)
    key = "kd.test_digest"
    if teacher is None or teacher.tags.get(key) != candidate.record.tags[key]:
        return Observed(None, f"{about} (the teacher's score on the same test rows is not in the store, so it)")
    pair = (candidate.record.metrics.get(f"test/{metric}"), teacher.metrics.get(f"test/{metric}"))
    ours, theirs = pair if candidate.judge.directions[metric] else pair[::-1]
    return Observed(ours / theirs if ours is not None and theirs else None, about)


def _against(candidate: Version, champion: Version, metric: str, run: tracking.Run) -> dict[str, Observed]:
    higher = candidate.judge.directions[metric]
    ours, theirs = _predictions(candidate, champion, run)

    def quality(part: pd.DataFrame) -> float:
        return candidate.judge.quality(part)[metric]

    lost = drop(ours, theirs, quality, higher)
    worst = _worst_slice(ours, theirs, candidate.judge, (quality, higher))
    beside = f"drop of test/{metric} from the champion, version {champion.number}"
    return {
        "allowed_drop": Observed(lost.at_most, f"{beside}, at 95 % confidence (on average {lost.mean:+.4g})"),
        "max_slice_drop": Observed(worst[1], f"{beside}, on its worst slice {worst[0]}")
        if worst
        else Observed(None, f"{beside}, on its worst slice (none has enough examples, so it)"),
    }


def _worst_slice(
    ours: pd.DataFrame, theirs: pd.DataFrame, judge: type[Judge], metric: tuple[Quality, bool]
) -> tuple[str, float] | None:
    """Return the slice on which most is lost, and how much; None where no slice is large enough."""
    quality, higher = metric
    sign = 1 if higher else -1
    lost = [
        (f"{column} {value}", sign * (quality(theirs.iloc[rows]) - quality(ours.iloc[rows])))
        for column in judge.slices
        if column in ours.columns
        for value, rows in slices_of(ours, column).items()
    ]
    return max(lost, key=lambda pair: (not math.isfinite(pair[1]), pair[1])) if lost else None


def weakest(version: Version, metric: str, count: int = 3) -> list[str]:
    """Name the slices of the test set on which a version is worst; empty where it has no logged predictions."""
    table = logged(version)
    if table is None:
        return []
    sign = 1 if version.judge.directions[metric] else -1
    found = [
        (sign * (value := version.judge.quality(table.iloc[rows])[metric]), f"{column} {name}: {value:.3g}")
        for column in version.judge.slices
        if column in table.columns
        for name, rows in slices_of(table, column).items()
    ]
    return [words for _, words in sorted(found)[:count]]


def _predictions(candidate: Version, champion: Version, run: tracking.Run) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return both versions' predictions on the candidate's test rows; one that has none logged is scored now."""
    same = candidate.record.tags["kd.test_digest"] == champion.record.tags["kd.test_digest"]
    ours, theirs = logged(candidate), logged(champion) if same else None
    if ours is None or theirs is None:
        config, rows = rows_behind(candidate.record, f"candidate={candidate.uri!r}")
        ours = _scored_now(candidate, config, rows, run) if ours is None else ours
        theirs = _scored_now(champion, config, rows, run) if theirs is None else theirs
    return ours, theirs


def logged(version: Version) -> pd.DataFrame | None:
    """Return the predictions on test that the run behind a version logged; None where there are none."""
    try:
        return tracking.table(version.record.run_id, "predictions_test.parquet")
    except tracking.Gone:
        return None
