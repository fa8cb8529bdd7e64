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
        work: of each cell that has not ended, by its number.
        workers: processes that share it.
        guess: seconds a unit of work, until cells have been timed; None where nothing is known.
    """

    work: dict[int, float]
    workers: int
    guess: float | None
    timed: float = 0.0
    seconds: float = 0.0

    def end(self, number: int, seconds: float | None) -> None:
        """Count a cell that ended; None where it took no time that says anything of the others."""
        work = self.work.pop(number)
        if seconds is not None:
            self.timed, self.seconds = self.timed + work, self.seconds + seconds

    @property
    def words(self) -> str:
        """How long the cells that have not ended will take."""
        rest = sum(self.work.values())
        if self.timed:
            seconds = rest * self.seconds / self.timed
        elif self.guess is not None:
            seconds = rest * self.guess + len(self.work) * OVERHEAD_S
        else:
            return "an unknown time"
        minutes = seconds / self.workers / 60
        return f"about {minutes:.0f} min" if minutes >= 1.5 else f"about {60 * minutes:.0f} s"


@dataclass
class _Study:
    """The cells, where and by how many workers they are carried out, and what has become of them so far."""

    todo: Sequence[Cell]
    where: Where
    left: TimeLeft
    results: dict[int, Result] = field(default_factory=dict)

    def carry_out(self, cells: Mapping[int, Cell], keys: Mapping[int, str]) -> None:
        """Carry out cells, of those with the same key one: two processes cannot be at the same training."""
        same: dict[str, list[int]] = {}
        for number in cells:
            same.setdefault(keys[number], []).append(number)
        shared = {first: others for first, *others in same.values()}
        for number, result in carry_out_all({one: cells[one] for one in shared}, self.where, self.left.workers):
            timed = not (result.reused or result.failure)
            took = "finished before" if result.reused else f"{result.seconds:.0f} s"
            self.take(number, result, took, result.seconds if timed else None)
            for other in shared[number]:
                self.take(other, replace(result, seconds=0.0), f"the same training as {self.todo[number].words}")

    def take(self, number: int, result: Result, ended: str = "", seconds: float | None = None) -> None:
        """Note what became of a cell, and say so; `seconds` where it took time that says something of the others."""
        self.results[number] = result
        self.left.end(number, seconds)
        ended = f"failed: {result.failure}" if result.failure else ended
        rest = f"{self.left.words} left" if self.left.work else "now costs and report"
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
    left = TimeLeft({number: one.work for number, one in enumerate(trainings)}, workers, guess)
    study = _Study(todo, where, left)
    say(f"{len(todo)} trainings take {left.words}, less what is finished already")
    taught = {number: cell for number, cell in enumerate(todo) if not cell.self_trained}
    study.carry_out(taught, {number: trainings[number].key for number in taught})
    controls = {tuple(cell.levels.items()): study.results[number] for number, cell in taught.items()}
    self_taught = {}
    for number, cell in enumerate(todo):
        if cell.self_trained:
            control = controls[tuple(control_of(cell.levels).items())]
            if control.failure:
                study.take(number, Result(failure="its control failed"))
            else:
                self_taught[number] = taught_by(cell, control.model)
    study.carry_out(self_taught, {number: str(cell.config) for number, cell in self_taught.items()})
    if reused := sum(result.reused for result in study.results.values()):
        say(f"{reused} of {len(todo)} trainings were finished before, and were not done again")
    return [study.results[number] for number in range(len(todo))]
