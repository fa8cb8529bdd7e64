"""What a study found, as the first section of its report: which factor mattered, what failed, what it cost."""

from collections.abc import Sequence

from kd.analysis.effects import Factor, Level
from kd.analysis.statistics import LEVEL, MIN_SEEDS
from kd.report.tables import MISSING, Section


def section(
    title: str, factors: Sequence[Factor], metric: str, failed: Sequence[tuple[str, str]], lines: Sequence[str]
) -> Section:
    """Write the section.

    Args:
        title: of the study.
        factors: main effects, the widest first.
        metric: with its split, such as test accuracy.
        failed: cells that failed, in words, and why.
        lines: what else a reader must know.
    """
    said = [*(_sentence(factor, metric) for factor in factors), *lines]
    about = (
        f"By how much a level's {metric} is above the mean over the levels, all else alike, with a 95 % t interval "
        "over seeds; p of the analysis of variance with seeds as blocks, corrected after Holm over the factors. "
        "Both are of these rows alone, and say nothing of new examples."
    )
    tables = [("Main effects", effect_cells(factors), about)] if any(factor.levels for factor in factors) else []
    if failed:
        tables.append(("Failed", [["cell", "why"], *(list(one) for one in failed)], "They are in no figure above."))
    return Section(title, tuple(said), tuple(tables))


def effect_cells(factors: Sequence[Factor]) -> list[list[str]]:
    """Return header and rows: factor, level, effect with its interval, cells a seed, p."""
    rows = [["factor", "level", "effect [95 %]", "seeds", "cells a seed", "p"]]
    for factor in factors:
        p = MISSING if factor.adjusted_p is None else _p(factor.adjusted_p)
        for level in factor.levels:
            rows.append(
                [
                    factor.name,
                    str(level.value),
                    _effect(level),
                    str(level.effect.n),
                    str(level.cells),
                    p,
                ]
            )
    return rows


def _effect(level: Level) -> str:
    low, high = level.effect.low, level.effect.high
    interval = "" if low is None or high is None else f" [{low:+.3f}, {high:+.3f}]"
    return f"{level.effect.mean:+.3f}{interval}"


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.0005 else "< 0.001"


def _sentence(factor: Factor, metric: str) -> str:
    if not factor.levels:
        alone = "its effect cannot be separated from others"
        return f"{factor.name}: {alone}; nowhere do all its levels occur with all else alike."
    ends = sorted(factor.levels, key=lambda level: level.effect.mean)
    apart = f"{metric} differs by {factor.spread:.3f} between {ends[0].value} and {ends[-1].value}"
    if factor.adjusted_p is None:
        return f"{factor.name}: too few seeds to say (under {MIN_SEEDS}); {apart}."
    if factor.adjusted_p < LEVEL:
        return f"{factor.name} mattered on these rows: {apart} (p {_p(factor.adjusted_p)})."
    return f"{factor.name}: no effect shown; {apart} (p {_p(factor.adjusted_p)})."
