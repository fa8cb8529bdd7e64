"""Running trials: one here, or one after another in several processes of this machine."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.connection import Connection
from typing import Any

from kd.base.console import say
from kd.base.types import UserError
from kd.search.trial import Arm, Context, Show, final_trial, search_trial
from kd.sweep.workers import SAID_WHY, workers

POLL_S = 0.5
DEATHS = 3
"""How many times a worker that dies is replaced, times the number of workers: the cause may be the machine's."""
BEGUN = ("running", "complete", "pruned")
Open = Callable[..., AbstractContextManager[tuple[Context, list[Arm]]]]
"""Opens the search in another process, from arguments that can be sent there."""


def run_one(context: Context, arms: Sequence[Arm], show: Show) -> bool:
    """Run one trial that waits, if there is one: of the arm that has had fewer, so that time is shared by the arms."""
    for arm in sorted(arms, key=lambda one: sum(each.state in BEGUN for each in one.search.attempts())):
        if (claim := arm.search.claim()) is not None:
            search_trial(context, arm, claim, show)
            return True
        if (claim := arm.finals.claim()) is not None:
            final_trial(context, arm, claim, show)
            return True
    return False


@contextmanager
def trial_workers(count: int, opened: Open, arguments: tuple[Any, ...]) -> Iterator[Callable[[], None]]:
    """Have `count` processes run trials meanwhile; yields a check that replaces those that died.

    Raises:
        UserError: all of them are gone.
    """
    deaths = 0
    with workers(count, _run_trials, (opened, arguments)) as started:

        def check() -> None:
            nonlocal deaths
            for place, code in started.dead().items():
                deaths += 1
                if code != SAID_WHY and deaths <= DEATHS * count:
                    say(f"Warning: a worker has ended (exit code {code}); another one takes its place")
                    started.start(place)
                else:
                    del started.at[place]
                    say(f"Warning: a worker has ended (exit code {code}); {len(started.at)} continue")
            if not started.at:
                raise UserError(
                    "all workers have ended, and said above why (exit code -9 may mean too little memory: give fewer "
                    "workers); what ended is kept, and the same command again continues"
                )

        yield check


def _run_trials(pipe: Connection, opened: Open, arguments: tuple[Any, ...]) -> None:
    """Run trials until the pipe closes, through which nothing is sent."""
    with opened(*arguments) as (context, arms):
        while not pipe.poll():
            if not run_one(context, arms, lambda *_: None):
                pipe.poll(POLL_S)
