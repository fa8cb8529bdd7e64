"""A study: what it trains, checked before long work, every cell that is not finished yet, and which factor mattered."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from kd import tracking
from kd.analysis.effects import main_effects
from kd.analysis.statistics import MIN_SEEDS
from kd.base.console import console, hushed, say
from kd.base.hashing import fingerprint
from kd.base.types import UserError
from kd.config import RowOptions, StudentConfig, StudyConfig, default_of, value_of, with_options
from kd.report.sections import study_section
from kd.report.tables import rich_table
from kd.run import distill, student, teacher
from kd.run.data import Rows, describe
from kd.run.execute import Where
from kd.run.locate import locate
from kd.run.plan import Plan
from kd.space.values import Value
from kd.sweep.cells import Cell, Result, carry_out_all, cell_of, rows_of, taught_by
from kd.sweep.compared import ONCE, Records, compared
from kd.sweep.design import DECIDING, GUIDE, Design, cells, control_of, in_words, load_design

OF_TEACHER = ("teacher", *(field.name for field in fields(RowOptions)))
"""A teacher's name and rows, as its cells have them."""
OF_START = ("student", "student_layers", "student_config", "initialisation")
"""Options that say what a student starts from, which must be possible with its teacher."""
OVERHEAD_S = 8.0
"""Guess, before any cell was timed, of what one takes beside training; the real times replace it."""


@dataclass(frozen=True)
class Training:
    """What planning has shown of a cell.

    Attributes:
        work: epochs x rows x (layers of the model + 1 for what is beside them).
        key: the same for the same training, such as controls that start from one `student` under several teachers.
    """

    work: float
    key: str


def planned(config: StudyConfig) -> tuple[StudyConfig, Design, list[Cell]]:
    """Read the design; returns the options with its base, it with what decides its controls, and its cells.

    What the command line gives otherwise than by default comes before the base.

    Raises:
        UserError: the design is wrong, an axis is given on the command line too, or a cell's options contradict each
            other.
    """
    design = load_design(config.design, type(config.task_options))
    for name in design.axes:
        if name != GUIDE and value_of(config, name) not in (default_of(config, name), None):
            raise UserError(
                f"{name}={value_of(config, name)!r} is given, but {name} is an axis of design={config.design!r}: "
                "leave it out, or take it from the axes"
            )
    taken = {name: value for name, value in design.base.items() if value_of(config, name) == default_of(config, name)}
    for name in design.base.keys() - taken.keys():
        say(f"{name}={value_of(config, name)}: the command line comes before the design's {design.base[name]}")
    config = with_options(config, **taken)
    design = replace(design, base={**design.base, **{name: getattr(config, name) for name in DECIDING}})
    return config, design, [cell_of(config, levels) for levels in cells(design)]


def announce(design: Design, todo: Sequence[Cell]) -> None:
    """Print the cells as a table of conditions, with their seeds side by side."""
    conditions: dict[tuple[tuple[str, Value | None], ...], list[str]] = {}
    for cell in todo:
        apart = tuple((axis, value) for axis, value in cell.levels.items() if axis != "seed")
        conditions.setdefault(apart, []).append(str(cell.config.seed))
    axes = list(dict.fromkeys(axis for condition in conditions for axis, _ in condition))
    rows = [[*axes, "seeds"]]
    for condition, seeds in conditions.items():
        words = {axis: in_words(axis, value) for axis, value in condition}
        rows.append([*(words.get(axis, "–") for axis in axes), ", ".join(seeds)])
    say(f"{design.title}: {len(todo)} trainings")
    console.print(rich_table("", rows))
    if min(map(len, conditions.values())) < MIN_SEEDS:
        say(f"Warning: with fewer than {MIN_SEEDS} seeds no difference can be claimed: give an axis seed, as [0, 1, 2]")


