"""What a cascade found, as the first section of its report: what each step lost, and what it gained by its teacher."""

from collections.abc import Sequence
from dataclasses import dataclass

from kd.analysis.statistics import PairedDifference, Verdict
from kd.report.tables import MISSING, Section, difference_cell


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


def section(title: str, steps: Sequence[StepFound], metric: str, lines: Sequence[str]) -> Section:
    """Write the section.

    Args:
        title: of the cascade.
        steps: the links in their order, all of them together, and the direct route.
        metric: with its split, such as test accuracy.
        lines: cascade against direct, budget, and what else a reader must know.
    """
    *links, _, direct = steps
    said = [line for line in (_losses(links, direct, metric),) if line]
    examples = all(step.lost.examples for step in steps if step.lost)
    about = (
        f"Means of {metric}. Lost: how much worse a student is than the model it learned from (below 0 it is better), "
        f"with a 95 % interval over seeds{' and test examples' if examples else ', for this test set alone'}. Gain: "
        "over the same student trained without a teacher; its verdict is corrected as in the comparison below, "
        "where fidelity is to the model that each student learned from."
    )
    return Section(title, (*lines, *said), (("What each step lost", step_cells(steps), about),))


def step_cells(steps: Sequence[StepFound]) -> list[list[str]]:
    """Return header and rows: the step, both models' metric, loss, gain over the control with verdict, seconds."""
    rows = [["step", "teacher", "student", "lost [95 %]", "gain over control [95 %]", "verdict", "seeds", "train s"]]
    for step in steps:
        rows.append(
            [
                step.words,
                MISSING if step.teacher is None else f"{step.teacher:.3f}",
                f"{step.student:.3f}",
                difference_cell(step.lost) if step.lost else MISSING,
                difference_cell(step.gain) if step.gain else MISSING,
                step.verdict or MISSING,
                str(step.seeds),
                MISSING if step.seconds is None else f"{step.seconds:.0f}",
            ]
        )
    return rows


def _losses(links: Sequence[StepFound], direct: StepFound, metric: str) -> str:
    """Say in a sentence what was lost where; nothing where a teacher was not scored."""
    means = [step.lost.mean if step.lost else None for step in (*links, direct)]
    known = [mean for mean in means if mean is not None]
    if len(known) < len(means):
        return ""
    parts = [f"{step.words} {mean:+.3f}" for step, mean in zip(links, known, strict=False)]
    return f"Lost of {metric}: {', '.join(parts)}, together {sum(known[:-1]):+.3f}; directly {known[-1]:+.3f}."
