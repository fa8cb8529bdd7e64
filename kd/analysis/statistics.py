"""Intervals, paired tests, corrections and power over a handful of seeds. Pure: numbers in, numbers out."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from kd.base.judge import UNBOUNDED, Bounds

Verdict = Literal["better", "worse", "no difference shown", "too few seeds"]

MIN_SEEDS = 3
LEVEL = 0.05
POWER = 0.8
MOST_DF = 1e6
"""Degrees of freedom past which Student's t is the normal; scipy has no non-central t of infinitely many."""
# metrics may come as float32: differences that agree to this share of the metric differ by rounding alone
ROUNDING = 1e-6


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval, in the unit of the values; `low` and `high` are None under two values."""

    mean: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class PairedDifference:
    """Arm minus control over their common seeds, in the metric's unit; None is what `n` pairs cannot give.

    Attributes:
        mean: of the differences.
        low: end of the t interval; None under two pairs, or where all differences are one non-zero number.
        high: its other end.
        p: two-sided, 0 to 1; None under two pairs.
        n: common seeds.
        examples: or blocks of them, that interval and p generalise from; 0 where they take the test set for given.
        groups: independent ones, of these examples.
        se: standard error of the mean; None where the differences have no spread.
        seed_share: share of its variance that is tested as that between seeds, 0 to 1; the rest is between examples.
        alpha: level of the interval, which contains what has p >= alpha; 0.05 for a 95 % interval.
    """

    mean: float
    low: float | None
    high: float | None
    p: float | None
    n: int
    examples: int = 0
    groups: int = 0
    se: float | None = None
    seed_share: float = 1.0
    alpha: float = LEVEL

    @property
    def spread(self) -> "Spread":
        """How well the standard error is known."""
        return Spread(self.n - 1, self.groups - 1 if self.groups else MOST_DF, self.seed_share)

    def at(self, alpha: float) -> "PairedDifference":
        """Return the same with its interval at another level, where there is a standard error to make it of."""
        if self.se is None or alpha == self.alpha:
            return replace(self, alpha=alpha)
        half = self.se * self.spread.critical(alpha)
        return replace(self, low=self.mean - half, high=self.mean + half, alpha=alpha)


Found = TypeVar("Found", Interval, PairedDifference)


def bounded(found: Found, bounds: Bounds) -> Found:
    """Cut an interval where values cannot be; it contains the truth as often as before.

    Args:
        found: of a mean, or of a difference; one without ends stays as it is.
        bounds: of the mean, or of the difference (`of_difference`).
    """
    least, greatest = (-math.inf if bounds[0] is None else bounds[0], math.inf if bounds[1] is None else bounds[1])
    if found.low is None or found.high is None:
        return found
    return replace(found, low=max(found.low, least), high=min(found.high, greatest))


def of_difference(bounds: Bounds) -> Bounds:
    """Return the bounds of the difference of two values that have these bounds."""
    low, high = bounds
    return UNBOUNDED if low is None or high is None else (low - high, high - low)


def seed_means(values: Iterable[tuple[int, float]]) -> dict[int, float]:
    """Return the mean of each seed's values, by seed."""
    found: dict[int, list[float]] = defaultdict(list)
    for seed, value in values:
        found[seed].append(value)
    return {seed: fmean(some) for seed, some in sorted(found.items())}


