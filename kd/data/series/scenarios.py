"""What may be done to a model's inputs: noise, smoothing, removal. Targets stay as they were measured."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kd.base.hashing import text_digest
from kd.config.series import ScenarioName
from kd.data.series.grid import Grid
from kd.data.series.recording import Floats

NEWEST = 0.5
"""Weight of the newest value in the causal filter; those before it share the rest, each half of the one after it."""


@dataclass(frozen=True)
class Severity:
    """How much is done."""

    sd: float
    """Of the noise, in the unit of the grids."""
    share: float
    """Of the values that are removed."""
    longest: int
    """Points of the longest gap that is filled."""
    seed: int


def inputs(grid: Grid, scenario: ScenarioName, severity: Severity) -> Floats:
    """Return what a model is shown of a grid's values, `(points,)`, NaN where it is shown nothing.

    The same for one seed, patient and recording, whatever part of it is used; no value depends on a later one. The
    first value is never removed, so that there is one before each that is.
    """
    if scenario == "clean":
        return grid.values
    key = int(text_digest("\n".join([scenario, grid.item, grid.split]))[:16], 16)
    found = CHANGES[scenario](grid.values, severity, np.random.default_rng([severity.seed, key]))
    if len(there := np.flatnonzero(~np.isnan(grid.values))) and np.isnan(found[there[0]]):
        found[there[0]] = grid.values[there[0]]
    return found


def _noisy(values: Floats, severity: Severity, rng: np.random.Generator) -> Floats:
    return values + rng.normal(0, severity.sd, len(values))


def _denoised(values: Floats, severity: Severity, rng: np.random.Generator) -> Floats:
    """Smooth exponentially, anew after a gap that is not filled."""
    there = np.flatnonzero(~np.isnan(values))
    stretch = np.cumsum(np.append(0, np.diff(there) - 1 > severity.longest))
    means = pd.Series(values[there]).groupby(stretch).ewm(alpha=NEWEST, adjust=False).mean()
    found = values.copy()
    found[there] = means.to_numpy()
    return found


def _missing(values: Floats, severity: Severity, rng: np.random.Generator) -> Floats:
    return np.where(rng.random(len(values)) < severity.share, np.nan, values)


def _blocks(values: Floats, severity: Severity, rng: np.random.Generator) -> Floats:
    """Remove blocks of 1 point to the longest gap, apart from each other, so that the wanted share goes."""
    mean = (1 + severity.longest) / 2
    apart = mean * (1 - severity.share) / severity.share
    count = int(2 * len(values) / (mean + apart)) + 100
    lengths = rng.integers(1, max(1, severity.longest) + 1, count)
    spaces = rng.geometric(min(1.0, 1 / apart), count)
    ends = np.cumsum(lengths + spaces)
    marks = np.zeros(max(int(ends[-1]), len(values)) + 1)
    marks[ends - lengths] += 1
    marks[ends] -= 1
    return np.where(np.cumsum(marks)[: len(values)] > 0, np.nan, values)


CHANGES: dict[ScenarioName, Callable[[Floats, Severity, np.random.Generator], Floats]] = {
    "noisy": _noisy,
    "denoised": _denoised,
    "missing": _missing,
    "missing-blocks": _blocks,
}
"""What each scenario does to the values of a recording."""
