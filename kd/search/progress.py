"""What the user sees while a search runs: a bar with the time left, a line a trial, and the parent run's curves."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from kd import tracking
from kd.base.console import console, say
from kd.search.lease import RunningTrial
from kd.search.optuna_study import Study, Trial
from kd.search.retries import ended
from kd.search.schedule import Goal
from kd.search.trial import Arm


def in_words(params: Mapping[str, Any]) -> str:
    """Return parameters in one line."""
    return ", ".join(
        f"{name} {f'{value:.3g}' if isinstance(value, float) else value}" for name, value in params.items()
    )


def duration(seconds: float) -> str:
    """Return a time as a person says it."""
    minutes = seconds / 60
    if minutes < 1.5:
        return f"{seconds:.0f} s"
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


@dataclass
class Follower:
    """Shows the trials of all arms as they end.

    Attributes:
        arms: the studies.
        goal: what is wanted.
        names: of what is optimised.
        at_once: how many trials run at a time.
        parent: run that takes the curves; None where another process leads.
    """

    arms: Sequence[Arm]
    goal: Goal
    names: Sequence[str]
    at_once: int
    parent: tracking.Run | None
    shown: set[tuple[str, int]] = field(default_factory=set)
    bars: dict[str, TaskID] = field(default_factory=dict)

    def __enter__(self) -> Self:  # noqa: D105
        columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
        self.progress = Progress(
            *columns,
            TextColumn("{task.fields[more]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.progress.start()
        for arm in self.arms:  # what earlier commands did is no news
            earlier = (one for one in arm.search.attempts() if one.state not in ("waiting", "running"))
            self.shown |= {(arm.search.name, one.number) for one in earlier}
        return self

    def __exit__(  # noqa: D105
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def update(self) -> None:
        """Show what has ended since the last time."""
        for arm in self.arms:
            slots = self.goal.slots[arm.name]
            self._report(arm, len(slots))
            done = len(ended(slots, arm.search.attempts()))
            self._bar(arm.search, f"{arm.name}: trials", done, len(slots), self._outlook(arm, len(slots) - done))
            if finals := arm.finals.attempts():
                names = {one.slot for one in finals}
                complete = sum(one.state == "complete" for one in finals)
                self._bar(arm.finals, f"{arm.name}: retraining", complete, len(names), "")

    def step(self, claim: RunningTrial, epoch: int, value: float) -> None:
        """Show how far the trial is that this process runs."""
        bar = self.bars.get(claim.study.name)
        if bar is not None:
            done = f"trial {claim.number}, epoch {epoch}: {self.names[0]} {value:.3f}"
            self.progress.update(bar, more=done)

    def _bar(self, study: Study, text: str, done: int, of: int, more: str) -> None:
        if study.name not in self.bars:
            self.bars[study.name] = self.progress.add_task(text, total=of, more="")
        self.progress.update(self.bars[study.name], completed=done, total=of, more=more)

    def _outlook(self, arm: Arm, left: int) -> str:
        trials = arm.search.trials()
        best = arm.search.ranked()[:1]
        taken = [trial.seconds for trial in trials if trial.seconds and trial.attempt.state in ("complete", "pruned")]
        words = [f"best {self.names[0]} {best[0].values[0]:.4g} (trial {best[0].attempt.number})"] if best else []
        if taken and left:
            rounds = math.ceil(left / self.at_once)
            words.append(f"about {duration(rounds * sum(taken) / len(taken))} of trials left")
        return ", ".join(words)

    def _report(self, arm: Arm, wanted: int) -> None:
        for trial in arm.search.trials():
            key = (arm.search.name, trial.attempt.number)
            if key in self.shown or trial.attempt.state in ("waiting", "running"):
                continue
            self.shown.add(key)
            say(self._line(arm, trial, wanted))
            if self.parent is not None and trial.attempt.state == "complete" and (best := arm.search.ranked()[:1]):
                figure = {f"hpo/{arm.name}/best_{self.names[0]}": best[0].values[0]}
                self.parent.log_metrics(figure, step=trial.attempt.number)

    def _line(self, arm: Arm, trial: Trial, wanted: int) -> str:
        done = len(ended(self.goal.slots[arm.name], arm.search.attempts()))
        found = ", ".join(f"{name} {value:.4g}" for name, value in zip(self.names, trial.values, strict=False))
        state = found if trial.attempt.state == "complete" else trial.attempt.state
        if trial.attempt.state == "failed":
            state += f" ({trial.why})"
        if not trial.feasible:
            state += ", outside the constraints"
        parts = [state, in_words(trial.attempt.params), self._outlook(arm, wanted - done)]
        text = " · ".join(part for part in parts if part)
        return f"{arm.name} trial {trial.attempt.number} ({done} of {wanted}): {text}"
