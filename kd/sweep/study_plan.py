"""What a study trains, worked out and checked before any cell is trained."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from kd import tracking
from kd.analysis.statistics import MIN_SEEDS
from kd.base.console import console, hushed, say
from kd.base.hashing import fingerprint
from kd.base.types import UserError
from kd.config import RowOptions, StudentConfig, StudyConfig, default_of, value_of, with_options
from kd.report.tables import rich_table
from kd.run import distill, student, teacher
from kd.run.data import Rows, describe
from kd.run.execute import Where
from kd.run.locate import locate
from kd.run.plan import Plan
from kd.space.values import Value
from kd.sweep.cells import Cell, cell_of, rows_of, taught_by
from kd.sweep.design import DECIDING, GUIDE, Design, cells, in_words, load_design

OF_TEACHER = ("teacher", *(field.name for field in fields(RowOptions) if field.name != "max_train"))
"""A teacher's name and rows, as its cells have them; where `max_train` is an axis, the teacher has the command's."""
OF_START = ("student", "student_layers", "student_config", "initialisation")
"""Options that say what a student starts from, which must be possible with its teacher."""


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
        rows = rows_of(wanted, config.seed)
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
        rows = rows_of(wanted, config.seed)
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
        condition = replace(cell.config, seed=0, max_train=0), cell.self_trained
        if condition not in sizes:
            plan = _plan(config, cell)
            layers = getattr(plan.model.config, "num_hidden_layers", 1)
            sizes[condition] = fingerprint(plan.identity), layers, len(plan.rows.split("train"))
        arm, layers, count = sizes[condition]
        count = cell.config.epoch_rows or min(count, cell.config.max_train or count)
        key = f"{arm} {cell.config.seed} {cell.config.max_train}"
        found.append(Training(float(cell.config.epochs * count * (layers + 1)), key))
    return found


def _plan(config: StudyConfig, cell: Cell) -> Plan:
    try:
        with hushed():
            wanted = taught_by(cell, cell.config.teacher) if cell.self_trained else cell
            return distill.planned(wanted.config, rows_of(_for_teacher(config, cell), config.seed))
    except UserError as error:
        raise UserError(f"{cell.words}: {error}; or exclude such cells in the design") from error


def seconds_a_layer(model: str) -> float | None:
    """Return the seconds that a teacher's training took for one row and one layer, where it was measured."""
    stored = tracking.stored_model(model, "teacher")
    speed = tracking.record(stored.run_id).metrics.get("cost/examples_per_s") if stored.run_id else None
    depth = json.loads((stored.folder / "config.json").read_text("utf-8")).get("num_hidden_layers", 1)
    return 1 / (speed * (depth + 1)) if speed else None
