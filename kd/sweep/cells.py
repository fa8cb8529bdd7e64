"""The cells of a study, each one training: carried out here, or in several processes side by side."""

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait

from kd import tracking
from kd.base.console import hushed, one_line
from kd.base.types import Halted, Stopped, UserError
from kd.run import distill
from kd.run.data import rows_of
from kd.run.execute import Where, train
from kd.sweep.planning import Cell
from kd.sweep.workers import SAID_WHY, workers


@dataclass(frozen=True)
class Result:
    """What became of a cell: its run, its model's URI and whether it was done before, or why it failed, in one line."""

    run_id: str = ""
    model: str = ""
    reused: bool = False
    seconds: float = 0.0
    failure: str = ""


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
