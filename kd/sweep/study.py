"""Train the same student under every condition of a design, with its controls, and say what mattered."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

from rich.table import Table as RichTable

from kd import tracking
from kd.analysis.statistics import MIN_SEEDS
from kd.base.console import console, hushed, say
from kd.base.types import UserError
from kd.config import DistillConfig, StudentConfig, StudyConfig, as_params, default_of, narrowed
from kd.run import distill, student, teacher
from kd.run.data import Rows, describe, load_rows
from kd.run.execute import Where
from kd.run.locate import locate
from kd.space.values import Value
from kd.sweep.cells import Bench, Cell, Result, one_by_one, side_by_side
from kd.sweep.design import OF_TRANSFER, Design, Levels, control_of, in_words

OVERHEAD_S = 8.0
"""Guess, before any cell was timed, of what one takes beside training; the real times replace it."""


def with_base(config: StudyConfig, design: Design) -> StudyConfig:
    """Return the options with the design's base; what the command line gives otherwise than by default comes first."""
    defaults = {name: default_of(config, name) for name in as_params(config)}
    for name in design.axes:
        if name in defaults and getattr(config, name) not in (defaults[name], None):
            raise UserError(
                f"{name}={getattr(config, name)!r} is given, but {name} is an axis of design={config.design!r}: "
                "leave it out, or take it from the axes"
            )
    taken = {name: value for name, value in design.base.items() if getattr(config, name) == defaults[name]}
    for name in design.base.keys() - taken.keys():
        say(f"{name}={getattr(config, name)}: the command line comes before the design's {design.base[name]}")
    return narrowed(StudyConfig, config, **taken)


def cell(config: StudyConfig, levels: Levels) -> Cell:
    """Return the training that these levels ask for."""
    kind = StudentConfig if levels.get("objective", config.objective) == "none" else DistillConfig
    known = {field.name for field in fields(kind)}
    own = {axis: value for axis, value in levels.items() if axis in known}
    if levels.get("transfer") == "" and kind is DistillConfig:
        own |= {name: getattr(DistillConfig, name) for name in OF_TRANSFER}
    return Cell(levels, narrowed(kind, config, **own))


def rows_of(config: StudyConfig, labelled: int) -> Rows:
    """Read the rows of the cells that use so many labels, and tell of them."""
    asked = narrowed(StudyConfig, config, labelled=labelled)
    rows = load_rows(asked, config.seed)
    describe(asked, rows)
    return rows


def announce(design: Design, todo: Sequence[Cell]) -> None:
    """Print the cells as a table of conditions, with their seeds side by side."""
    conditions: dict[tuple[tuple[str, Value], ...], list[str]] = {}
    for cell in todo:
        apart = tuple((axis, value) for axis, value in cell.levels.items() if axis != "seed")
        conditions.setdefault(apart, []).append(str(cell.config.seed))
    axes = list(dict.fromkeys(axis for condition in conditions for axis, _ in condition))
    table = RichTable()
    for heading in (*axes, "seeds"):
        table.add_column(heading)
    for condition, seeds in conditions.items():
        known = dict(condition)
        table.add_row(*(in_words(axis, known[axis]) if axis in known else "–" for axis in axes), ", ".join(seeds))
    say(f"{design.title}: {len(todo)} trainings")
    console.print(table)
    counts = {len(seeds) for seeds in conditions.values()}
    if min(counts) < MIN_SEEDS:
        say(f"Warning: with fewer than {MIN_SEEDS} seeds no difference can be claimed: give an axis seed, as [0, 1, 2]")


def guide(config: StudyConfig, labelled: int, rows: Rows, where: Where) -> str:
    """Return the teacher of the cells that use so many labels, trained where none is given."""
    asked = narrowed(StudyConfig, config, labelled=labelled)
    guide = teacher.finished(asked, rows, where)
    student.further_labels(asked, rows, locate(guide, "teacher"))
    return guide


