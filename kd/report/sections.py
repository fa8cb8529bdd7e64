"""What a study or a cascade found, as the first section of its report."""

from collections.abc import Sequence
from dataclasses import dataclass

from kd.analysis.effects import Factor
from kd.analysis.statistics import LEVEL, MIN_SEEDS, PairedDifference, Verdict
from kd.report.tables import MISSING, Cells, Section, mean_cell, p_cell


def study_section(
    title: str, factors: Sequence[Factor], metric: str, failed: Sequence[tuple[str, str]], lines: Sequence[str]
) -> Section:
    """Write which factor mattered, what failed, and what it cost.

    Args:
        title: of the study.
        factors: main effects, the widest first.
        metric: with its split, such as test accuracy.
        failed: cells that failed, in words, and why.
        lines: what else a reader must know.
    """
    about = (
        f"By how much a level's {metric} is above the mean over the levels, all else alike, with a 95 % t interval "
        "over seeds; p of the analysis of variance with seeds as blocks; both corrected after Holm over the factors. "
        "Both are of these rows alone, and say nothing of new examples."
    )
    tables = [("Main effects", effect_cells(factors), about)] if any(factor.levels for factor in factors) else []
    if failed:
        tables.append(("Failed", [["cell", "why"], *map(list, failed)], "They are in no figure above."))
    return Section(title, (*(_sentence(factor, metric) for factor in factors), *lines), tuple(tables))


def effect_cells(factors: Sequence[Factor]) -> Cells:
    """Return header and rows: factor, level, effect with its interval, cells a seed, p."""
    rows = [["factor", "level", "effect [95 % Holm]", "seeds", "cells a seed", "p"]]
    for factor in factors:
        for level in factor.levels:
            counts = [str(level.effect.n), str(level.cells)]
            rows.append([factor.name, str(level.value), mean_cell(level.effect), *counts, p_cell(factor.adjusted_p)])
    return rows


def _sentence(factor: Factor, metric: str) -> str:
    if not factor.levels:
        alone = "its effect cannot be separated from others"
        return f"{factor.name}: {alone}; nowhere do all its levels occur with all else alike."
    ends = sorted(factor.levels, key=lambda level: level.effect.mean)
    apart = f"{metric} differs by {factor.spread:.3f} between {ends[0].value} and {ends[-1].value}"
    if factor.adjusted_p is None:
        return f"{factor.name}: too few seeds to say (under {MIN_SEEDS}); {apart}."
    if factor.adjusted_p < LEVEL:
        return f"{factor.name} mattered on these rows: {apart} (p {p_cell(factor.adjusted_p)})."
    return f"{factor.name}: no effect shown; {apart} (p {p_cell(factor.adjusted_p)})."


@dataclass(frozen=True)
class StepFound:
    """From a model to the student that learned from it, over seeds.

    Attributes:
        words: such as 6→4.
        teacher: the metric of what it learned from; None where that was not scored on these rows.
        student: its own.
        seeds: how many.
        lost: how much worse it is than what it learned from, in the metric's unit; None where that was not scored.
        gain: over its control; None without a control.
        verdict: of the gain.
        seconds: of training a seed; None where not all of it was measured.
    """

    words: str
    teacher: float | None
    student: float
    seeds: int
    lost: PairedDifference | None = None
    gain: PairedDifference | None = None
    verdict: Verdict | None = None
    seconds: float | None = None


def cascade_section(title: str, steps: Sequence[StepFound], metric: str, lines: Sequence[str]) -> Section:
    """Write what each step lost, and what it gained by its teacher.

    Args:
        title: of the cascade.
        steps: the links in their order, all of them together, and the direct route.
        metric: with its split, such as test accuracy.
        lines: cascade against direct, budget, and what else a reader must know.
    """
    *links, _, direct = steps
    losses = [step.lost.mean for step in (*links, direct) if step.lost]
    said = []
    if len(losses) > len(links):
        parts = [f"{step.words} {mean:+.3f}" for step, mean in zip(links, losses, strict=False)]
        total = f"together {sum(losses[:-1]):+.3f}; directly {losses[-1]:+.3f}"
        said = [f"Lost of {metric}: {', '.join(parts)}, {total}."]
    examples = all(step.lost.examples for step in steps if step.lost)
    about = (
        f"Means of {metric}. Lost: how much worse a student is than the model it learned from (below 0 it is better), "
        f"with a 95 % interval over seeds{' and test examples' if examples else ', for this test set alone'}. Gain: "
        "over the same student trained without a teacher; interval and verdict are corrected as in the comparison "
        "below, where fidelity is to the model that each student learned from."
    )
    return Section(title, (*lines, *said), (("What each step lost", step_cells(steps), about),))


def step_cells(steps: Sequence[StepFound]) -> Cells:
    """Return header and rows: the step, both models' metric, loss, gain over the control with verdict, seconds."""
    gained = "gain over control [95 % Holm]"
    rows = [["step", "teacher", "student", "lost [95 %]", gained, "verdict", "seeds", "train s"]]
    for step in steps:
        teacher = MISSING if step.teacher is None else f"{step.teacher:.3f}"
        seconds = MISSING if step.seconds is None else f"{step.seconds:.0f}"
        gain = [mean_cell(step.gain), step.verdict or MISSING]
        rows.append([step.words, teacher, f"{step.student:.3f}", mean_cell(step.lost), *gain, str(step.seeds), seconds])
    return rows
