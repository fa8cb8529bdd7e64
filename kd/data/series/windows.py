"""Windows of a history and a horizon, cut from stretches of a grid by numpy alone."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from numpy.lib.stride_tricks import sliding_window_view

from kd.data.series.parts import Stretch
from kd.data.series.recording import Floats

Points = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Shape:
    """What a window is, in points of the grid."""

    history: int
    horizon: int
    longest: int
    """Longest gap that is filled."""
    ahead: tuple[int, ...] = ()
    """Which covariates are known over the horizon."""

    @property
    def window(self) -> int:
        """Points of history and horizon."""
        return self.history + self.horizon


@dataclass(frozen=True)
class Cut:
    """The windows of one stretch."""

    table: pa.Table
    candidates: int
    """Windows there would be without gaps."""
    filled: int
    """Points of the histories that were filled, each counted once."""


def cut(stretch: Stretch, shown: Floats, shape: Shape, stride: int, future: bool, targets: bool) -> Cut:
    """Cut the windows of a stretch that cross no long gap.

    A history begins with a measured value. What is not shown of it is filled: by the value before, or with `future` on
    the line between the two values beside, where the later one is in the history. Which windows there are does not
    depend on what is shown, so that models can be compared that are shown the same windows otherwise.

    Args:
        stretch: Where windows lie, all of them.
        shown: `(points of the whole grid,)`, what a model is shown of its values; NaN where nothing.
        shape: Lengths.
        stride: Points from one window to the next.
        future: Whether gaps may be filled by what follows.
        targets: Whether windows need all their targets; without, they have no column of them.

    Returns:
        The table in the order of time; see `kd.data.series.load` for its columns.
    """
    grid, part = stretch.grid, slice(stretch.first, stretch.last)
    truth, beside = grid.values[part], grid.covariates[part]
    starts = np.arange(0, max(0, len(truth) - shape.window + 1), stride)
    measured = ~np.isnan(truth)
    ends = starts + shape.history
    fits = measured[starts] & (_count(_missing_so_far(measured) > shape.longest, starts, ends) == 0)
    run = _missing_so_far(~np.isnan(shown))  # from before the stretch on, which is past too
    held, line = _filled(shown, run)
    held, line, run = held[part], line[part], run[part]
    fits &= ~np.isnan(held[starts])
    there = run == 0
    fits &= _count(np.isnan(beside).any(axis=1), starts, ends) == 0
    if shape.ahead:
        unknown = np.isnan(beside[:, shape.ahead]).any(axis=1)
        fits &= _count(unknown, ends, ends + shape.horizon) == 0
    if targets:
        fits &= _count(np.isnan(truth), ends, ends + shape.horizon) == 0
    kept = starts[fits]
    columns = {
        **_named(stretch, kept + shape.history - 1),
        "history": _lists(_histories(held, line if future else held, run, beside, kept, shape.history)),
        "ahead": _lists(_windows(beside[:, shape.ahead], kept + shape.history, shape.horizon)),
        "filled": pa.array(_count(~there, kept, kept + shape.history)),
    }
    if targets:
        columns["target"] = _lists(_windows(truth[:, None], kept + shape.history, shape.horizon))
    covered = np.zeros(len(truth) + 1, np.int64)
    np.add.at(covered, kept, 1)
    np.add.at(covered, kept + shape.history, -1)
    filled = int((~there & (np.cumsum(covered)[:-1] > 0)).sum())
    return Cut(pa.table(columns), len(starts), filled)


def _missing_so_far(there: npt.NDArray[np.bool_]) -> Points:
    """Return at each point how many in a row, up to and with it, are missing."""
    places = np.arange(len(there))
    last: Points = np.maximum.accumulate(np.where(there, places, -1))
    return places - last


def _count(marks: Any, starts: Points, ends: Points) -> Points:
    """Return how many points are marked from each start to before each end."""
    total: Points = np.append(0, np.cumsum(marks))
    found: Points = total[ends] - total[starts]
    return found


def _windows(table: Floats, starts: Points, length: int) -> Floats:
    """Return `(windows, length x columns)`, point by point."""
    if not len(starts):
        return np.empty((0, length * table.shape[1]))
    views = sliding_window_view(table, length, axis=0)[starts]  # (windows, columns, length)
    return views.transpose(0, 2, 1).reshape(len(starts), length * table.shape[1])


def _filled(shown: Floats, run: Points) -> tuple[Floats, Floats]:
    """Return values with gaps filled by the value before, and on the line between the values beside."""
    places = np.arange(len(shown))
    there = np.flatnonzero(run == 0)
    line = np.interp(places, there, shown[there]) if len(there) else shown
    return shown[np.maximum(0, places - run)], line


def _histories(held: Floats, line: Floats, run: Points, beside: Floats, starts: Points, length: int) -> Floats:
    """Return `(windows, length x (1 + covariates))`, gaps filled: on the line up to a history's last shown value."""
    last = starts + length - 1
    closed = np.arange(length) <= (last - run[last] - starts)[:, None]
    values = np.where(closed, _windows(line[:, None], starts, length), _windows(held[:, None], starts, length))
    if not beside.shape[1]:
        return values
    others = _windows(beside, starts, length).reshape(len(starts), length, beside.shape[1])
    return np.concatenate([values[:, :, None], others], axis=2).reshape(len(starts), length * (1 + beside.shape[1]))


def _lists(values: Floats) -> pa.Array:
    """Return one list of float32 a row."""
    rows, width = values.shape
    flat = pa.array(values.astype(np.float32).ravel(), pa.float32())
    return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32) * width, pa.int32()), flat)


def _named(stretch: Stretch, last: Points) -> dict[str, pa.Array]:
    """Return what says whose a window is, and when its history ends."""
    grid = stretch.grid
    seconds = grid.times(last + stretch.first)
    texts = pa.array(np.datetime_as_string(seconds.astype("datetime64[s]")).astype(object), pa.string())
    item = pa.scalar(grid.item, pa.string())
    return {
        "example_id": pc.binary_join_element_wise(item, texts, "/"),
        "group": pc.binary_join_element_wise(item, pc.utf8_slice_codeunits(texts, 0, 10), " "),
        "patient": pa.array([grid.item] * len(last), pa.string()),
        "time": pa.array(seconds, pa.int64()),
        "step": pa.array(np.full(len(last), grid.step), pa.int64()),
    }
