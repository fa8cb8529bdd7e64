"""What every reader of series returns, whatever the file looked like."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[Any]
"""datetime64[s], without a time zone."""
EventKind = Literal["amount", "rate", "level"]
PartName = Literal["train", "validation", "test", ""]
FOREVER = np.datetime64("2200-01-01T00:00:00", "s")
"""End of what has no end."""


@dataclass(frozen=True)
class Events:
    """What happened beside the measured values: meals, insulin, or another column."""

    starts: Times
    """`(n,)`, in rising order."""
    ends: Times
    """`(n,)`: equal to `starts` where something happens at a point of time."""
    amounts: Floats
    """`(n,)`, in the unit that the source has."""
    kind: EventKind
    """amount: spread evenly from start to end; rate: so much an hour, until it ends or the next one starts; level: the
    last value holds."""


@dataclass(frozen=True)
class Recording:
    """One patient's (or other item's) measured values in one file."""

    item: str
    split: PartName
    """What the files say that it is for; empty where they say nothing."""
    source: str
    """File, for messages."""
    times: Times
    """`(n,)`, strictly rising."""
    values: Floats
    """`(n,)`, finite."""
    unit: str = ""
    """mg/dL or mmol/L, where the format itself says it."""
    covariates: Mapping[str, Events] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """Sentences for the user."""
