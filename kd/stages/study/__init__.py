"""Train the same student under every condition of a design, with its controls, and say what mattered."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path

from rich.table import Table as RichTable

from kd import tracking
from kd.config import DistillConfig, StudentConfig, StudyConfig, narrowed
from kd.space.design import Design, Levels, cells, load_design
from kd.space.values import Value
from kd.stages import distill, teacher
from kd.stages.console import console, hushed, say
from kd.stages.fitting import Where
from kd.stages.rows import Rows, describe, load_rows
from kd.stages.study.conclusion import conclude
from kd.stages.study.work import Bench, Cell, Result, one_by_one, side_by_side
from kd.statistics import MIN_SEEDS
from kd.types import UserError

OVERHEAD_S = 8.0
"""Guess, before any cell was timed, of what one takes beside training; the real times replace it."""


def run(config: StudyConfig) -> None:
    """Train the teacher once, then every cell that is not finished yet, and report.

    Raises:
        UserError: bad input, or a cell that cannot be: before anything but the teacher is trained.
        Stopped: a signal came; the same command goes on with what is missing.
    """
    design = load_design(config.design)
    config = _with_base(config, design)
    todo = [_cell(config, levels) for levels in cells(design)]
    _announce(design, todo)
    if config.dry_run:
        return
    with tracking.session(config.experiment) as experiment:
        rows = load_rows(config, config.seed)
        describe(config, rows)
        tags = {"kd.stage": "study", "kd.study": design.name, "kd.task": config.task, "kd.dataset": config.dataset}
        with tracking.run(f"study {design.title}", tags) as parent:
            parent.log_params(asdict(config))
            parent.log_text(Path(config.design).read_text(encoding="utf-8"), "design.yaml")
            guide = teacher.finished(config, rows, Where(experiment, parent, reuse=True))
            todo = [replace(cell, config=replace(cell.config, teacher=guide)) for cell in todo]
            works, depth = _works(todo, rows)
            speed = _teacher_speed(guide)
            clock = _Clock(works, config.workers, 1 / (speed * (depth + 1)) if speed else None)
            bench = Bench(experiment, parent.run_id, {"kd.study": design.name})
            results = _carry_out(todo, bench, config.workers, clock)
            conclude(design, list(zip(todo, results, strict=True)), parent, config, experiment)


def _with_base(config: StudyConfig, design: Design) -> StudyConfig:
    """Return the options with the design's base; what the command line gives otherwise than by default comes first."""
    defaults = {field.name: field.default for field in fields(StudyConfig)}
    for name in design.axes:
        if getattr(config, name) not in (defaults[name], None):
            raise UserError(
                f"{name}={getattr(config, name)!r} is given, but {name} is an axis of design={config.design!r}: "
                "leave it out, or take it from the axes"
            )
    taken = {name: value for name, value in design.base.items() if getattr(config, name) == defaults[name]}
    for name in design.base.keys() - taken.keys():
        say(f"{name}={getattr(config, name)}: the command line comes before the design's {design.base[name]}")
    return narrowed(StudyConfig, config, **taken)


def _cell(config: StudyConfig, levels: Levels) -> Cell:
    kind = StudentConfig if levels.get("objective", config.objective) == "none" else DistillConfig
    known = {field.name for field in fields(kind)}
    return Cell(levels, narrowed(kind, config, **{axis: value for axis, value in levels.items() if axis in known}))


def _announce(design: Design, todo: Sequence[Cell]) -> None:
    """Print the cells as a table of conditions, with their seeds side by side."""
    conditions: dict[tuple[tuple[str, Value], ...], list[str]] = {}
    for cell in todo:
        apart = tuple((axis, value) for axis, value in cell.levels.items() if axis != "seed")
        conditions.setdefault(apart, []).append(str(cell.config.seed))
    axes = list(dict.fromkeys(axis for condition in conditions for axis, _ in condition))
    table = RichTable(title=f"{design.title}: {len(todo)} trainings", title_justify="left")
    for heading in (*axes, "seeds"):
        table.add_column(heading)
    for condition, seeds in conditions.items():
        known = dict(condition)
        table.add_row(*(str(known.get(axis, "–")) for axis in axes), ", ".join(seeds))
    console.print(table)
    counts = {len(seeds) for seeds in conditions.values()}
    if min(counts) < MIN_SEEDS:
        say(f"Warning: with fewer than {MIN_SEEDS} seeds no difference can be claimed: give an axis seed, as [0, 1, 2]")


def _works(todo: Sequence[Cell], rows: Rows) -> tuple[list[float], int]:
    """Decide one training of each condition, so that what cannot be is told before long work.

    Returns:
        The work of each cell, as `_Clock` has it, and the number of the teacher's layers.
    """
    layers: dict[StudentConfig, int] = {}
    works, depth = [], 0
    for cell in todo:
        condition = replace(cell.config, seed=0, max_train=0)
        if condition not in layers:
            try:
                with hushed():
                    plan = distill.planned(cell.config, rows)
            except UserError as error:
                raise UserError(f"{cell.words}: {error}; or exclude such cells in the design") from error
            layers[condition] = getattr(plan.model.config, "num_hidden_layers", 1)
            assert plan.teacher is not None
            depth = json.loads((plan.teacher.folder / "config.json").read_text("utf-8")).get("num_hidden_layers", 1)
        count = cell.config.max_train or len(rows.splits.train)
        works.append(float(cell.config.epochs * count * (layers[condition] + 1)))
    return works, depth


def _carry_out(todo: Sequence[Cell], bench: Bench, workers: int, clock: "_Clock") -> list[Result]:
    """Carry out all cells, telling after each how long the rest will take."""
    results: dict[int, Result] = {}
    say(f"{len(todo)} trainings take {clock.left(results)}, less what is finished already")
    for place, result in side_by_side(todo, bench, workers) if workers > 1 else one_by_one(todo, bench):
        results[place] = result
        ended = "finished before" if result.reused else f"{result.seconds:.0f} s"
        if result.failure:
            ended = f"failed: {result.failure}"
        say(f"{len(results)}/{len(todo)} {todo[place].words}: {ended}; {clock.left(results)} left")
    if reused := sum(result.reused for result in results.values()):
        say(f"{reused} of {len(todo)} trainings were finished before, and were not done again")
    return [results[place] for place in range(len(todo))]


def _teacher_speed(guide: str) -> float | None:
    """Return how many rows a second the teacher was trained on, where that was measured."""
    stored = tracking.stored_model(guide, "teacher")
    return tracking.record(stored.run_id).metrics.get("cost/examples_per_s") if stored.run_id else None


class _Clock:
    """Tells how long the rest will take.

    The work of a cell is its epochs times its rows times its model's layers and one, for what is beside them.
    """

    def __init__(self, work: Sequence[float], workers: int, guess: float | None) -> None:
        """Take `guess`, in s for one row through one layer, until cells have been timed."""
        self.work = work
        self.workers = workers
        self.guess = guess

    def left(self, results: Mapping[int, Result]) -> str:
        """Return in words how long the cells without a result will take."""
        timed = {place: one.seconds for place, one in results.items() if not one.reused and not one.failure}
        rest = [work for place, work in enumerate(self.work) if place not in results]
        if timed:
            seconds = sum(rest) * sum(timed.values()) / sum(self.work[place] for place in timed)
        elif self.guess is not None:
            seconds = sum(work * self.guess + OVERHEAD_S for work in rest)
        else:
            return "an unknown time"
        minutes = seconds / self.workers / 60
        return f"about {minutes:.0f} min" if minutes >= 1.5 else f"about {60 * minutes:.0f} s"
