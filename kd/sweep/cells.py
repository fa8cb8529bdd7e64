"""The cells of a study, each one training: carried out here, or in several processes side by side."""

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing.connection import Connection, wait

from kd import tracking
from kd.base.console import hushed, one_line
from kd.base.types import Halted, Stopped, UserError
from kd.config import DistillConfig, RowOptions, StudentConfig, StudyConfig, narrowed, with_options
from kd.run import distill
from kd.run.data import Rows, load_rows
from kd.run.execute import Where, train
from kd.run.student import DEFAULT_LAYERS
from kd.sweep.design import GUIDE, OF_TRANSFER, Levels, in_words
from kd.sweep.workers import SAID_WHY, workers


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
class Result:
    """What became of a cell: its run, its model's URI and whether it was done before, or why it failed, in one line."""

    run_id: str = ""
    model: str = ""
    reused: bool = False
    seconds: float = 0.0
    failure: str = ""


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
            "guide=control needs a student that starts where its control did: student_config and initialisation="
            "importance start from the teacher, which is the control there; leave them out"
        )
    if not config.student:
        layers = config.student_layers or DEFAULT_LAYERS
        config = replace(config, student=config.teacher, student_layers=layers)
    return replace(cell, config=replace(config, teacher=model))


def rows_of(config: RowOptions) -> Rows:
    """Return the rows of a training; they are read once a process."""
    return _rows(narrowed(RowOptions, config))


_rows = lru_cache(maxsize=8)(load_rows)


def carry_out(cell: Cell, where: Where) -> Result:
    """Train, score and log a cell, by the code that `distill` and `student` run; its failure is a result.

    Raises:
        Stopped: a signal came.
        Halted: the store failed, or a disk is full.
    """
    start = time.perf_counter()
    try:
        with hushed():
            outcome = train(distill.planned(cell.config, rows_of(cell.config)), cell.config, where)
    except (Stopped, KeyboardInterrupt, Halted):
        raise
    except Exception as error:
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        return Result(seconds=time.perf_counter() - start, failure=kind + one_line(error))
    return Result(outcome.run_id, outcome.model, outcome.reused, time.perf_counter() - start)


def carry_out_all(cells: Mapping[int, Cell], where: Where, count: int) -> Iterator[tuple[int, Result]]:
    """Yield each cell's number and result, as they end: here, or where `count` is above 1 in so many processes."""
    if count > 1:
        yield from _side_by_side(cells, where, min(count, len(cells)))
    else:
        yield from ((number, carry_out(cell, where)) for number, cell in cells.items())


def _side_by_side(cells: Mapping[int, Cell], where: Where, count: int) -> Iterator[tuple[int, Result]]:
    waiting = list(cells)[::-1]
    busy: dict[int, int] = {}  # place of a worker -> number of its cell
    with workers(count, _train_cells, (where,)) as started:
        while waiting or busy:
            for place in [place for place in started.at if place not in busy][: len(waiting)]:
                if place in started.dead():  # killed since its last cell
                    started.start(place)
                busy[place] = waiting.pop()
                with suppress(OSError):  # killed just now: the missing answer says so
                    started.at[place].pipe.send(cells[busy[place]])
            ready = wait([started.at[place].pipe for place in busy])
            for place in [place for place in busy if started.at[place].pipe in ready]:
                try:
                    result: Result = started.at[place].pipe.recv()
                except (EOFError, OSError):
                    code = started.exit_code(place)
                    if code == SAID_WHY:  # the next would meet it too
                        raise UserError(
                            "a worker has ended, and said above why; the same command continues with what is missing"
                        ) from None
                    started.start(place)
                    result = Result(failure=f"its process ended with exit code {code}")
                yield busy.pop(place), result


def _train_cells(pipe: Connection, where: Where) -> None:
    """Carry out the cells that come through the pipe, until it closes."""
    with tracking.session(where.experiment):
        while True:
            pipe.send(carry_out(pipe.recv(), where))
