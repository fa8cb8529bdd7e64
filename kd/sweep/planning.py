"""What a study trains, and how long that takes: worked out and checked without torch, before long work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from statistics import median
from typing import TypeAlias

from kd import tracking
from kd.analysis.statistics import MIN_SEEDS
from kd.base.console import in_time, say
from kd.base.terminal import console
from kd.base.types import REST, RunRecord, UserError
from kd.config import (
    DistillConfig,
    RowOptions,
    StudentConfig,
    StudyConfig,
    default_of,
    narrowed,
    value_of,
    with_options,
)
from kd.config.layers import DEFAULT_LAYERS, parse_layers
from kd.report.tables import rich_tables
from kd.run.data import Rows, describe, require_data, rows_of
from kd.space.values import Value
from kd.sweep.design import DECIDING, GUIDE, OF_TRANSFER, Design, Levels, cells, in_words, load_design

OF_TEACHER = ("teacher", *(field.name for field in fields(RowOptions)))
"""A teacher's name and rows, as its cells have them."""
OF_START = ("student", "student_layers", "student_config", "initialisation")
"""Options that say what a student starts from, which must be possible with its teacher."""
TeacherKey: TypeAlias = tuple[object, ...]
OVERHEAD_S = 8.0
"""Guess, before any cell was timed, of what one takes beside training; the real times replace it."""


@dataclass(frozen=True)
class Cell:
    """One training of a study: its levels of the axes, and the options that `distill` or `student` would be given."""

    levels: Levels
    config: StudentConfig

    @property
    def words(self) -> str:
        """What a person reads."""
        return " ".join(f"{axis}={in_words(axis, value)}" for axis, value in self.levels.items())

    @property
    def self_trained(self) -> bool:
        """Whether its teacher is its control."""
        return self.levels.get(GUIDE) == "control"


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
    todo = [cell_of(config, levels) for levels in cells(design)]
    for cell in todo:
        if cell.self_trained:
            taught_by(cell, cell.config.teacher)
    return config, design, todo


def cell_of(config: StudyConfig, levels: Levels) -> Cell:
    """Return the training at these levels; raises UserError where its options contradict each other."""
    kind = StudentConfig if levels["objective"] == "none" else DistillConfig
    own = {axis: level for axis, level in levels.items() if axis != GUIDE}
    if levels.get("transfer") == "" and kind is DistillConfig:
        own |= {name: getattr(DistillConfig, name) for name in OF_TRANSFER}
    try:
        return Cell(levels, narrowed(kind, with_options(config, **own)))
    except UserError as error:
        raise UserError(f"{Cell(levels, config).words}: {error}; or exclude such cells in the design") from error


def taught_by(cell: Cell, model: str) -> Cell:
    """Return a cell with another teacher, that starts from the layers which its control starts from.

    Raises:
        UserError: the student starts from its teacher.
    """
    config = cell.config
    if config.student_config or config.initialisation == "importance":
        raise UserError(
            f"{cell.words}: guide=control needs a student that starts where its control did: student_config and "
            "initialisation=importance start from the teacher, which is the control there; leave them out"
        )
    if not config.student:
        layers = config.student_layers or DEFAULT_LAYERS
        config = replace(config, student=config.teacher, student_layers=layers)
    return replace(cell, config=replace(config, teacher=model))


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
    console.print(*rich_tables("", rows), sep="\n")
    if min(map(len, conditions.values())) < MIN_SEEDS:
        say(f"Warning: with fewer than {MIN_SEEDS} seeds no difference can be claimed: give an axis seed, as [0, 1, 2]")


def all_rows(config: StudyConfig, todo: Sequence[Cell]) -> dict[TeacherKey, tuple[int, int]]:
    """Read the rows that the cells' teachers are trained on, and say how many there are.

    Returns:
        for each teacher the numbers of training rows, and of rows whose labels are not used.

    Raises:
        UserError: the data is wrong, or cells are scored on different rows.
    """
    known: dict[str, Rows] = {}
    counts = {}
    for key, cell in one_a_teacher(todo).items():
        wanted = for_teacher(config, cell)
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
        counts[key] = len(rows.train), len(rows.rest or ())
    for cell in {(teacher_key(cell), getattr(cell.config, "transfer", "")): cell for cell in todo}.values():
        try:
            require_data(cell.config)
        except UserError as error:
            raise UserError(f"{cell.words}: {error}") from error
    return counts


