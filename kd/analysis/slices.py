"""What single examples and steps add to a table of means: slices, per-seed tests, curves. Pure."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
import numpy.typing as npt
import pandas as pd

from kd.analysis.statistics import PairedDifference, bounded, of_difference, paired_difference, seed_means
from kd.base.harmless import harmless
from kd.base.judge import UNBOUNDED, Bounds

MIN_EXAMPLES = 30
"""Fewest examples of a slice that is looked at: fewer say little."""
MOST_VALUES = 100
"""Values of one text column that become slices, the most frequent ones."""
QUANTILES = 4
"""Slices of equal size that a column of numbers is cut into."""

Quality = Callable[[pd.DataFrame], float]
Score = Callable[[npt.NDArray[np.int64]], float]
"""A run's metric on the examples at these positions."""
Curve = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Slice:
    """A part of the test set.

    Attributes:
        column: of the predictions.
        value: of the column, or a range of numbers.
        examples: how many there are.
        arm: the metric on the slice, mean over pairs.
        against: that of the runs it is compared with.
        difference: arm minus those, by seed.
    """

    column: str
    value: str
    examples: int
    arm: float
    against: float
    difference: PairedDifference


@dataclass(frozen=True)
class Fairness:
    """How far a model's quality differs between the groups of a column.

    Attributes:
        column: of the predictions.
        worst: the group on which the metric is worst.
        best: that on which it is best.
        worst_value: the metric there, mean over runs.
        best_value: likewise.
        ratio: the larger of these two values by the smaller, 1 where all groups are alike; None where one is not
            above 0.
        groups: how many are compared.
        left_out: how many are not, for too few examples or a metric that is not finite there.
    """

    column: str
    worst: str
    best: str
    worst_value: float
    best_value: float
    ratio: float | None
    groups: int
    left_out: int


@dataclass(frozen=True)
class SeedTest:
    """A paired test over the examples of one seed, for information: name, two-sided p from 0 to 1."""

    seed: int
    test: str
    p: float


@dataclass(frozen=True)
class Details:
    """What artifacts say of one table's arms, by the arm's key.

    Attributes:
        slices: of each arm that is compared with something, the worst for the arm first.
        churn: shares of examples with another answer than that of what the arm is compared with, mean of pairs.
        tests: one a seed.
        curves: by seed and run, (step, validation metric) points.
        fairness: of each arm by column, the largest ratio first.
        predictions: whole ones of one run, of some arms, where the task has pictures of them.
    """

    slices: Mapping[str, tuple[Slice, ...]] = field(default_factory=dict)
    tests: Mapping[str, tuple[SeedTest, ...]] = field(default_factory=dict)
    curves: Mapping[str, tuple[Curve, ...]] = field(default_factory=dict)
    churn: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    fairness: Mapping[str, tuple[Fairness, ...]] = field(default_factory=dict)
    predictions: Mapping[str, pd.DataFrame] = field(default_factory=dict)


def slices_of(predictions: pd.DataFrame, column: str) -> dict[str, npt.NDArray[np.int64]]:
    """Cut a test set by a column: numbers into quartiles, anything else by value.

    Returns:
        Positions of the rows of each slice of at least `MIN_EXAMPLES` examples, by value. Missing values and
        infinities are in no slice. A column with one value gives nothing.
    """
    names = _names(predictions, column)
    counts = names.value_counts()
    if len(counts) < 2:
        return {}
    codes, known = pd.factorize(names)
    place = {str(name): code for code, name in enumerate(known)}
    kept = sorted(str(name) for name in counts.index[:MOST_VALUES] if counts[name] >= MIN_EXAMPLES)
    rows = names.index.to_numpy()
    return {name: rows[codes == place[name]] for name in kept}


def _names(predictions: pd.DataFrame, column: str) -> pd.Series:
    """Name the slice of each row that is in one, by its position."""
    values = predictions[column].reset_index(drop=True)
    number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    values = values[np.isfinite(values.to_numpy(dtype=float, na_value=np.nan))] if number else values.dropna()
    return _ranges(values) if number and values.nunique() > QUANTILES else values.astype(str)


def _ranges(numbers: pd.Series) -> pd.Series:
    """Name for each number the quartile it falls into, by the least and the greatest number there."""
    quartiles = pd.qcut(numbers.astype(float), QUANTILES, labels=False, duplicates="drop")
    ends = numbers.groupby(quartiles).agg(["min", "max"])
    written = [(f"{least:.10g}", f"{greatest:.10g}") for least, greatest in zip(ends["min"], ends["max"], strict=True)]
    names = [least if least == greatest else f"{least} to {greatest}" for least, greatest in written]
    return quartiles.map(dict(zip(ends.index, names, strict=True)))


def slice_differences(
    predictions: pd.DataFrame,
    columns: Iterable[str],
    pairs: Sequence[tuple[int, Score, Score]],
    higher_is_better: bool,
    bounds: Bounds = UNBOUNDED,
) -> list[Slice]:
    """Return the differences of an arm on every slice, the arm's worst slice first.

    Args:
        predictions: to slice, of one of the runs.
        columns: to slice by; one that the predictions do not have is passed over.
        pairs: (seed, metric of the arm, metric of the other) on the same examples in the same order.
        higher_is_better: the metric's direction.
        bounds: of its values. A slice on which it is not finite is left out.
    """
    found = []
    for column in (name for name in columns if name in predictions.columns):
        for value, rows in slices_of(predictions, column).items():
            ours = seed_means((seed, arm(rows)) for seed, arm, _ in pairs)
            theirs = seed_means((seed, other(rows)) for seed, _, other in pairs)
            means = fmean(ours.values()), fmean(theirs.values())
            if all(map(math.isfinite, means)):
                gap = bounded(paired_difference(ours, theirs), of_difference(bounds))
                found.append(Slice(harmless(column), harmless(value), len(rows), *means, gap))
    sign = 1 if higher_is_better else -1
    return sorted(found, key=lambda one: (sign * one.difference.mean, one.column, one.value))


def fairness(
    predictions: pd.DataFrame, column: str, scores: Sequence[Score], higher_is_better: bool
) -> Fairness | None:
    """Compare the groups of a column by a metric, mean over runs; None where fewer than two groups can be compared.

    Args:
        predictions: to slice, of one of the runs.
        column: as `slices_of` cuts it.
        scores: of each run on the same examples in the same order.
        higher_is_better: the metric's direction.
    """
    every = {name: fmean(score(rows) for score in scores) for name, rows in slices_of(predictions, column).items()}
    known = {name: value for name, value in every.items() if math.isfinite(value)}
    if len(known) < 2:
        return None
    worst, best = (pick(known, key=known.__getitem__) for pick in ((min, max) if higher_is_better else (max, min)))
    low, high = sorted((known[worst], known[best]))
    left_out = int(_names(predictions, column).nunique()) - len(known)
    names = harmless(column), harmless(worst), harmless(best)
    return Fairness(*names, known[worst], known[best], high / low if low > 0 else None, len(known), left_out)
