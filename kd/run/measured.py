"""Measure the models of finished runs, in one sitting, so that their figures can be compared."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from kd import tracking
from kd.base.busy import was_busy
from kd.base.console import say
from kd.base.types import RunRecord
from kd.run.about import about_version
from kd.serving.sitting import is_profiled, judge, measure_in_turn


def measure(run_ids: Iterable[str], budgets: object) -> None:
    """Profile the models of runs that have no figures yet, and say which models fit the budgets.

    Raises:
        UserError: a model or the store cannot be used.
    """
    records = {run_id: tracking.record(run_id) for run_id in run_ids}
    for run_id, record in records.items():
        if is_profiled(record.metrics):
            judge(tracking.Run(run_id), record.metrics, budgets)
    _measure([run_id for run_id, record in records.items() if not is_profiled(record.metrics)], budgets)
    _describe(records)  # all, for a process that was killed may have measured some and no more


def measure_again(run_ids: Iterable[str], budgets: object) -> None:
    """Profile the models of runs, in place of the figures that they have; say what was found.

    Raises:
        UserError: a run is not there or made no model, or the model or the store cannot be used.
    """
    records = {run_id: tracking.record(run_id) for run_id in run_ids}
    _measure(list(records), budgets)
    _describe(records)
    for run_id, before in records.items():
        record = tracking.record(run_id)
        p50, p95 = (record.metrics[f"profile/latency_ms_{name}"] for name in ("p50", "p95"))
        busy = "; the machine was busy: measure again when it is quiet" if was_busy(record.tags) else ""
        say(f"{before.name} (run {run_id}): p50 {p50:.2f} ms, p95 {p95:.2f} ms{busy}")


def _measure(run_ids: Sequence[str], budgets: object) -> None:
    if run_ids:
        say(f"Measuring {len(run_ids)} model{'s' * (len(run_ids) > 1)} in turn, each in a fresh process")
        measure_in_turn({run_id: tracking.model_of(run_id) for run_id in run_ids}, budgets)


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
