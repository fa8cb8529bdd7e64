"""The trainings of a sweep compared: beside which runs, at what cost of each architecture, and how it is reported."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from kd import tracking
from kd.analysis.comparison import Table
from kd.base.console import console, say
from kd.base.types import RunRecord
from kd.config import CompareConfig, FitOptions
from kd.report.findings import beside, find
from kd.report.publish import publish, show, where
from kd.report.tables import Finding, Section, rich_table
from kd.serving.measure import is_profiled, measure_apart

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


def compared(models: Mapping[str, str], config: FitOptions, experiment: str) -> ComparedTrainings:
    """Compare trainings, given by run id and model's URI; each architecture is profiled once, for all its arms."""
    records = {run_id: tracking.record(run_id) for run_id in models}
    costs = _profiled(models, records, config)
    comparing = CompareConfig(runs=",".join([*records, *beside(records, experiment)]))
    findings, notes = find([*map(tracking.record, comparing.runs.split(","))], comparing)
    findings = [(_with_costs(table, records, costs), more) for table, more in findings]
    return ComparedTrainings(records, findings, notes, comparing)


def _profiled(models: Mapping[str, str], records: Records, budgets: FitOptions) -> dict[str, dict[str, float]]:
    """Return what each architecture costs; one run of each is profiled, unless one has been."""
    found: dict[str, dict[str, float]] = {}
    for record in sorted(records.values(), key=lambda one: not is_profiled(one.metrics)):
        shape = record.tags[ARCHITECTURE]
        if shape in found:
            continue
        if not is_profiled(record.metrics):
            say(f"Measuring {record.name}, for all of its architecture, in a fresh process")
            measure_apart(models[record.run_id], record.run_id, budgets)
            record = tracking.record(record.run_id)
        found[shape] = {name: value for name, value in record.metrics.items() if name.startswith(COSTS)}
    return found


def _with_costs(table: Table, records: Records, costs: Mapping[str, Mapping[str, float]]) -> Table:
    arms = []
    for arm in table.arms:
        shapes = {records[run_id].tags[ARCHITECTURE] for run_id in arm.run_ids if run_id in records}
        known = costs[shapes.pop()] if len(shapes) == 1 else {}
        arms.append(replace(arm, figures={**known, **arm.figures}))
    return replace(table, arms=tuple(arms))
