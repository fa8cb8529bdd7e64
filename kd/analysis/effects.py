"""Which factor of a crossed study mattered: main effects over seeds. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
from scipy import special

from kd.analysis.statistics import LEVEL, MIN_SEEDS, ROUNDING, Interval, holm, holm_levels, mean_interval

Scores = Sequence[tuple[Mapping[str, object], int, float]]
"""The levels of a cell, its seed, and its metric."""


@dataclass(frozen=True)
class Level:
    """A value of a factor: by how much its cells are above the mean of all, in the metric's unit; `cells` a seed.

    The interval of `effect` has the level at which the factor was tested. `by_seed` are the effects it is made of.
    """

    value: object
    effect: Interval
    cells: int
    by_seed: tuple[float, ...] = ()

    def at(self, alpha: float) -> "Level":
        """Return the same with the interval at another level."""
        return replace(self, effect=mean_interval(self.by_seed, alpha))


@dataclass(frozen=True)
class Factor:
    """An option that varied.

    Attributes:
        name: of the option.
        levels: its values, in the order they were first met; none where no two cells differ in it alone.
        p: that all levels do alike; None under three seeds, and without levels.
        adjusted_p: the same, Holm-corrected over the study's factors.
    """

    name: str
    levels: tuple[Level, ...]
    p: float | None
    adjusted_p: float | None = None

    @property
    def spread(self) -> float:
        """The effect of the highest level less that of the lowest."""
        means = [level.effect.mean for level in self.levels]
        return max(means) - min(means) if means else 0.0


def main_effects(scores: Scores, factors: Sequence[str]) -> list[Factor]:
    """Return the factors that have two levels or more, those with the widest spread first.

    A factor's levels are compared where all else is alike: within combinations of the other options in which all of
    them occur on a seed. A level's value on a seed is its mean over these combinations less the mean over the levels. A
    factor without such a combination has no levels: its effect and that of others cannot be separated. p is that of the
    analysis of variance with seeds as blocks (Fisher 1935). Metrics are finite.
    """
    found = [one for name in factors if (one := _factor(name, scores)) is not None]
    tested = {one.name: one.p for one in found if one.p is not None}
    adjusted, levels = (dict(zip(tested, of([*tested.values()]), strict=True)) for of in (holm, holm_levels))
    judged = [
        replace(
            one,
            adjusted_p=adjusted.get(one.name),
            levels=tuple(level.at(levels.get(one.name, LEVEL)) for level in one.levels),
        )
        for one in found
    ]
    return sorted(judged, key=lambda one: -one.spread)


def _factor(name: str, scores: Scores) -> Factor | None:
    mine = [(levels, seed, value) for levels, seed, value in scores if name in levels]
    values = list(dict.fromkeys(levels[name] for levels, _, _ in mine))
    if len(values) < 2:
        return None
    seeds = dict.fromkeys(seed for _, seed, _ in mine)
    blocks = [block for seed in seeds if (block := _block(name, values, [one for one in mine if one[1] == seed]))]
    if not blocks:
        return Factor(name, (), None)
    table = np.array([[block[value][0] for value in values] for block in blocks])  # (seeds, levels)
    effects = table - table.mean(axis=1, keepdims=True)
    levels = tuple(
        Level(value, mean_interval(effects[:, place].tolist()), blocks[0][value][1], tuple(effects[:, place].tolist()))
        for place, value in enumerate(values)
    )
    p = _blocked_anova(effects, ROUNDING * float(np.abs(table).max())) if len(blocks) >= MIN_SEEDS else None
    return Factor(name, levels, p)


def _block(factor: str, values: Sequence[object], here: Scores) -> dict[object, tuple[float, int]]:
    """Return, of one seed, each level's mean over the combinations that have all levels, and its cells in them.

    A cell without some option, which plays no part in it, belongs to every combination that it does not contradict.
    """
    others = [{axis: level for axis, level in levels.items() if axis != factor} for levels, _, _ in here]
    means, used = defaultdict(list), defaultdict(set)
    for combination in _combinations(others):
        fitting = [place for place, other in enumerate(others) if other.items() <= combination.items()]
        of_level = {level: [place for place in fitting if here[place][0][factor] == level] for level in values}
        if all(of_level.values()):
            for level, places in of_level.items():
                means[level].append(fmean(here[place][2] for place in places))
                used[level].update(places)
    return {level: (fmean(found), len(used[level])) for level, found in means.items()}


def _combinations(others: Sequence[Mapping[str, object]]) -> list[Mapping[str, object]]:
    """Return the distinct ones of these levels of other options, without those that are part of another."""
    whole = [one for one in others if not any(one.items() < other.items() for other in others)]
    return list({tuple(sorted(one.items())): one for one in whole}.values())


def _blocked_anova(effects: np.ndarray, rounding: float) -> float:
    """Return the p of the F test on `(seeds, levels)`, whose mean by seed is 0; `rounding` differences are none."""
    seeds, levels = effects.shape
    means = effects.mean(axis=0)
    between = seeds * float((means**2).sum()) / (levels - 1)
    within = float(((effects - means) ** 2).sum()) / ((seeds - 1) * (levels - 1))
    if between <= rounding**2:
        return 1.0
    if within <= rounding**2:  # no spread to judge by: as the exact permutation test of the blocks would
        return float(levels ** -(seeds - 1))
    return float(special.fdtrc(levels - 1, (seeds - 1) * (levels - 1), between / within))
