"""Carrying out the cells of a study: here one after the other, or in several processes side by side."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from multiprocessing import Pipe, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, NoReturn

from kd import tracking
from kd.base.console import hushed, log_plainly
from kd.base.types import Stopped, UserError
from kd.config import RowOptions, StudentConfig
from kd.run import distill
from kd.run.data import load_rows
from kd.run.execute import Where, train
from kd.sweep.design import GUIDE, Levels, in_words
from kd.sweep.workers import end, started


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
class Bench:
    """Where cells are carried out: the experiment, the study's run, and tags of each cell's run."""

    experiment: str
    parent: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Result:
    """What became of a cell.

    Attributes:
        run_id: of its run; empty where it failed.
        model: URI of its model.
        reused: it had been trained before.
        seconds: it took.
        failure: why it failed, in one line; empty where it did not.
    """

    run_id: str = ""
    model: str = ""
    reused: bool = False
    seconds: float = 0.0
    failure: str = ""


_rows = lru_cache(maxsize=8)(load_rows)


def carry_out(cell: Cell, bench: Bench) -> Result:
    """Train, score and log a cell, by the code that `distill` and `student` run; its failure is a result.

    Raises:
        Stopped: a signal came.
        Away: the store failed.
    """
    start = time.perf_counter()
    try:
        asked = RowOptions(**{field.name: getattr(cell.config, field.name) for field in fields(RowOptions)})
        rows = _rows(asked, cell.config.seed if asked.max_train else 0)
        where = Where(bench.experiment, tracking.Run(bench.parent), reuse=True, profile=False, tags=bench.tags)
        with hushed():
            outcome = train(distill.planned(cell.config, rows), cell.config, where)
    except (Stopped, KeyboardInterrupt, tracking.Away):
        raise
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        named = text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
        return Result(seconds=time.perf_counter() - start, failure=named)
    return Result(outcome.run_id, outcome.model, outcome.reused, time.perf_counter() - start)


def one_by_one(cells: Sequence[Cell], bench: Bench) -> Iterator[tuple[int, Result]]:
    """Yield each cell's place and result."""
    for place, cell in enumerate(cells):
        yield place, carry_out(cell, bench)


@dataclass
class _Worker:
    """A process, our end of its pipe, and the place of the cell that it is at."""

    process: SpawnProcess
    pipe: Connection
    busy: int | None = None


def side_by_side(cells: Sequence[Cell], bench: Bench, count: int) -> Iterator[tuple[int, Result]]:
    """Yield each cell's place and result, as `count` processes come to them; one that dies is replaced."""
    waiting = list(enumerate(cells))[::-1]
    count = min(count, len(cells))
    workers = [_hired(place, count, bench) for place in range(count)]
    try:
        while waiting or any(worker.busy is not None for worker in workers):
            for worker in workers:
                if worker.busy is None and waiting:
                    worker.busy, cell = waiting.pop()
                    worker.pipe.send(cell)
            busy = {worker.pipe: place for place, worker in enumerate(workers) if worker.busy is not None}
            for pipe in wait([*busy]):
                place = busy[pipe]  # type: ignore[index]
                worker = workers[place]
                done = worker.busy
                assert done is not None
                try:
                    result: Result = worker.pipe.recv()
                    worker.busy = None
                except (EOFError, OSError):
                    worker.process.join()
                    result = Result(failure=f"its process ended with exit code {worker.process.exitcode}")
                    workers[place] = _hired(place, count, bench)
                yield done, result
    finally:
        end([worker.process for worker in workers])


def _hired(place: int, count: int, bench: Bench) -> _Worker:
    ours, theirs = Pipe()
    process = started(place, count, _work, (theirs, bench))
    theirs.close()  # so that its death is heard
    return _Worker(process, ours)


def _work(pipe: Connection, bench: Bench) -> None:
    """Carry out the cells that come through the pipe, until this process is told to end or is alone."""
    log_plainly()
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_follow, daemon=True).start()
    try:
        with tracking.session(bench.experiment):
            while True:
                pipe.send(carry_out(pipe.recv(), bench))
    except (Stopped, KeyboardInterrupt, EOFError):
        return
    except UserError as error:  # as of a store that is away
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _follow() -> None:
    """End with the process that started this one, even where it was killed."""
    if parent := parent_process():
        parent.join()
        os._exit(1)


def _stop(*_: Any) -> NoReturn:
    raise Stopped("SIGTERM came")
