"""May this version serve? Pure: figures in, a decision out."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Decision:
    """Whether a candidate passes, and why in one line."""

    passes: bool
    reason: str


def decide(metric: str, value: float | None, threshold: float | None, higher_is_better: bool) -> Decision:
    """Hold a candidate's test metric against the least (or, for falling metrics, the greatest) value asked.

    Args:
        metric: its name.
        value: the candidate's; None where it was not measured.
        threshold: in the metric's unit; None asks for nothing.
        higher_is_better: the metric's direction.
    """
    if value is None:
        return Decision(False, f"{metric} was not measured for this version")
    if not math.isfinite(value):
        return Decision(False, f"{metric} is {value}, which is no measurement")
    if threshold is None:
        return Decision(True, f"{metric} is {value:.4f}; no threshold was asked")
    passes = value >= threshold if higher_is_better else value <= threshold
    gap = abs(value - threshold)
    asked = f"at {'least' if higher_is_better else 'most'} {threshold:g} was asked"
    return Decision(passes, f"{metric} is {value:.4f}, {asked}" + ("" if passes else f": {gap:.4f} short"))
