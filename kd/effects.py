"""Which factor of a crossed study mattered: main effects over seeds. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from kd.statistics import MIN_SEEDS, Interval, holm, mean_interval

Scores = Sequence[tuple[Mapping[str, object], int, float]]
"""The levels of a cell, its seed, and its metric."""


@dataclass(frozen=True)
class Level:
    """A value of a factor: by how much its cells are above the mean of all, in the metric's unit; `cells` a seed."""

    value: object
    effect: Interval
    cells: int


@dataclass(frozen=True)
class Factor:
    """An option that varied.

    Attributes:
        name: of the option.
        levels: its values, in the order they were first met.
        p: that all levels do alike; None under three seeds.
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
        return max(means) - min(means)


def main_effects(scores: Scores, factors: Sequence[str]) -> list[Factor]:
    """Return the factors that have two levels or more, those with the widest spread first.

    A level's value on a seed is the mean of its cells less the mean over the levels: where cells were excluded or
    failed, levels are means over other cells. Seeds on which a level has no cell are left out, as are cells in which
    a factor plays no part. p is that of the analysis of variance with seeds as blocks (Fisher 1935).

    Args:
        scores: one entry a cell and seed; values are finite.
        factors: the options to look at.
    """
    found = [one for name in factors if (one := _factor(name, scores)) is not None]
    tested = [one for one in found if one.p is not None]
    adjusted = dict(zip((one.name for one in tested), holm([one.p or 0.0 for one in tested]), strict=True))
    return sorted((replace(one, adjusted_p=adjusted.get(one.name)) for one in found), key=lambda one: -one.spread)


def _factor(name: str, scores: Scores) -> Factor | None:
    mine = [(levels[name], seed, value) for levels, seed, value in scores if name in levels]
    values = list(dict.fromkeys(level for level, _, _ in mine))
    cells = {(level, seed): [v for one, s, v in mine if (one, s) == (level, seed)] for level, seed, _ in mine}
    seeds = [seed for seed in dict.fromkeys(seed for _, seed, _ in mine) if all((v, seed) in cells for v in values)]
    if len(values) < 2 or not seeds:
        return None
    table = np.array([[np.mean(cells[value, seed]) for value in values] for seed in seeds])  # (seeds, levels)
    effects = table - table.mean(axis=1, keepdims=True)
    levels = tuple(
        Level(value, mean_interval(effects[:, place].tolist()), len(cells[value, seeds[0]]))
        for place, value in enumerate(values)
    )
    return Factor(name, levels, _blocked_anova(effects) if len(seeds) >= MIN_SEEDS else None)


def _blocked_anova(effects: np.ndarray) -> float:
    """Return the p of the F test on `(seeds, levels)`, each row with mean 0."""
    seeds, levels = effects.shape
    means = effects.mean(axis=0)
    between = seeds * float((means**2).sum()) / (levels - 1)
    within = float(((effects - means) ** 2).sum()) / ((seeds - 1) * (levels - 1))
    if between == 0:
        return 1.0
    if within == 0:  # no spread to judge by: as the exact permutation test of the blocks would
        return float(levels ** -(seeds - 1))
    return float(special.fdtrc(levels - 1, (seeds - 1) * (levels - 1), between / within))
