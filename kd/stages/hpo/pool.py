"""The processes of this machine that run trials: this one, or several beside it."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event
from typing import Any, NoReturn

import torch

from kd.stages import log_plainly
from kd.stages.console import say
from kd.stages.hpo.trials import Arm, Bench, Show, final_trial, search_trial
from kd.types import Stopped, UserError

PATIENCE_S = 60
"""How long a process that is told to stop may take to write its checkpoint."""
LAST_S = 10
"""How long one may take, when all is done, to close its last run."""
BEGUN = ("running", "complete", "pruned")
Open = Callable[..., AbstractContextManager[tuple[Bench, list[Arm]]]]
"""Opens the search in another process, from arguments that can be sent there."""


def run_one(bench: Bench, arms: Sequence[Arm], show: Show) -> bool:
    """Run one trial that waits, if there is one: of the arm that has had fewer, lest a time limit starve the other."""
    for arm in sorted(arms, key=lambda one: sum(each.state in BEGUN for each in one.search.attempts())):
        if (claim := arm.search.claim()) is not None:
            search_trial(bench, arm, claim, show)
            return True
        if (claim := arm.finals.claim()) is not None:
            final_trial(bench, arm, claim, show)
            return True
    return False


@contextmanager
def workers(count: int, opened: Open, arguments: tuple[Any, ...]) -> Iterator[Callable[[], None]]:
    """Have `count` processes run trials meanwhile; yields a check of them.

    Raises:
        UserError: all of them are gone.
    """
    context = multiprocessing.get_context("spawn")
    over = context.Event()
    processes = []
    kept = dict(os.environ)
    try:
        for place in range(count):
            os.environ.update(_share(place, count))
            processes.append(context.Process(target=_work, args=(opened, arguments, over), daemon=True))
            processes[-1].start()
    finally:
        os.environ.clear()
        os.environ.update(kept)

    def check() -> None:
        for process in [each for each in processes if each.exitcode is not None]:
            processes.remove(process)
            say(f"Warning: a worker has ended (exit code {process.exitcode}); {len(processes)} go on")
        if not processes:
            raise UserError(
                "all workers have ended, and said above why (exit code -9 may mean too little memory: give fewer "
                "workers); what ended is kept, and the same command again goes on"
            )

    try:
        yield check
        over.set()
        _join(processes, LAST_S)
    finally:
        _end(processes)


def _share(place: int, count: int) -> dict[str, str]:
    """Return the environment of one of `count` workers: its share of CPU threads, and its GPU."""
    threads = max(torch.get_num_threads() // count, 1)
    share = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    known = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    devices = [one for one in known if one] or [str(one) for one in range(torch.cuda.device_count())]
    return share | ({"CUDA_VISIBLE_DEVICES": devices[place % len(devices)]} if devices else {})


def _end(processes: Sequence[SpawnProcess]) -> None:
    for process in processes:
        process.terminate()  # SIGTERM: a trial writes its checkpoint first
    _join(processes, PATIENCE_S)
    for process in processes:
        if process.exitcode is None:
            process.kill()
            process.join()


def _join(processes: Sequence[SpawnProcess], seconds: float) -> None:
    until = time.monotonic() + seconds
    for process in processes:
        process.join(max(until - time.monotonic(), 0))


def _work(opened: Open, arguments: tuple[Any, ...], over: Event) -> None:
    """Run trials until it is over, or the process that started this one is gone."""
    log_plainly()
    signal.signal(signal.SIGTERM, _stop)
    try:
        _work_until(opened, arguments, over)
    except (Stopped, KeyboardInterrupt):
        return
    except UserError as error:  # as of a store that is away
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _work_until(opened: Open, arguments: tuple[Any, ...], over: Event) -> None:
    parent = multiprocessing.parent_process()
    with opened(*arguments) as (bench, arms):
        while not over.is_set() and (parent is None or parent.is_alive()):
            if not run_one(bench, arms, lambda *_: None):
                over.wait(0.5)


def _stop(*_: Any) -> NoReturn:
    raise Stopped("SIGTERM came")
