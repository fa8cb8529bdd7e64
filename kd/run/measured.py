"""Measure the models of runs, each architecture once and all in one sitting, so that their figures can be compared."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from kd import tracking
from kd.base.busy import was_busy
from kd.base.console import say
from kd.base.judge import MEASURED, RAM_MEANS
from kd.base.types import RunRecord
from kd.run.about import about_version
from kd.run.code import code_digest
from kd.serving.profile import machine
from kd.serving.seat import Measured
from kd.serving.sitting import in_turn, is_profiled, judge, log
from kd.tasks import options_of, task_named

ARCHITECTURE = "kd.architecture"
ALIKE = (ARCHITECTURE, "kd.validation_digest")
"""Tags of runs whose models cost the same: of one shape, and timed on the same requests."""
MEASURED_BY = "kd.measured_by"
"""Tag of a measured run: a digest of the code that served and measured."""
OF_MACHINE = ("hw.", "os.", "lib.")
OF_MEASURING = ("kd.feasibility", "kd.quiet", MEASURED, MEASURED_BY, RAM_MEANS)
COSTS = ("profile/", "model/")


def measure(run_ids: Iterable[str], budgets: object) -> None:
    """Give figures to the runs that have none yet, and say which models fit the budgets.

    Each architecture is measured once, and not at all where one was measured on this machine when it was quiet, with
    this code and these libraries; tag `kd.measured` of a run names the model that was measured.

    Raises:
        UserError: a model or the store cannot be used.
    """
    records = {run_id: tracking.record(run_id) for run_id in run_ids}
    for run_id, record in records.items():
        if is_profiled(record.metrics):
            judge(tracking.Run(run_id), record.metrics, budgets)
    new = []
    for alike in _alike(record for record in records.values() if not is_profiled(record.metrics)):
        if known := _measured_before(alike[0]):
            _log(alike, known, budgets)
        else:
            new.append(alike)
    _measure(new, budgets)
    _describe(records)  # all, for a process that was killed may have measured some and no more


def measure_again(run_ids: Iterable[str], budgets: object) -> None:
    """Measure the models of runs, in place of the figures that they have; say what was found.

    Models of one architecture are measured once. All runs that had their figures of the same measurement get the new.

    Raises:
        UserError: a run is not there or made no model, or the model or the store cannot be used.
    """
    records = {run_id: tracking.record(run_id) for run_id in run_ids}
    groups = [_sharing(alike) for alike in _alike(records.values())]
    _measure(groups, budgets)
    _describe({one.run_id: one for group in groups for one in group})
    for run_id, before in records.items():
        record = tracking.record(run_id)
        p50, p95 = (record.metrics[f"profile/latency_ms_{name}"] for name in ("p50", "p95"))
        busy = "; the machine was busy: measure again when it is quiet" if was_busy(record.tags) else ""
        say(f"{before.name} (run {run_id}): p50 {p50:.2f} ms, p95 {p95:.2f} ms{busy}")


def _alike(records: Iterable[RunRecord]) -> list[list[RunRecord]]:
    """Put runs together whose models cost the same."""
    groups = defaultdict(list)
    for record in records:
        shape = tuple(record.tags.get(tag, "") for tag in ALIKE)
        groups[shape if all(shape) else record.run_id].append(record)
    return [*groups.values()]


def _sharing(alike: Sequence[RunRecord]) -> list[RunRecord]:
    """Return these runs, and behind them all others whose figures are of the same measurements."""
    found = {record.run_id: record for record in alike}
    for model in {record.tags[MEASURED] for record in alike if MEASURED in record.tags}:
        for one in tracking.runs([tracking.experiment_of(alike[0].run_id)], f"tags.`{MEASURED}` = '{model}'"):
            found.setdefault(one.run_id, one)
    return [*found.values()]


def _measured_before(record: RunRecord) -> Measured | None:
    """Return the newest measurement of a model that costs the same, made by this code on this machine when quiet."""
    if not all(tag in record.tags for tag in ALIKE):
        return None
    query = [f"tags.`{tag}` = '{record.tags[tag]}'" for tag in ALIKE]
    query += [f"tags.`{MEASURED_BY}` = '{_code(record)}'", "tags.`kd.quiet` = 'true'"]
    here = machine()
    for one in reversed(tracking.runs([tracking.experiment_of(record.run_id)], " and ".join(query))):
        if is_profiled(one.metrics) and here == {k: v for k, v in one.tags.items() if k.startswith(OF_MACHINE)}:
            say(f"Latency and RAM of this architecture were measured before, on {one.tags[MEASURED]}")
            return Measured(
                {name: value for name, value in one.metrics.items() if name.startswith(COSTS)},
                {
                    name: value
                    for name, value in one.tags.items()
                    if name.startswith(OF_MACHINE) or name in OF_MEASURING
                },
                "",
            )
    return None


def _code(record: RunRecord) -> str:
    name = record.tags["kd.task"]
    return code_digest(task_named(name).from_options(options_of(name)()), ("serving",))


def _measure(groups: Sequence[Sequence[RunRecord]], budgets: object) -> None:
    """Measure the first model of each group, for all of its runs."""
    if not groups:
        return
    models = [tracking.model_of(group[0].run_id) for group in groups]
    say(f"Measuring {len(models)} model{'s' * (len(models) > 1)} in turn, each in a fresh process")
    for group, measured in zip(groups, in_turn(models), strict=True):
        _log(group, replace(measured, tags={**measured.tags, MEASURED_BY: _code(group[0])}), budgets)


def _log(alike: Iterable[RunRecord], measured: Measured, budgets: object) -> None:
    for record in alike:
        log(tracking.Run(record.run_id), measured, budgets)


def _describe(former: Mapping[str, RunRecord]) -> None:
    """Renew the descriptions of versions that runs made, by what they were before; other texts stay as they are."""
    for run_id, before in former.items():
        now = tracking.record(run_id)
        for version in tracking.made_by(run_id):
            if version.description in (about_version(before), about_version(_unmeasured(now))):
                tracking.annotate(version.name, version.version, {}, about_version(now))


def _unmeasured(record: RunRecord) -> RunRecord:
    """Return a run as it was before its model was measured."""
    metrics = {name: value for name, value in record.metrics.items() if not name.startswith(("profile/", "model/"))}
    tags = {name: value for name, value in record.tags.items() if name not in ("hw.cpu", "kd.quiet")}
    return replace(record, metrics=metrics, tags=tags)