def all_rows(config: StudyConfig, todo: Sequence[Cell]) -> None:
    """Read the rows that the cells' teachers are trained on, and say how many there are.

    Raises:
        UserError: the data is wrong, or cells are scored on different rows.
    """
    known: dict[str, Rows] = {}
    for cell in _one_a_teacher(todo).values():
        wanted = _for_teacher(config, cell)
        rows = rows_of(wanted)
        if rows.train_digest not in known:
            describe(wanted, rows)
            known[rows.train_digest] = rows
        first = next(iter(known.values()))
        if (rows.test_digest, rows.validation_digest) != (first.test_digest, first.validation_digest):
            raise UserError(
                f"{cell.words} is scored on other rows than {todo[0].words}, so that they cannot be compared: give on "
                "the command line what changes the rows, in a study for each"
            )


def with_teachers(config: StudyConfig, todo: Sequence[Cell], where: Where) -> list[Cell]:
    """Return the cells with their finished teachers; each that is not given finished is trained once, with `seed`."""
    finished = {}
    for key, cell in _one_a_teacher(todo).items():
        wanted = _for_teacher(config, cell)
        rows = rows_of(wanted)
        finished[key] = teacher.finished(wanted, rows, where)
        student.further_labels(wanted, rows, locate(finished[key], "teacher"))
    return [replace(cell, config=replace(cell.config, teacher=finished[_teacher(cell)])) for cell in todo]


def _teacher(cell: Cell) -> tuple[object, ...]:
    """Return what distinguishes a cell's teacher from others."""
    return tuple(getattr(cell.config, name) for name in OF_TEACHER)


def _one_a_teacher(todo: Sequence[Cell]) -> dict[tuple[object, ...], Cell]:
    """Return for each teacher the first of its cells."""
    found: dict[tuple[object, ...], Cell] = {}
    for cell in todo:
        found.setdefault(_teacher(cell), cell)
    return found


def _for_teacher(config: StudyConfig, cell: Cell) -> StudyConfig:
    """Return the options that a cell's teacher is trained with: the command's, with the cell's rows and student."""
    return replace(config, **{name: getattr(cell.config, name) for name in (*OF_TEACHER, *OF_START)})


def trainings(config: StudyConfig, todo: Sequence[Cell]) -> list[Training]:
    """Plan one training of each condition, so that what cannot be is reported before long work."""
    sizes: dict[tuple[StudentConfig, bool], tuple[str, int, int]] = {}
    found = []
    for cell in todo:
        condition = replace(cell.config, seed=0), cell.self_trained
        if condition not in sizes:
            plan = _plan(config, cell)
            layers = getattr(plan.model.config, "num_hidden_layers", 1)
            sizes[condition] = fingerprint(plan.identity), layers, len(plan.rows.split("train"))
        arm, layers, count = sizes[condition]
        count = cell.config.epoch_rows or count
        key = f"{arm} {cell.config.seed}"
        found.append(Training(float(cell.config.epochs * count * (layers + 1)), key))
    return found


def _plan(config: StudyConfig, cell: Cell) -> Plan:
    try:
        with hushed():
            wanted = taught_by(cell, cell.config.teacher) if cell.self_trained else cell
            return distill.planned(wanted.config, rows_of(_for_teacher(config, cell)))
    except UserError as error:
        raise UserError(f"{cell.words}: {error}; or exclude such cells in the design") from error


def seconds_a_layer(model: str) -> float | None:
    """Return the seconds that a teacher's training took for one row and one layer, where it was measured."""
    stored = tracking.stored_model(model, "teacher")
    speed = tracking.record(stored.run_id).metrics.get("cost/examples_per_s") if stored.run_id else None
    depth = json.loads((stored.folder / "config.json").read_text("utf-8")).get("num_hidden_layers", 1)
    return 1 / (speed * (depth + 1)) if speed else None