def teacher_key(cell: Cell) -> TeacherKey:
    """Return what distinguishes a cell's teacher from others."""
    options = cell.config.task_options
    plain = {name: getattr(type(options), name) for name in options.building}
    config = replace(cell.config, task_options=replace(options, **plain))
    return tuple(getattr(config, name) for name in OF_TEACHER)


def one_a_teacher(todo: Sequence[Cell]) -> dict[TeacherKey, Cell]:
    """Return for each teacher the first of its cells."""
    found: dict[TeacherKey, Cell] = {}
    for cell in todo:
        found.setdefault(teacher_key(cell), cell)
    return found


def for_teacher(config: StudyConfig, cell: Cell) -> StudyConfig:
    """Return the options that a cell's teacher is trained with: the command's, with the cell's rows and student."""
    options = cell.config.task_options
    own = {name: getattr(config.task_options, name) for name in options.building}
    named = {name: getattr(cell.config, name) for name in (*OF_TEACHER, *OF_START)}
    return replace(config, **{**named, "task_options": replace(options, **own)})


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
    rest: float = field(init=False)

    def __post_init__(self) -> None:
        self.rest = sum(self.work.values())

    def end(self, number: int, seconds: float | None) -> None:
        """Count a cell that ended; None where it took no time that says anything of the others."""
        work = self.work.pop(number)
        self.rest -= work
        if seconds is not None:
            self.timed, self.seconds = self.timed + work, self.seconds + seconds

    @property
    def words(self) -> str:
        """How long the cells that have not ended will take."""
        if self.timed:
            seconds = self.rest * self.seconds / self.timed
        elif self.guess is not None:
            seconds = self.rest * self.guess + len(self.work) * OVERHEAD_S
        else:
            return "an unknown time"
        return in_time(seconds / self.workers)


def expected(config: StudyConfig, todo: Sequence[Cell], counts: Mapping[TeacherKey, tuple[int, int]]) -> str:
    """Say how long the cells will take, by earlier trainings on this data in the experiment; or why that is unknown."""
    try:
        speeds = _seconds_a_layer(config)
    except UserError as error:
        return f"How long they take cannot be said: {error}"
    if not speeds:
        return "How long they take cannot be said: no student was trained on this data in this experiment before"
    work = {number: _work(cell, *counts[teacher_key(cell)]) for number, cell in enumerate(todo)}
    known = {number: each for number, each in work.items() if each is not None}
    if not known:
        return "How long they take cannot be said: how many layers their students have is seen when these are loaded"
    beside = ["finished ones are not trained again"]
    if len(known) < len(work):
        beside.append(f"{len(work) - len(known)} whose layers are not known yet come on top")
    if not config.teacher_is_finished:
        beside.append("so do teachers that are still to be trained")
    words = TimeLeft(known, config.workers, median(speeds)).words
    return f"They take {words} by {len(speeds)} earlier trainings on this data; {', '.join(beside)}"


def _seconds_a_layer(config: StudyConfig) -> list[float]:
    """Return the seconds that earlier trainings took for one row and one layer. Raises UserError."""
    if not tracking.is_there():
        return []
    with tracking.reading(config.experiment) as experiment:
        found = tracking.runs([experiment], f"tags.`kd.task` = '{config.task}'")
    same = [record for record in found if record.tags.get("kd.dataset") == config.dataset]
    timed = [(record.metrics.get("cost/examples_per_s"), _depth(record)) for record in same]
    return [1 / (speed * (depth + 1)) for speed, depth in timed if speed and depth]


def _depth(record: RunRecord) -> int:
    """Return how many layers a run's student has; 0 where that is not known."""
    layers = record.params.get("layers", "")
    if layers.startswith("random "):
        return int(layers.removeprefix("random "))
    return len(layers.split(",")) if layers[:1].isdecimal() else 0


def _work(cell: Cell, count: int, rest: int) -> float | None:
    """Return what a cell's training is, as in `Training`; None where its layers are not known before it is loaded."""
    config = cell.config
    if config.student_config:
        layers = config.student_settings.get("num_hidden_layers")
    elif config.student and not config.student_layers:
        layers = None
    else:
        read = parse_layers(config.student_layers or DEFAULT_LAYERS)
        layers = read if isinstance(read, int) else len(read)
    if not isinstance(layers, int):
        return None
    more = rest if isinstance(config, DistillConfig) and config.transfer == REST else 0
    return float(config.epochs * (config.epoch_rows or count + more) * (layers + 1))
