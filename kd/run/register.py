"""Register the model of a finished run as a version, with its lineage."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from kd import tracking
from kd.analysis.table import Doubt
from kd.base.console import command, say
from kd.base.harmless import in_code
from kd.base.types import RunRecord
from kd.config import ChallengerOptions, FitOptions, RowOptions
from kd.report.findings import doubts_about
from kd.run.about import about_version
from kd.run.data import Rows, describe, model_name, parts_of, rows_of
from kd.run.execute import Outcome, Where, train
from kd.run.plan import Plan

Kind = TypeVar("Kind", bound=FitOptions)
LINEAGE = (
    *("kd.role", "kd.task", "kd.metric", "kd.dataset", "kd.dataset_digest", "kd.validation_digest"),
    *("kd.test_digest", "kd.teacher", "kd.seed", "kd.arm", "kd.git_commit", "kd.git_dirty"),
    *("kd.format", "kd.exported_from"),
)
"""Tags that a version has from its run."""


def register(outcome: Outcome, config: RowOptions, rows: Rows) -> tuple[str, str]:
    """Register the model of a finished run, once; returns (name, version).

    Teachers have a name of their own; students and distilled students compete under one.
    """
    record = tracking.record(outcome.run_id)
    name, kind = model_name(config, rows.test_digest), "Students, with and without distillation,"
    if record.tags["kd.role"] == "teacher":
        name, kind = f"{name}-teacher", "Teachers"
    version = tracking.version_of(outcome.run_id, name) or _registered(outcome, config, name, kind, record)
    tracking.Run(outcome.run_id).set_tags({tracking.REGISTERED: f"{name}/{version}"})
    return name, version


def _registered(outcome: Outcome, config: RowOptions, name: str, kind: str, record: RunRecord) -> str:
    tags = {"kd.format": "safetensors", **{key: record.tags[key] for key in LINEAGE if key in record.tags}}
    data = in_code(config.dataset)
    about = f"{kind} for {config.task.replace('_', ' ')} on {data}. `champion` is the version to serve."
    return tracking.register(outcome.model, outcome.run_id, name, tags, (about, about_version(record)))


def each_part(config: Kind, plan: Callable[[Kind, Rows], Plan], experiment: str) -> Iterator[tuple[Kind, Outcome, str]]:
    """Train and register a model of each part of the data; yields its options, the training, and `register_alone`'s."""
    parts = parts_of(config)
    for one in parts:
        rows = rows_of(one)
        describe(one, rows)
        outcome = train(plan(one, rows), one, Where(experiment, reuse=len(parts) > 1))
        yield one, outcome, register_alone(outcome, one, rows)


def register_alone(outcome: Outcome, config: RowOptions, rows: Rows) -> str:
    """Register the model of one training, saying first what speaks against it; returns its URI, or "" where it does."""
    against = doubted(outcome.run_id)
    name, version = register(outcome, config, rows)
    say(f"Registered {name} version {version}")
    if against:
        say(before_promoting(against))
    return "" if against else f"models:/{name}/{version}"


def doubted(run_id: str) -> list[Doubt]:
    """Say what speaks against the model of a run, and return it."""
    against = doubts_about(run_id)
    for doubt in against:
        say(f"Warning: {doubt.sentence}")
    return against


def best_on_validation(outcomes: Iterable[Outcome], rows: Rows) -> Outcome:
    """Return the training that is best on validation by the task's first metric."""
    metric, higher = next(iter(rows.task.directions.items()))
    best = max if higher else min
    return best(outcomes, key=lambda outcome: tracking.record(outcome.run_id).metrics[f"val/{metric}"])


def register_best(outcomes: Iterable[Outcome], config: ChallengerOptions, rows: Rows, against: Sequence[Doubt]) -> None:
    """Register the student that is best on validation, which may take the alias challenger.

    `against` is what the comparison says against the models.
    """
    metric = next(iter(rows.task.directions))
    best = best_on_validation(outcomes, rows)
    record = tracking.record(best.run_id)
    say(f"Best on validation: {record.name} (val {metric} {record.metrics[f'val/{metric}']:.3f})")
    challenge(best, config, rows, against)


def challenge(outcome: Outcome, config: ChallengerOptions, rows: Rows, against: Sequence[Doubt], why: str = "") -> str:
    """Register a model, and give it the alias challenger where it is better than what has it, or `challenger` says so.

    Returns the sentence that says what became of it; `why` it was registered is part of it. No promotion is offered
    where something speaks `against` this model or the challenger.
    """
    name, version = register(outcome, config, rows)
    holder = tracking.aliased(name, "challenger")
    better, about = _better(outcome, name, holder, rows) if holder not in ("", version) else (True, "")
    if better or config.challenger == "replace":
        tracking.set_alias(name, "challenger", version)
        text = f"Registered {name} version {version}, alias challenger{why}"
        text += f"; the alias was at version {holder}{about}" if about else ""
        which = "it"
    else:
        text = f"Registered {name} version {version}{why}; the alias challenger stays at version {holder}{about}; "
        text += "challenger=replace moves it all the same"
        which = "the challenger"
    say(text)
    models = {outcome.run_id, tracking.model_version(f"models:/{name}@challenger", "challenger").run_id}
    own = [doubt for doubt in against if models & {*doubt.run_ids}]
    offer = f"Promote {which}: {command('promote', '--model', name, '--min_metric', 'VALUE')}"
    say(before_promoting(own) or f"{offer}, see --help for more gates")
    return text


def before_promoting(against: Sequence[Doubt]) -> str:
    """Return the line that stands where a promotion would be offered; empty where nothing speaks against it."""
    ways = dict.fromkeys(doubt.instead for doubt in against)
    return f"Do not promote it yet: {'; '.join(ways)}." if ways else ""


def _better(outcome: Outcome, name: str, holder: str, rows: Rows) -> tuple[bool, str]:
    """Say whether a model is better than the version `holder`, and by which figures; any is better than no figure.

    What was validated on other rows cannot be compared, so the model is not better.
    """
    metric, higher = next(iter(rows.task.directions.items()))
    held = tracking.model_version(f"models:/{name}/{holder}", "challenger")
    if not held.run_id or tracking.source_deleted(held):
        return True, ", whose run is gone"
    ours, theirs = tracking.record(outcome.run_id), tracking.record(held.run_id)
    now, then = (one.metrics.get(f"val/{metric}", math.nan) for one in (ours, theirs))
    if math.isnan(then):
        return True, f", which has no val {metric}"
    figures = f"val {metric} {then:.4g} there, {now:.4g} here"
    if (validated_on := theirs.tags.get("kd.validation_digest", "")) != rows.validation_digest:
        which = "other rows" if validated_on else "rows that its run does not name"
        return False, f", which was validated on {which}, so they cannot be compared ({figures})"
    better = now > then if higher else now < then
    return better, f": {figures}{'' if better else ', which is not better'}"
