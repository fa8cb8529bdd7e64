"""What a study found: every arm against its control, and which factor mattered."""

from collections.abc import Iterator, Mapping, Sequence

from kd import tracking
from kd.analysis.effects import main_effects
from kd.analysis.statistics import MIN_SEEDS
from kd.base.types import RunRecord, UserError
from kd.config import StudyConfig
from kd.report.study import section
from kd.sweep.cells import Cell, Result
from kd.sweep.compared import ONCE, compared
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
    found = compared({result.run_id: result.model for _, result in finished}, config, experiment)
    first, _ = found.findings[0]
    scores = [
        (
            {axis: in_words(axis, level) for axis, level in cell.levels.items()},
            cell.config.seed,
            found.records[result.run_id].metrics[f"{first.split}/{first.metric}"],
        )
        for cell, result in finished
    ]
    factors = [axis for axis in dict.fromkeys(["objective", *design.axes]) if axis != "seed"]
    metric, lines = f"{first.split} {first.metric}", list(_lines(done, found.records))
    effects = section(f"Study: {design.title}", main_effects(scores, factors), metric, failed, lines)
    found.report(effects, parent)


def _lines(done: Sequence[tuple[Cell, Result]], records: Mapping[str, RunRecord]) -> Iterator[str]:
    reused = sum(result.reused for _, result in done)
    yield f"{len(done)} trainings" + (f", {reused} of them finished before" if reused else "") + "."
    if timed := [record.metrics["cost/train_s"] for record in records.values() if "cost/train_s" in record.metrics]:
        yield f"Training took {sum(timed) / 60:.1f} min in all, of {len(timed)} that were timed."
    yield ONCE
    seeds = {cell.config.seed for cell, _ in done}
    if len(seeds) < MIN_SEEDS:
        yield f"Seeds: {len(seeds)}, so no claim can be made; give the design an axis seed, such as [0, 1, 2]."
    if any(result.failure for _, result in done):
        yield "Some cells failed: effects are means over the others."