@dataclass
class TimeLeft:
    """How long the rest will take, by the time that a unit of work has taken.

    `work` is that of each cell that has not ended; `guess` the seconds that a unit takes until cells have been timed.
    """

    work: dict[int, float]
    workers: int
    guess: float | None
    timed: float = 0.0
    seconds: float = 0.0

    def end(self, number: int, seconds: float | None) -> None:
        """Count a cell that ended; None where it took no time that says anything of the others."""
        work = self.work.pop(number)
        if seconds is not None:
            self.timed, self.seconds = self.timed + work, self.seconds + seconds

    @property
    def words(self) -> str:
        """How long the cells that have not ended will take."""
        rest = sum(self.work.values())
        if self.timed:
            seconds = rest * self.seconds / self.timed
        elif self.guess is not None:
            seconds = rest * self.guess + len(self.work) * OVERHEAD_S
        else:
            return "an unknown time"
        minutes = seconds / self.workers / 60
        return f"about {minutes:.0f} min" if minutes >= 1.5 else f"about {60 * minutes:.0f} s"


@dataclass
class _Study:
    """The cells, where and by how many workers they are carried out, and what has become of them so far."""

    todo: Sequence[Cell]
    where: Where
    left: TimeLeft
    results: dict[int, Result] = field(default_factory=dict)

    def carry_out(self, cells: Mapping[int, Cell], keys: Mapping[int, str]) -> None:
        """Carry out cells, of those with the same key one: two processes cannot be at the same training."""
        same: dict[str, list[int]] = {}
        for number in cells:
            same.setdefault(keys[number], []).append(number)
        shared = {first: others for first, *others in same.values()}
        for number, result in carry_out_all({one: cells[one] for one in shared}, self.where, self.left.workers):
            timed = not (result.reused or result.failure)
            took = "finished before" if result.reused else f"{result.seconds:.0f} s"
            self.take(number, result, took, result.seconds if timed else None)
            for other in shared[number]:
                self.take(other, replace(result, seconds=0.0), f"the same training as {self.todo[number].words}")

    def take(self, number: int, result: Result, ended: str = "", seconds: float | None = None) -> None:
        """Note what became of a cell, and say so; `seconds` where it took time that says something of the others."""
        self.results[number] = result
        self.left.end(number, seconds)
        ended = f"failed: {result.failure}" if result.failure else ended
        rest = f"{self.left.words} left" if self.left.work else "now costs and report"
        say(f"{len(self.results)}/{len(self.todo)} {self.todo[number].words}: {ended}; {rest}")


def carry_out(
    todo: Sequence[Cell], trainings: Sequence[Training], where: Where, workers: int, guess: float | None
) -> list[Result]:
    """Carry out all cells in so many processes, reporting after each how long the rest will take."""
    left = TimeLeft({number: one.work for number, one in enumerate(trainings)}, workers, guess)
    study = _Study(todo, where, left)
    say(f"{len(todo)} trainings take {left.words}, less what is finished already")
    taught = {number: cell for number, cell in enumerate(todo) if not cell.self_trained}
    study.carry_out(taught, {number: trainings[number].key for number in taught})
    controls = {tuple(cell.levels.items()): study.results[number] for number, cell in taught.items()}
    self_taught = {}
    for number, cell in enumerate(todo):
        if cell.self_trained:
            control = controls[tuple(control_of(cell.levels).items())]
            if control.failure:
                study.take(number, Result(failure="its control failed"))
            else:
                self_taught[number] = taught_by(cell, control.model)
    study.carry_out(self_taught, {number: str(cell.config) for number, cell in self_taught.items()})
    if reused := sum(result.reused for result in study.results.values()):
        say(f"{reused} of {len(todo)} trainings were finished before, and were not done again")
    return [study.results[number] for number in range(len(todo))]


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
    effects = study_section(f"Study: {design.title}", main_effects(scores, factors), metric, failed, lines)
    found.report(effects, parent)


def _lines(done: Sequence[tuple[Cell, Result]], records: Records) -> Iterator[str]:
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
