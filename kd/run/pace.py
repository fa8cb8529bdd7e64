"""How far a command is that trains several models, and how long the rest will take."""

import time
from dataclasses import dataclass, field
from statistics import median

from kd.base.console import in_time, say


@dataclass
class Pace:
    """How many of its trainings a command has done, and how long its students took, in s; a teacher takes longer."""

    total: int
    done: int = 0
    seconds: list[float] = field(default_factory=list)

    def begin(self, title: str) -> float:
        """Say which training begins, and how long this and the others will take; returns when it began."""
        left = median(self.seconds) * (self.total - self.done) if self.seconds else None
        say(f"Training {self.done + 1} of {self.total}{f', {in_time(left)} left' if left else ''}: {title}")
        return time.perf_counter()

    def end(self, began: float | None = None) -> None:
        """Count a training; without `began` one that had been done before."""
        self.done += 1
        if began is not None:
            self.seconds.append(time.perf_counter() - began)
