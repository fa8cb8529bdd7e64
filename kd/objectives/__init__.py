"""How student and teacher are compared. A new objective is one file here and one line in OBJECTIVES."""

from collections.abc import Callable

from kd.objectives.hard import Hard
from kd.objectives.soft import Soft
from kd.types import ObjectiveName, ObjectiveTerm

OBJECTIVES: dict[ObjectiveName, Callable[[float], tuple[ObjectiveTerm, ...]]] = {
    "none": lambda temperature: (),
    "soft": lambda temperature: (Soft(temperature),),
    "hard": lambda temperature: (Hard(),),
}
"""Each objective's terms, given the temperature. `none` has no term: the student learns from the labels alone."""
