"""What the user sees while a search runs: a bar with the time left, a line a trial, and the parent run's curves."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from kd.base.console import say
from kd.base.terminal import console
from kd.search.lease import RunningTrial
from kd.search.optuna_study import Study
from kd.search.prepare import SearchArm, SearchPlan
from kd.search.retries import ENDED, Attempt, ended
from kd.search.schedule import Goal


def in_words(params: Mapping[str, Any]) -> str:
    """Return parameters in one line."""
    words = {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in params.items()}
    return ", ".join(f"{name} {word}" for name, word in words.items())


def duration(seconds: float) -> str:
    """Return a time as a person says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@dataclass(frozen=True)
class Follower:
    """Shows the trials of all arms as they end, and logs the curves where this process leads.

    `shown` has (study, number) of the attempts that have been shown, or are no news; `bars` are by study.
    """

    plan: SearchPlan
    arms: Sequence[SearchArm]
    goal: Goal
    leads: bool
    progress: Progress
    shown: set[tuple[str, int]]
    bars: dict[str, TaskID] = field(default_factory=dict)

    def update(self) -> None:
        """Show what has ended since the last time."""
        for arm in self.arms:
            attempts, ranked = arm.search.attempts(), arm.search.ranked()
            done, wanted = len(ended(self.goal.slots[arm.name], attempts)), len(self.goal.slots[arm.name])
            outlook = self._outlook(attempts, ranked, wanted - done)
            for one in attempts:
                if one.over and (arm.search.name, one.number) not in self.shown:
                    self.shown.add((arm.search.name, one.number))
                    text = " · ".join(filter(None, (self._state(one), in_words(one.params), outlook)))
                    say(f"{arm.name} trial {one.number} ({done} of {wanted}): {text}")
                    if self.leads and one.state == "complete" and ranked:
                        figure = {f"hpo/{arm.name}/best_{self._first}": ranked[0].values[0]}
                        self.plan.parent.log_metrics(figure, step=one.number)
            self._bar(arm.search, f"{arm.name}: trials", done, wanted, outlook)
            if finals := arm.finals.attempts():
                complete = sum(one.state == "complete" for one in finals)
                self._bar(arm.finals, f"{arm.name}: retraining", complete, len({one.slot for one in finals}), "")

    def step(self, claim: RunningTrial, epoch: int, value: float) -> None:
        """Show how far the trial is that this process runs."""
        bar = self.bars.get(claim.inner.study.study_name)
        if bar is not None:
            self.progress.update(bar, more=f"trial {claim.number}, epoch {epoch}: {self._first} {value:.3f}")

    @property
    def _first(self) -> str:
        return next(iter(self.plan.directions))

    def _bar(self, study: Study, text: str, done: int, of: int, more: str) -> None:
        if study.name not in self.bars:
            self.bars[study.name] = self.progress.add_task(text, total=of, more="")
        self.progress.update(self.bars[study.name], completed=done, total=of, more=more)

    def _outlook(self, attempts: Sequence[Attempt], ranked: Sequence[Attempt], left: int) -> str:
        words = [f"best {self._first} {one.values[0]:.4g} (trial {one.number})" for one in ranked[:1]]
        taken = [one.seconds for one in attempts if one.seconds and one.state in ENDED]
        if taken and left:
            rounds = math.ceil(left / self.plan.config.workers)
            words.append(f"about {duration(rounds * sum(taken) / len(taken))} of trials left")
        return ", ".join(words)

    def _state(self, one: Attempt) -> str:
        found = ", ".join(f"{name} {value:.4g}" for name, value in zip(self.plan.directions, one.values, strict=False))
        state = found if one.state == "complete" else one.state
        if one.state == "failed":
            state += f" ({one.why})"
        return state + ("" if one.feasible else ", outside the constraints")


@contextmanager
def following(plan: SearchPlan, arms: Sequence[SearchArm], goal: Goal, leads: bool) -> Iterator[Follower]:
    """Show bars meanwhile; what earlier commands did is no news."""
    columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
    more = TextColumn("{task.fields[more]}")
    with Progress(*columns, more, console=console, transient=True, disable=not console.is_terminal) as progress:
        shown = {(arm.search.name, one.number) for arm in arms for one in arm.search.attempts() if one.over}
        yield Follower(plan, arms, goal, leads, progress, shown)
