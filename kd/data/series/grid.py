"""Recordings on a regular grid: every reading at the nearest point, a missing one is NaN."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kd.base.types import UserError
from kd.data.series.events import on_grid
from kd.data.series.ordered import clock_change
from kd.data.series.recording import Floats, PartName, Recording

MOST_POINTS = 50_000_000
EMPTY = 1000
"""From so many points a reading on a time must be wrong."""
TOLERANCE = 0.25
"""Of a step: what is nearer to a multiple of it counts as one."""
IRREGULAR = 0.35
"""Share of differences beyond the tolerance from which there is no common step; where times are by chance it is 0.5."""


@dataclass(frozen=True)
class Grid:
    """One patient's values at regular times."""

    item: str
    split: PartName
    source: str
    start: int
    """Time of the first point, in seconds since 1970."""
    step: int
    """Seconds from one point to the next."""
    values: Floats
    """`(points,)`; NaN where nothing was measured."""
    covariates: Floats
    """`(points, covariates)`: what happened since the point before, or the level; NaN where that is not known."""
    notes: tuple[str, ...] = ()

    def times(self, points: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the seconds since 1970 of points."""
        return self.start + self.step * points


def common_step(recordings: Sequence[Recording], minutes: float) -> int:
    """Return the seconds between two points: `minutes`, or where these are 0 the commonest difference of the data.

    Raises:
        UserError: a recording has another step, or none; the text names file and patient.
    """
    if minutes and (minutes * 60 % 1 or minutes * 60 < 1):
        raise UserError(f"step_minutes={minutes:g}: is no whole number of seconds: give such as 5")
    first, step = "", round(minutes * 60)
    for one in recordings:
        if len(one.times) < 2:
            raise UserError(f"{_named(one)} has only {len(one.times)} reading: give a longer series")
        differences = np.diff(one.times).astype(np.int64)
        own = _commonest(differences)
        first, step = (first, step) if step else (_named(one), own)
        if abs(own - step) > TOLERANCE * step:
            said = f"{first} one" if first else f"step_minutes={minutes:g} says one"
            raise UserError(
                f"{_named(one)} has a value every {_words(own)}, but {said} every {_words(step)}: give data of "
                "one rate, or the step_minutes that they have"
            )
        steps = differences / step
        share = float(np.mean(np.abs(steps - np.maximum(1, np.round(steps))) > TOLERANCE))
        if share > IRREGULAR:
            raise UserError(
                f"{_named(one)} has no regular times: {share:.0%} of the differences are no multiple of "
                f"{_words(step)}, the commonest: give values at one rate"
            )
    return step


def _named(one: Recording) -> str:
    return f"{one.source}: patient {one.item}"


def _words(seconds: int) -> str:
    return f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds} s"


def _commonest(differences: npt.NDArray[np.int64]) -> int:
    """Return the commonest difference in seconds; to the minute where clocks are not exact."""
    for each in (differences, np.maximum(1, np.round(differences / 60)).astype(np.int64) * 60):
        values, counts = np.unique(each, return_counts=True)
        if counts.max() * 2 >= len(each) or each is not differences:
            return int(values[counts.argmax()])
    raise AssertionError("the second always returns")


def gridded(recording: Recording, step: int, covariates: Sequence[str]) -> Grid:
    """Put a recording on the grid that is nearest to its readings; of two at one point the nearer counts.

    Args:
        recording: With strictly rising times.
        step: Seconds from one point to the next.
        covariates: Names of those that are wanted, in this order.

    Raises:
        UserError: all values are equal, an hour occurs twice, or a time is far from all others.
    """
    seconds, values = recording.times.astype("datetime64[s]").astype(np.int64), recording.values
    if len(values) and values.min() == values.max():
        raise UserError(f"{_named(recording)} has nothing but the value {values[0]:g}: give a series that changes")
    turns = np.exp(2j * np.pi * (seconds % step) / step).mean()
    phase = round(float(np.angle(turns)) / (2 * np.pi) * step) % step
    places = (seconds - phase + step // 2) // step
    points = int(places[-1] - places[0]) + 1
    if points > MOST_POINTS or (points > 1_000_000 and points > EMPTY * len(values)):
        raise UserError(
            f"{_named(recording)} has {len(values)} readings from {recording.times[0]} to {recording.times[-1]}: one "
            "of these times must be wrong"
        )
    start = int(places[0]) * step + phase
    places = places - places[0]
    off = np.abs(seconds - start - places * step)
    order = np.lexsort((off, places))
    kept = order[np.append(True, np.diff(places[order]) > 0)]
    _require_one_clock(recording, places, step)
    found = np.full(points, np.nan)
    found[places[kept]] = values[kept]
    twice = len(places) - len(kept)
    note = f"{recording.source}: of two readings at one point of the grid the nearer is used ({twice} times)."
    times = start + step * np.arange(points)
    beside = [on_grid(recording.covariates.get(name), times, step) for name in covariates]
    table = np.stack(beside, axis=1) if beside else np.empty((points, 0))
    return Grid(recording.item, recording.split, recording.source, start, step, found, table, (note,) if twice else ())


def _require_one_clock(recording: Recording, places: npt.NDArray[np.int64], step: int) -> None:
    """Refuse an hour that has nearly all its points twice."""
    hour = max(1, 3600 // step)
    twice = places[1:][np.diff(places) == 0]
    least = max(3, int(0.75 * hour))
    if len(twice) < least:
        return
    spans = twice[least - 1 :] - twice[: len(twice) - least + 1]
    if (spans < hour).any():
        first = int(np.argmax(spans < hour))
        at = [recording.times[np.searchsorted(places, twice[place])] for place in (first, first + least - 1)]
        raise clock_change(_named(recording), at[0], at[1])
