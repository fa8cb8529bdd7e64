"""The trainings of a sweep compared: beside which runs, at what cost of each architecture, and how it is reported."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from kd import tracking
from kd.analysis.table import Table
from kd.base.busy import was_busy
from kd.base.console import say
from kd.base.terminal import console
from kd.base.types import RunRecord
from kd.config import CompareConfig, FitOptions
from kd.report.findings import beside, find
from kd.report.publish import publish, show, where
from kd.report.tables import Finding, Section, rich_table
from kd.run.measured import measure
from kd.serving.sitting import is_profiled

ARCHITECTURE = "kd.architecture"
COSTS = ("profile/", "model/")
ONCE = "Latency and RAM were measured once for each architecture, on one of its trainings, and apply to all its arms."

Records = Mapping[str, RunRecord]
"""By run id."""


@dataclass(frozen=True)
class ComparedTrainings:
    """Trainings, their records by run id, compared with one another, with their teachers and the trivial baselines."""

    records: Records
    findings: list[Finding]
    notes: list[str]
    comparing: CompareConfig

    def report(self, first: Section, run: tracking.Run) -> None:
        """Show it and keep it in a run, where it begins with a section of the sweep's own."""
        show(self.findings, self.notes)
        for line in first.lines:
            say(line)
        console.print(*(rich_table(heading, cells) for heading, cells, _ in first.tables), sep="\n")
        publish(self.findings, self.notes, self.comparing, run, [first])
        say(where(run))


def compared(run_ids: Iterable[str], config: FitOptions, experiment: str, first: str = "") -> ComparedTrainings:
    """Compare trainings, given by run id; each architecture is profiled once, for all its arms, `first` for its own."""
    records = {run_id: tracking.record(run_id) for run_id in run_ids}
    others = beside(records, experiment)
    teachers = [one.run_id for one in tracking.runs([experiment], "tags.`kd.role` = 'teacher'")]
    measured = _profiled(records, [run_id for run_id in others if run_id in teachers], config, first)
    comparing = CompareConfig(runs=",".join([*records, *others]))
    findings, notes = find([*map(tracking.record, comparing.runs.split(","))], comparing)
    findings = [(_with_costs(table, records, measured), more) for table, more in findings]
    return ComparedTrainings(records, findings, notes, comparing)


def _profiled(records: Records, teachers: Sequence[str], budgets: FitOptions, first: str) -> dict[str, RunRecord]:
    """Return the measured run of each architecture; these and the teachers are measured in one sitting."""
    chosen: dict[str, str] = {}
    for record in sorted(records.values(), key=lambda one: (one.run_id != first, not is_profiled(one.metrics))):
        chosen.setdefault(record.tags[ARCHITECTURE], record.run_id)
    measure([*teachers, *chosen.values()], budgets)
    return {shape: tracking.record(run_id) for shape, run_id in chosen.items()}


def _with_costs(table: Table, records: Records, measured: Mapping[str, RunRecord]) -> Table:
    """Give arms the costs of their architecture, where they have none of their own."""
    arms = []
    for arm in table.arms:
        shapes = {records[run_id].tags[ARCHITECTURE] for run_id in arm.run_ids if run_id in records}
        if len(shapes) == 1 and not is_profiled(arm.figures):
            run = measured[shapes.pop()]
            costs = {name: value for name, value in run.metrics.items() if name.startswith(COSTS)}
            busy = (run.run_id,) if was_busy(run.tags) else ()
            arm = replace(arm, figures={**arm.figures, **costs}, busy=busy)
        arms.append(arm)
    return replace(table, arms=tuple(arms))