def works_of(todo: Sequence[Cell], rows: Mapping[int, Rows]) -> tuple[list[float], int]:
    """Decide one training of each condition, so that what cannot be is told before long work.

    Returns:
        The work of each cell, as `Clock` has it, and the number of the teacher's layers.
    """
    sizes: dict[tuple[StudentConfig, bool], tuple[int, int]] = {}
    works, depth = [], 0
    for cell in todo:
        condition = replace(cell.config, seed=0, max_train=0), cell.self_trained
        if condition not in sizes:
            try:
                with hushed():
                    asked = _taught_by(cell, cell.config.teacher) if cell.self_trained else cell
                    plan = distill.planned(asked.config, rows[cell.config.labelled])
            except UserError as error:
                raise UserError(f"{cell.words}: {error}; or exclude such cells in the design") from error
            sizes[condition] = getattr(plan.model.config, "num_hidden_layers", 1), len(plan.rows.split("train"))
            assert plan.teacher is not None
            depth = getattr(plan.teacher.model.config, "num_hidden_layers", 1)
        layers, count = sizes[condition]
        count = cell.config.epoch_rows or min(count, cell.config.max_train or count)
        works.append(float(cell.config.epochs * count * (layers + 1)))
    return works, depth


def carry_out(todo: Sequence[Cell], bench: Bench, workers: int, clock: "Clock") -> list[Result]:
    """Carry out all cells, telling after each how long the rest will take."""
    results: dict[int, Result] = {}
    say(f"{len(todo)} trainings take {clock.left(results)}, less what is finished already")

    def take(place: int, result: Result) -> None:
        results[place] = result
        ended = "finished before" if result.reused else f"{result.seconds:.0f} s"
        if result.failure:
            ended = f"failed: {result.failure}"
        rest = f"{clock.left(results)} left" if len(results) < len(todo) else "now costs and report"
        say(f"{len(results)}/{len(todo)} {todo[place].words}: {ended}; {rest}")

    for self_trained in (False, True):
        ready: dict[int, Cell] = {}
        for place in [place for place, cell in enumerate(todo) if cell.self_trained == self_trained]:
            cell = _taught_by_control(todo[place], todo, results) if self_trained else todo[place]
            if cell is None:
                take(place, Result(failure="its control failed"))
            else:
                ready[place] = cell
        places, cells_now = [*ready], [*ready.values()]
        for number, result in side_by_side(cells_now, bench, workers) if workers > 1 else one_by_one(cells_now, bench):
            take(places[number], result)
    if reused := sum(result.reused for result in results.values()):
        say(f"{reused} of {len(todo)} trainings were finished before, and were not done again")
    return [results[place] for place in range(len(todo))]


def _taught_by_control(cell: Cell, todo: Sequence[Cell], results: Mapping[int, Result]) -> Cell | None:
    """Return a cell with its control as teacher; None where the control failed."""
    levels = control_of(cell.levels)
    control = results[next(place for place, one in enumerate(todo) if one.levels == levels)]
    return None if control.failure else _taught_by(cell, control.model)


def _taught_by(cell: Cell, guide: str) -> Cell:
    """Return a cell with another teacher, to start from the layers that its control starts from."""
    config = cell.config
    if config.student_config or config.initialisation == "importance":
        raise UserError(
            "guide=control needs a student that starts where its control did: student_config and initialisation="
            "importance start from the teacher, which is the control there; leave them out"
        )
    if not config.student:
        layers = config.student_layers or student.DEFAULT_LAYERS
        config = replace(config, student=config.teacher, student_layers=layers)
    return replace(cell, config=replace(config, teacher=guide))


def teacher_speed(guide: str) -> float | None:
    """Return how many rows a second the teacher was trained on, where that was measured."""
    stored = tracking.stored_model(guide, "teacher")
    return tracking.record(stored.run_id).metrics.get("cost/examples_per_s") if stored.run_id else None


class Clock:
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
