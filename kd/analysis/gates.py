"""May this version serve? Pure: figures in, a decision out."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kd.analysis.slices import Quality
from kd.analysis.statistics import LEVEL, resampled

TOLERANCE = 1e-3
"""Difference between answers that another processor or library may make."""


@dataclass(frozen=True)
class Observed:
    """What a gate looks at: a value, None where it was not measured, and what it is, in words."""

    value: float | None
    about: str


@dataclass(frozen=True)
class Gate:
    """One gate's result.

    Attributes:
        name: of the option.
        figure: what was found; None where it was not measured or does not apply.
        threshold: its value.
        at_least: whether the figure must be at least the threshold, else at most.
        passes: the result.
        about: what the figure is, or why it is absent.
    """

    name: str
    figure: float | None
    threshold: float
    at_least: bool
    passes: bool
    about: str

    @property
    def words(self) -> str:
        """The result in one line, with how much is missing."""
        wanted = f"at {'least' if self.at_least else 'most'} {self.threshold:g}"
        if self.figure is None:
            return f"{self.name} ({wanted}): {self.about}"
        gap = f", {abs(self.figure - self.threshold):.4g} {'short' if self.at_least else 'over'}"
        return f"{self.name}: {self.about} is {self.figure:.4g}, {wanted} is required" + ("" if self.passes else gap)


@dataclass(frozen=True)
class Decision:
    """Whether a candidate passes, and every gate that was given."""

    gates: tuple[Gate, ...]

    @property
    def passes(self) -> bool:
        """Whether all gates do."""
        return all(gate.passes for gate in self.gates)

    @property
    def reason(self) -> str:
        """In one line: the gates that failed, or that all passed."""
        if failed := [gate.words for gate in self.gates if not gate.passes]:
            return "; ".join(failed)
        return f"passed {', '.join(gate.name for gate in self.gates)}" if self.gates else "no gate was given"


def decide(
    thresholds: Mapping[str, float], figures: Mapping[str, Observed], absent: Mapping[str, str], higher_is_better: bool
) -> Decision:
    """Compare a candidate's figures with the thresholds of the gates that were given.

    Args:
        thresholds: of each gate.
        figures: figure of each gate; one without a value was not measured and does not pass.
        absent: gates that do not apply to this candidate, and why; they pass.
        higher_is_better: direction of the metric, hence of `min_metric`.
    """
    gates = []
    for name, threshold in thresholds.items():
        at_least = higher_is_better if name == "min_metric" else name.startswith("min_")
        if name in absent:
            gates.append(Gate(name, None, threshold, at_least, True, absent[name]))
            continue
        figure = figures[name]
        if figure.value is None or not math.isfinite(figure.value):
            gates.append(Gate(name, None, threshold, at_least, False, f"{figure.about} was not measured"))
            continue
        passes = figure.value >= threshold if at_least else figure.value <= threshold
        gates.append(Gate(name, figure.value, threshold, at_least, passes, figure.about))
    return Decision(tuple(gates))


@dataclass(frozen=True)
class Drop:
    """How much worse a candidate is than another model, in the metric's unit; below 0 it is better.

    Attributes:
        mean: over the examples.
        at_most: not exceeded with 95 % confidence, one-sided; None where the examples are of one group.
    """

    mean: float
    at_most: float | None


def drop(candidate: pd.DataFrame, other: pd.DataFrame, quality: Quality, higher_is_better: bool) -> Drop:
    """Bound by how much a candidate is worse, resampling the examples by group (non-inferiority).

    Args:
        candidate: predictions, with column `group`.
        other: predictions of the same examples in the same order.
        quality: the metric of predictions.
        higher_is_better: its direction.

    Raises:
        ValueError: predictions of other examples.
    """
    if not candidate["example_id"].equals(other["example_id"]):
        raise ValueError("both need predictions of the same examples in the same order")
    sign = 1 if higher_is_better else -1

    def lost(rows: np.ndarray) -> float:
        return sign * (quality(other.iloc[rows]) - quality(candidate.iloc[rows]))

    mean, groups = lost(np.arange(len(candidate))), candidate["group"].tolist()
    if len(set(groups)) < 2:
        return Drop(mean, None)
    return Drop(mean, float(np.quantile(resampled(groups, lost), 1 - LEVEL)))


def largest_difference(expected: object, got: object) -> float:
    """Return the largest difference between the numbers of two JSON values; infinite where anything else differs."""
    if isinstance(expected, bool) or isinstance(got, bool):
        return 0.0 if expected is got else math.inf
    if isinstance(expected, int | float) and isinstance(got, int | float):
        gap = abs(expected - got)
        return gap if math.isfinite(gap) else math.inf
    if isinstance(expected, dict) and isinstance(got, dict) and expected.keys() == got.keys():
        return max((largest_difference(expected[key], got[key]) for key in expected), default=0.0)
    if isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        return max(map(largest_difference, expected, got), default=0.0)
    return 0.0 if expected == got else math.inf
