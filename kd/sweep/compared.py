"""The trainings of a command compared: beside which runs, at what cost of each architecture, and how it is reported."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kd import tracking
from kd.base.console import say
from kd.base.terminal import console
from kd.base.types import RunRecord
from kd.config import CompareConfig, FitOptions
from kd.report.findings import beside, find
from kd.report.publish import publish, show, where
from kd.report.tables import Finding, Section, rich_tables
from kd.run.measured import measure

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
        for heading, cells, _ in first.tables:
            console.print(*rich_tables(heading, cells), sep="\n")
        publish(self.findings, self.notes, self.comparing, run, [first])
        say(where(run))


def compared(run_ids: Iterable[str], config: FitOptions, experiment: str) -> ComparedTrainings:
    """Compare trainings, given by run id; they and their teachers are measured first, each architecture once."""
    trained = {run_id: tracking.record(run_id) for run_id in run_ids}
    others = beside(trained, experiment)
    teachers = [one.run_id for one in tracking.runs([experiment], "tags.`kd.role` = 'teacher'")]
    measure([*(run_id for run_id in others if run_id in teachers), *trained], config)
    comparing = CompareConfig(runs=",".join([*trained, *others]))
    records = {run_id: tracking.record(run_id) for run_id in comparing.runs.split(",")}
    findings, notes = find([*records.values()], comparing)
    return ComparedTrainings({run_id: records[run_id] for run_id in trained}, findings, notes, comparing)
