"""Readings in the order of time: none is moved, dropped or counted twice without a word."""

from collections.abc import Callable

import numpy as np

from kd.base.types import UserError
from kd.data.series.recording import Floats, Times

HOUR = np.timedelta64(3600, "s")
CLOCK_CHANGE = (
    "write times in UTC or with their offset (2026-10-25T02:30+01:00), or leave out one of the two hours in this file"
)


def ordered(
    times: Times, values: Floats, where: Callable[[int], str], any_order: bool = False
) -> tuple[Times, Floats, list[str]]:
    """Return the readings that have a value, in rising order of time, and notes.

    Args:
        times: `(n,)`, as the file has them.
        values: `(n,)`; NaN is a missing value.
        where: File and line of a position, for messages.
        any_order: The format is known to write the newest first, or one device after the other.

    Raises:
        UserError: times fall, occur twice with different values, or repeat an hour, as where a clock is put back.
    """
    places = np.flatnonzero(~np.isnan(values))
    notes = []
    if any_order:
        order = np.argsort(times[places], kind="stable")
        if (np.diff(times[places]) < np.timedelta64(0)).any():
            notes.append("readings were sorted by time")
        places = places[order]
    times, values = times[places], values[places]
    _require_rising(times, where, places)
    equal = np.flatnonzero(np.diff(times) == np.timedelta64(0)) + 1
    other = equal[values[equal] != values[equal - 1]]
    if len(other):
        _refuse_twice(times, values, other, where, places)
    if len(equal):
        notes.append(f"readings that occur twice with one value were dropped ({len(equal)})")
    return np.delete(times, equal), np.delete(values, equal), notes


def _require_rising(times: Times, where: Callable[[int], str], places: np.ndarray) -> None:
    steps = np.diff(times)
    falls = np.flatnonzero(steps < np.timedelta64(0))
    if not len(falls):
        return
    place = int(falls[0]) + 1
    rising = steps[steps > np.timedelta64(0)]
    step = np.median(rising.astype(np.int64)) if len(rising) else 0
    back = int(-steps[place - 1].astype(np.int64))
    if len(falls) <= max(2, len(times) // 100) and abs(back + step - 3600) <= 300:
        raise clock_change(where(int(places[place])), times[place], times[place - 1])
    raise UserError(
        f"{where(int(places[place]))}: its time {times[place]} is before {times[place - 1]}, the one above: sort the "
        "rows by time"
    )


def _refuse_twice(
    times: Times, values: Floats, twice: np.ndarray, where: Callable[[int], str], places: np.ndarray
) -> None:
    first, last = twice[0], twice[-1]
    if len(twice) >= 3 and times[last] - times[first] < HOUR and last - first < 3 * len(twice):
        raise clock_change(where(int(places[first])), times[first], times[last])
    raise UserError(
        f"{where(int(places[first]))}: the time {times[first]} occurs twice, with {values[first - 1]:g} and "
        f"{values[first]:g}: keep one of the two"
    )


def clock_change(where: str, first: np.datetime64, last: np.datetime64) -> UserError:
    """Return what is said of a repeated hour."""
    return UserError(
        f"{where}: the times from {first} to {last} occur twice, as where a clock is put back by an hour "
        f"or two devices wrote: "
        f"{CLOCK_CHANGE}"
    )
