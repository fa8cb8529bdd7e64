"""The processes of this machine that run trials: this one, or several beside it."""

import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.synchronize import Event
from typing import Any, NoReturn

from kd.base.console import log_plainly, say
from kd.base.types import Stopped, UserError
from kd.search.trial import Arm, Bench, Show, final_trial, search_trial
from kd.sweep.workers import end, join, started

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
    over = multiprocessing.get_context("spawn").Event()
    processes = [started(place, count, _work, (opened, arguments, over)) for place in range(count)]

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
        join(processes, LAST_S)
    finally:
        end(processes)


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
