"""Carrying out a study: every cell that is not finished yet, and how long the rest will take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from kd.base.console import say
from kd.run.execute import Where
from kd.sweep.cells import Cell, Result, carry_out_all, taught_by
from kd.sweep.design import control_of
from kd.sweep.study_plan import Training

OVERHEAD_S = 8.0
"""Guess, before any cell was timed, of what one takes beside training; the real times replace it."""


@dataclass
class TimeLeft:
    """How long the rest will take, by the time that a unit of work has taken.

    Attributes:
        work: of each cell.
        workers: processes that share it.
        guess: seconds a unit of work, until cells have been timed; None where nothing is known.
    """

    work: Sequence[float]
    workers: int
    guess: float | None
    count: int = field(init=False)
    rest: float = field(init=False)
    timed: float = 0.0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        """Start with all of it left."""
        self.count, self.rest = len(self.work), sum(self.work)

    def end(self, number: int, seconds: float | None) -> None:
        """Count a cell that ended; None where it took no time that says anything of the others."""
        self.count, self.rest = self.count - 1, self.rest - self.work[number]
        if seconds is not None:
            self.timed, self.seconds = self.timed + self.work[number], self.seconds + seconds

    @property
    def words(self) -> str:
        """How long the cells that have not ended will take."""
        if self.timed:
            seconds = self.rest * self.seconds / self.timed
        elif self.guess is not None:
            seconds = self.rest * self.guess + self.count * OVERHEAD_S
        else:
            return "an unknown time"
        minutes = seconds / self.workers / 60
        return f"about {minutes:.0f} min" if minutes >= 1.5 else f"about {60 * minutes:.0f} s"


@dataclass
class _Progress:
    """What has become of the cells so far; says so of each."""

    todo: Sequence[Cell]
    left: TimeLeft
    results: dict[int, Result] = field(default_factory=dict)

    def take(self, number: int, result: Result, same_as: int | None = None) -> None:
        """Note what became of a cell; `same_as` is the cell whose training it shares."""
        self.results[number] = result
        timed = not (result.reused or result.failure) and same_as is None
        self.left.end(number, result.seconds if timed else None)
        ended = "finished before" if result.reused else f"{result.seconds:.0f} s"
        ended = f"failed: {result.failure}" if result.failure else ended
        ended = ended if same_as is None else f"the same training as {self.todo[same_as].words}"
        rest = f"{self.left.words} left" if len(self.results) < len(self.todo) else "now costs and report"
        say(f"{len(self.results)}/{len(self.todo)} {self.todo[number].words}: {ended}; {rest}")


def carry_out_study(
    todo: Sequence[Cell], trainings: Sequence[Training], where: Where, workers: int, guess: float | None
) -> list[Result]:
    """Carry out all cells, reporting after each how long the rest will take.

    Args:
        todo: the cells.
        trainings: what planning has shown of each.
        where: their runs go.
        workers: processes that share the cells.
        guess: seconds a unit of work; None where nothing is known.
    """
    progress = _Progress(todo, TimeLeft([one.work for one in trainings], workers, guess))
    say(f"{len(todo)} trainings take {progress.left.words}, less what is finished already")
    taught = {number: cell for number, cell in enumerate(todo) if not cell.self_trained}
    _carry_out(taught, {number: trainings[number].key for number in taught}, where, workers, progress)
    controls = {tuple(cell.levels.items()): progress.results[number] for number, cell in taught.items()}
    self_taught = {}
    for number, cell in enumerate(todo):
        if cell.self_trained:
            control = controls[tuple(control_of(cell.levels).items())]
            if control.failure:
                progress.take(number, Result(failure="its control failed"))
            else:
                self_taught[number] = taught_by(cell, control.model)
    _carry_out(self_taught, {n: str(cell.config) for n, cell in self_taught.items()}, where, workers, progress)
    if reused := sum(result.reused for result in progress.results.values()):
        say(f"{reused} of {len(todo)} trainings were finished before, and were not done again")
    return [progress.results[number] for number in range(len(todo))]


def _carry_out(
    cells: Mapping[int, Cell], keys: Mapping[int, str], where: Where, workers: int, progress: _Progress
) -> None:
    """Carry out cells, of those with the same key one: two processes cannot be at the same training."""
    first: dict[str, int] = {}
    shared: dict[int, list[int]] = {}
    for number in cells:
        shared.setdefault(first.setdefault(keys[number], number), []).append(number)
    for number, result in carry_out_all({one: cells[one] for one in shared}, where, workers):
        for one in shared[number]:
            progress.take(
                one, replace(result, seconds=0.0) if one != number else result, number if one != number else None
            )
