"""What a study found: every arm against its control, and which factor mattered."""

from collections.abc import Mapping, Sequence

from kd import tracking
from kd.analysis.effects import main_effects
from kd.analysis.statistics import MIN_SEEDS
from kd.base.console import console, say
from kd.base.types import RunRecord, UserError
from kd.config import CompareConfig, StudyConfig
from kd.report.findings import find
from kd.report.publish import publish, show, where
from kd.report.sections import study_section
from kd.report.tables import rich_table
from kd.sweep.cells import Cell, Result
from kd.sweep.costs import ONCE, beside, profiled, with_costs
from kd.sweep.design import Design, in_words


def conclude(
    design: Design, done: Sequence[tuple[Cell, Result]], parent: tracking.Run, config: StudyConfig, experiment: str
) -> None:
    """Profile each architecture once, compare, and publish the report in the study's run.

    Raises:
        UserError: every cell failed.
    """
    finished = [(cell, result) for cell, result in done if not result.failure]
    failed = [(cell.words, result.failure) for cell, result in done if result.failure]
    parent.log_metrics({"study/cells": len(done), "study/failed": len(failed)})
    if not finished:
        raise UserError(f"study {design.title!r}: every cell failed, the first with: {failed[0][1]}")
    records = {result.run_id: tracking.record(result.run_id) for _, result in finished}
    costs = profiled({result.run_id: result.model for _, result in finished}, records, config)
    compared = CompareConfig(runs=",".join([*records, *beside(records, experiment)]))
    findings, notes = find([*map(tracking.record, compared.runs.split(","))], compared)
    findings = [(with_costs(table, records, costs), details) for table, details in findings]
    first = findings[0][0]
    factors = [axis for axis in dict.fromkeys(["objective", *design.axes]) if axis != "seed"]
    scores = [
        (
            {axis: in_words(axis, level) for axis, level in cell.levels.items()},
            cell.config.seed,
            records[result.run_id].metrics[f"{first.split}/{first.metric}"],
        )
        for cell, result in finished
    ]
    effects = study_section(
        f"Study: {design.title}",
        main_effects(scores, factors),
        f"{first.split} {first.metric}",
        failed,
        _lines(done, records),
    )
    show(findings, notes)
    for line in effects.lines:
        say(line)
    console.print(*(rich_table(heading, rows) for heading, rows, _ in effects.tables), sep="\n")
    publish(findings, notes, compared, parent, [effects])
    say(where(parent))


def _lines(done: Sequence[tuple[Cell, Result]], records: Mapping[str, RunRecord]) -> list[str]:
    timed = [record.metrics["cost/train_s"] for record in records.values() if "cost/train_s" in record.metrics]
    reused = sum(result.reused for _, result in done)
    seeds = {cell.config.seed for cell, _ in done}
    lines = [f"{len(done)} trainings" + (f", {reused} of them finished before" if reused else "") + "."]
    if timed:
        lines.append(f"Training took {sum(timed) / 60:.1f} min in all, of {len(timed)} that were timed.")
    lines.append(ONCE)
    if len(seeds) < MIN_SEEDS:
        lines.append(f"Seeds: {len(seeds)}, so no claim can be made; give the design an axis seed, such as [0, 1, 2].")
    if any(result.failure for _, result in done):
        lines.append("Some cells failed: effects are means over the others.")
    return lines
