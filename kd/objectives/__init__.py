"""How student and teacher are compared. A new objective is one file here and one line in OBJECTIVES."""

from collections.abc import Callable

from kd.base.types import ObjectiveName, ObjectiveTerm, Setting
from kd.objectives.attention import attention
from kd.objectives.cosine import cosine
from kd.objectives.dkd import Dkd
from kd.objectives.hard import Hard
from kd.objectives.hidden import hidden
from kd.objectives.jsd import Jsd
from kd.objectives.mse import Mse
from kd.objectives.patient import patient
from kd.objectives.relation import relation
from kd.objectives.soft import Soft

OBJECTIVES: dict[ObjectiveName, Callable[[Setting], ObjectiveTerm | None]] = {
    "none": lambda setting: None,
    "soft": lambda setting: Soft(setting.temperature),
    "hard": lambda setting: Hard(),
    "hidden": hidden,
    "attention": attention,
    "relation": relation,
    "cosine": cosine,
    "patient": patient,
    "jsd": lambda setting: Jsd(setting.temperature, setting.beta),
    "dkd": lambda setting: Dkd(setting.temperature),
    "mse": lambda setting: Mse(),
}
"""Builder of each objective's term. `none` has no term: the student learns from the labels alone."""
