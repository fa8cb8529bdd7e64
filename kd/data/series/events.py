"""What happened beside the values, on the grid of the values: nothing is known before it happens."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from kd.data.series.recording import Events, Floats

Seconds = npt.NDArray[np.int64]


def joined(events: list[Events]) -> Events:
    """Join what several recordings of a patient have of one covariate; a rate holds into the next one.

    What two of them have alike happened once.
    """
    if len(events) == 1:
        return events[0]
    columns = ["start", "end", "amount"]
    tables = [pd.DataFrame(dict(zip(columns, (one.starts, one.ends, one.amounts), strict=True))) for one in events]
    numbered = [table.assign(time=table.groupby(columns, dropna=False).cumcount()) for table in tables]
    table = pd.concat(numbered).drop_duplicates().sort_values("start", kind="stable")
    starts, ends = (table[name].to_numpy("datetime64[s]") for name in columns[:2])
    return Events(starts, ends, table["amount"].to_numpy(np.float64), events[0].kind)


def on_grid(events: Events | None, times: Seconds, step: int) -> Floats:
    """Return a covariate at each point: the amount since the point before, or the level.

    An amount counts from the first point that is not before it. A level counts from the point that its time is nearest
    to, as the reading does that it was written with.

    Args:
        events: None where nothing happened.
        times: `(points,)`, seconds since 1970.
        step: Seconds from one point to the next.

    Returns:
        `(points,)`; NaN where a rate or level is not known yet.
    """
    if events is None or not len(events.starts):
        return np.zeros(len(times))
    starts = events.starts.astype("datetime64[s]").astype(np.int64)
    ends = events.ends.astype("datetime64[s]").astype(np.int64)
    if events.kind == "level":
        places = np.searchsorted(starts, times + step // 2, "right") - 1
        return np.where(places >= 0, events.amounts[places], np.nan)
    edges = np.append(times[0] - step, times)
    if events.kind == "rate":
        ends = np.minimum(ends, np.append(starts[1:], ends[-1]))
        first = np.searchsorted(times, starts[0])
        starts[0] = edges[first] if first < len(times) else starts[0]  # of its first step no other rate is known
        found = np.diff(_integral(starts, ends, np.nan_to_num(events.amounts) / 3600, edges))
        unknown = np.diff(_integral(starts, ends, np.isnan(events.amounts) / 1.0, edges)) > 0
        return np.where(unknown | (times - step < starts[0]), np.nan, found)
    spread = ends > starts
    lengths = np.maximum(1, ends - starts)[spread]
    found = np.diff(_integral(starts[spread], ends[spread], events.amounts[spread] / lengths, edges))
    places = np.searchsorted(times, starts[~spread])
    within = (places < len(times)) & (starts[~spread] > edges[0])
    np.add.at(found, places[within], events.amounts[~spread][within])
    return found


def _integral(starts: Seconds, ends: Seconds, rates: Floats, times: Seconds) -> Floats:
    """Return what flowed until each time, of flows that may overlap, each at a steady rate."""
    if not len(starts):
        return np.zeros(len(times))
    changes = np.concatenate([starts, ends])
    order = np.argsort(changes, kind="stable")
    changes, slopes = changes[order], np.cumsum(np.concatenate([rates, -rates])[order])
    amounts = np.append(0, np.cumsum(slopes[:-1] * np.diff(changes)))
    found: Floats = np.interp(times, changes, amounts)
    return found
