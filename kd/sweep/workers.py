"""Processes that work side by side: each with its share of the machine, replaced when it dies, ended with this one."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from kd.base.console import log_plainly
from kd.base.files import scratch
from kd.base.signals import raise_on_signals
from kd.base.types import Stopped, UserError

PATIENCE_S = 60
"""How long a process may take to write its checkpoint after SIGTERM."""
LAST_S = 30
"""How long one may take to close its last run when all is done."""
SAID_WHY = 2
"""Exit code of a worker that printed a mistake the user can mend: another one in its place would make it too."""
Work = Callable[..., None]
"""What a worker does, given its end of the pipe and further arguments. The pipe is closed when all is done."""


@dataclass(frozen=True)
class Worker:
    """A process, and this process's end of the pipe to it."""

    process: SpawnProcess
    pipe: Connection


class Workers:
    """Processes of this machine that do the same work, by their place from 0."""

    def __init__(self, count: int, work: Work, arguments: tuple[Any, ...]) -> None:
        """Start `count` processes that call `work(pipe, *arguments)`."""
        self._count, self._work, self._arguments = count, work, arguments
        self.at: dict[int, Worker] = {}
        for place in range(count):
            self.start(place)

    def start(self, place: int) -> None:
        """Start a process, in place of the one that was there, with its share of the CPU's threads and of the GPUs."""
        from accelerate.utils import patch_environment  # not in workers, before their share is known

        ours, theirs = multiprocessing.Pipe()
        arguments = (self._work, theirs, self._arguments)
        process = multiprocessing.get_context("spawn").Process(target=_main, args=arguments, daemon=True)
        with patch_environment(**share(place, self._count)):
            process.start()
        theirs.close()  # so that the pipe closes with the process
        self.at[place] = Worker(process, ours)

    def dead(self) -> dict[int, int]:
        """Return the exit codes of processes that have ended, by place."""
        codes = {place: worker.process.exitcode for place, worker in self.at.items()}
        return {place: code for place, code in codes.items() if code is not None}

    def exit_code(self, place: int) -> int | None:
        """Return the exit code of a process whose pipe has closed, when it has ended."""
        self.at[place].process.join(PATIENCE_S)
        return self.at[place].process.exitcode

    def join(self, seconds: float) -> None:
        """Wait for all processes to end, so many seconds in all at most."""
        until = time.monotonic() + seconds
        for worker in self.at.values():
            worker.process.join(max(until - time.monotonic(), 0))


@contextmanager
def workers(count: int, work: Work, arguments: tuple[Any, ...]) -> Iterator[Workers]:
    """Start processes; when the work is done or broken off they end, with a checkpoint, or are killed."""
    started = Workers(count, work, arguments)
    try:
        yield started
        for worker in started.at.values():
            worker.pipe.close()
        started.join(LAST_S)
    finally:
        for worker in started.at.values():
            worker.process.terminate()
        started.join(PATIENCE_S)
        for worker in started.at.values():
            worker.process.kill()
            worker.process.join()


def share(place: int, count: int) -> dict[str, str]:
    """Return the environment of one of `count` workers: its share of CPU threads, and its GPU."""
    import torch  # not in workers, before their share is known

    threads = max(torch.get_num_threads() // count, 1)
    share = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    known = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    devices = [one for one in known if one] or [str(one) for one in range(torch.cuda.device_count())]
    return share | ({"CUDA_VISIBLE_DEVICES": devices[place % len(devices)]} if devices else {})


def _main(work: Work, pipe: Connection, arguments: tuple[Any, ...]) -> None:
    """Work in a process of its own, until the pipe closes, SIGTERM comes, or the parent is gone."""
    log_plainly()
    raise_on_signals(lambda: Stopped("SIGTERM came"))
    threading.Thread(target=_follow, daemon=True).start()
    try:
        with scratch():
            work(pipe, *arguments)
    except (Stopped, KeyboardInterrupt, EOFError):
        return
    except UserError as error:  # such as a store that is away
        print(f"error: {error}", file=sys.stderr)
        sys.exit(SAID_WHY)


def _follow() -> None:
    """End with the process that started this one, even where it was killed: write a checkpoint first."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(PATIENCE_S)
        os._exit(1)