def mean_interval(values: Sequence[float], alpha: float = LEVEL) -> Interval:
    """Return the mean of one value a seed and its t interval (Student 1908), at 95 % unless `alpha` says otherwise.

    Raises:
        ValueError: no values, or a value that is not finite.
    """
    array = np.asarray(values, dtype=float)
    if array.size == 0:
        raise ValueError("no seed has a value, so there is no mean: one finite value a seed is needed")
    if odd := [value for value in array.tolist() if not math.isfinite(value)]:
        raise ValueError(
            f"{len(odd)} of {array.size} values are not finite (the first is {odd[0]}), so there is no mean: "
            "one finite value a seed is needed; leave out the runs that have none"
        )
    mean, n = float(array.mean()), array.size
    if n == 1:
        return Interval(mean, None, None, 1)
    half = float(special.stdtrit(n - 1, 1 - alpha / 2) * array.std(ddof=1) / math.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


def paired_difference(arm: Mapping[int, float], control: Mapping[int, float]) -> PairedDifference:
    """Compare an arm with its control over the seeds both have: 95 % t interval and two-sided paired t test.

    Differences without spread give no t statistic. All zero: the interval is [0, 0] and p is 1. All one non-zero
    number, which coarse metrics on small test sets do produce: no interval, and p is that of the exact sign-flip test,
    2^(1-n) (Fisher 1935), because the t test's p of 0 would claim certainty from as few as two seeds. Spread
    within float32 rounding counts as none.

    Args:
        arm: metric by seed.
        control: the same metric of the control by seed.

    Raises:
        ValueError: no seed in common, or a value of one that is not finite.
    """
    seeds = sorted(arm.keys() & control.keys())
    ours, theirs = (np.array([side[seed] for seed in seeds], dtype=float) for side in (arm, control))
    differences, n = ours - theirs, len(seeds)
    interval = mean_interval(differences.tolist())
    if n == 1:
        return PairedDifference(interval.mean, None, None, None, n)
    tolerance = ROUNDING * np.abs([ours, theirs]).max()
    if np.abs(differences).max() <= tolerance:
        return PairedDifference(0.0, 0.0, 0.0, 1.0, n)
    if np.ptp(differences) <= tolerance:
        return PairedDifference(interval.mean, None, None, 2.0 ** (1 - n), n)
    se = float(differences.std(ddof=1)) / math.sqrt(n)
    p = float(2 * special.stdtr(n - 1, -abs(interval.mean) / se))
    return PairedDifference(interval.mean, interval.low, interval.high, p, n, se=se)


def crossed_difference(differences: npt.NDArray[np.float64], groups: npt.NDArray[np.int64]) -> PairedDifference:
    """Compare an arm with its control over seeds and examples, both taken for drawn from more of their kind.

    All seeds share one test set, so what an arm happens to gain on its examples looks like a gain to a test over seeds.
    As with readers and cases in trials of X-rays (Dorfman, Berbaum and Metz 1992), the variance of the mean has a part
    by seed, V_S = s^2 / n, and a part by example, V_E, which is the variance of an example's mean over seeds less what
    chance within seeds puts there, both with examples summed by group. Of t = |mean| / sqrt(V_S + V_E),
        p = w p(t; n - 1 degrees of freedom) + (1 - w) p(t; groups - 1), with w = V_S / (V_S + V_E),
    weighted as by Cochran and Cox (1957); the 95 % interval contains what has p >= 0.05. With fewer groups than seeds
    V_E often comes out near 0 by chance, and w too near 1: there w compares what seeds differ by beyond chance within
    them with the variance of an example's mean. Simulated false claims are in benchmarks/verdicts.py.

    Args:
        differences: `(seeds, examples)`, arm minus control, in the metric's unit; the metric is their mean. For a
            metric that is no mean, differences of `pseudo_values` by block.
        groups: `(examples,)`, numbers from 0; examples of one group depend on one another.
    """
    n, size = differences.shape
    by_seed = differences.mean(axis=1)
    mean = float(by_seed.mean())
    over_seeds = paired_difference(dict(enumerate(by_seed.tolist())), dict.fromkeys(range(n), 0.0))
    if n < 2 or groups.max() < 1:
        return over_seeds
    seed_part = float(by_seed.var(ddof=1)) / n
    of_mean = _variance_by_group(differences.mean(axis=0), groups)
    within = float(np.mean([_variance_by_group(one, groups) for one in differences]))
    example_part = max((n * of_mean - within) / (n - 1), 0.0)
    variance = seed_part + example_part
    if math.sqrt(variance) <= ROUNDING * max(np.abs(by_seed).max(), np.finfo(float).tiny):
        return over_seeds
    count = int(groups.max()) + 1
    share, se = seed_part / variance, math.sqrt(variance)
    if count < n and of_mean > 0:
        beyond_chance = max(seed_part - (within - example_part) / n, 0.0)
        share = beyond_chance / (beyond_chance + of_mean)
    spread = Spread(n - 1, count - 1, share)
    half, p = se * spread.critical(LEVEL), spread.p(abs(mean) / se)
    return PairedDifference(mean, mean - half, mean + half, p, n, size, count, se, share)


@dataclass(frozen=True)
class Spread:
    """How well the standard error of a difference is known.

    Attributes:
        seed_df: degrees of freedom between seeds, at least 1.
        group_df: between groups of examples, at least 1.
        seed_share: share of the variance that is between seeds, 0 to 1.
    """

    seed_df: float
    group_df: float = MOST_DF
    seed_share: float = 1.0

    @property
    def df(self) -> float:
        """Degrees of freedom of the whole variance (Satterthwaite 1946)."""
        inverse = self.seed_share**2 / self.seed_df + (1 - self.seed_share) ** 2 / self.group_df
        return min(1 / inverse, MOST_DF)

    def p(self, t: float) -> float:
        """Return the two-sided p of t >= 0, of seeds and of groups weighted by their shares."""
        seeds, groups = special.stdtr([self.seed_df, self.group_df], -t)
        return float(2 * (self.seed_share * seeds + (1 - self.seed_share) * groups))

    def critical(self, alpha: float) -> float:
        """Return the t whose two-sided p is alpha."""
        widest = float(special.stdtrit(min(self.seed_df, self.group_df), 1 - alpha / 2))
        return float(optimize.brentq(lambda t: self.p(t) - alpha, 0.0, widest * (1 + ROUNDING)))


def _variance_by_group(values: npt.NDArray[np.float64], groups: npt.NDArray[np.int64]) -> float:
    """Return the variance of the mean of values whose groups were drawn (Liang and Zeger 1986)."""
    sums = np.bincount(groups, weights=values - values.mean())
    count = int(groups.max()) + 1
    return float((sums**2).sum()) * count / (count - 1) / len(values) ** 2


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p values of one table adjusted by Holm's step-down method (Holm 1979), in the order given.

    The i-th smallest of m is multiplied by m - i + 1; adjusted values never fall along that order nor exceed 1.

    Raises:
        ValueError: a value outside 0 to 1.
    """
    p = np.asarray(p_values, dtype=float)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p_values={list(p_values)}: each must lie between 0 and 1")
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return list(map(float, adjusted))


def holm_levels(p_values: Sequence[float]) -> list[float]:
    """Return the level of each interval of one table, in the order given: 0 is outside where Holm's method claims.

    The i-th smallest of m p values is compared with 0.05 / (m - i + 1), and so is its interval made; those from the
    first that claims nothing on have the level of that one, at which the method stops (Ludbrook 2000,
    Multiple inferences using confidence intervals).
    """
    m, order = len(p_values), np.argsort(np.asarray(p_values, dtype=float))
    claimed = sum(one < LEVEL for one in holm(p_values))
    levels = np.empty(m)
    levels[order] = [LEVEL / (m - min(place, claimed)) for place in range(m)]
    return list(map(float, levels))


def verdict(difference: PairedDifference, adjusted_p: float | None, higher_is_better: bool) -> Verdict:
    """Put a difference into words; "better" and "worse" speak of the arm's quality.

    Args:
        difference: arm minus control.
        adjusted_p: its p value after `holm` over its table; None only where `difference.p` is.
        higher_is_better: the metric's direction; False for losses and errors.

    Raises:
        ValueError: three seeds or more, but no p value.
    """
    if difference.n < MIN_SEEDS:
        return "too few seeds"
    if adjusted_p is None:
        raise ValueError(f"adjusted_p=None for a difference over {difference.n} seeds")
    if adjusted_p >= LEVEL:
        return "no difference shown"
    return "better" if (difference.mean > 0) == higher_is_better else "worse"


def minimum_detectable_difference(se: float, spread: Spread, alpha: float = LEVEL) -> float:
    """Return the smallest true mean difference that a two-sided test finds with a power of 80 %.

    Found from the non-central t distribution (Cohen 1988), in the unit of `se`. What was seen but not shown is smaller.

    Args:
        se: standard error of the mean difference, >= 0; over n seeds the standard deviation by sqrt(n).
        spread: how well it is known.
        alpha: level of the test, between 0 and 0.8; divide it by the comparisons in the table for Holm's worst case.
    """
    critical = spread.critical(alpha)
    # a claim in the wrong direction finds nothing; at the upper end the power is over 80 % for any degrees of freedom
    found = optimize.brentq(lambda shift: special.nctdtr(spread.df, shift, critical) + POWER - 1, 0, 2 * critical + 2)
    return float(found) * se


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided p of McNemar's exact test (McNemar 1947): are two classifiers right equally often?

    Given are the examples that one of them alone got right. It is the value of `scipy.stats.binomtest`, without half a
    second for the import of `scipy.stats`.
    """
    discordant = only_first + only_second
    return min(1.0, 2 * float(special.bdtr(min(only_first, only_second), discordant, 0.5))) if discordant else 1.0


def resampled(
    groups: Sequence[str], figure: Callable[[npt.NDArray[np.int64]], float], resamples: int = 1000, seed: int = 0
) -> npt.NDArray[np.float64]:
    """Compute a figure on resamples of the examples, whole groups drawn with replacement (Efron 1979).

    Args:
        groups: each example's group; examples of one group stand or fall together.
        figure: takes positions of examples, some of them repeated.
        resamples: how often, >= 1.
        seed: fixes the draws.

    Returns:
        `(resamples,)`, sorted; its quantiles bound the figure.

    Raises:
        ValueError: fewer than two groups, which cannot be resampled.
    """
    _, codes = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    order = np.argsort(codes, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(codes))[:-1])
    if len(members) < 2:
        raise ValueError(f"{len(members)} group: at least two are needed to resample")
    draws = np.random.default_rng(seed)
    whole = len(members) == len(codes)
    figures = []
    for _ in range(resamples):
        drawn = draws.integers(len(members), size=len(members))
        figures.append(figure(order[drawn] if whole else np.concatenate([members[i] for i in drawn])))
    return np.sort(figures)
