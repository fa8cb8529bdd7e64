"""Units of glucose: inside everything is mg/dL, and a unit that cannot be right is refused."""

from dataclasses import replace

import numpy as np

from kd.base.types import UserError
from kd.config.series import MG_PER_MMOL, UnitName
from kd.data.series.recording import Recording

LOWEST_MEDIAN, HIGHEST_MEDIAN = 30.0, 35.0
"""Lowest median that is believed in mg/dL, highest in mmol/L."""
GREATEST = 2000.0
"""Highest glucose that is believed, in mg/dL."""
FEWEST = 3
"""Values that make two units of what may be one error of a sensor."""


def in_mgdl(recording: Recording, units: UnitName) -> Recording:
    """Return the recording in mg/dL, where units are those of glucose; with `none` as it is.

    Raises:
        UserError: values are of another unit than is said, of two units, or no glucose.
    """
    unit = recording.unit or units
    if units == "none" or not len(recording.values):
        return recording
    _require_unit(recording, unit)
    values = recording.values * (MG_PER_MMOL if unit == "mmol/L" else 1)
    wrong = (values <= 0) | (values > GREATEST)
    if wrong.any():
        place = int(np.argmax(wrong))
        raise UserError(
            f"{_named(recording)}: {recording.values[place]:g} {unit} at {recording.times[place]} is no glucose: leave "
            "missing values empty, or give units=none"
        )
    return replace(recording, values=values, unit="mg/dL")


def _named(recording: Recording) -> str:
    return f"{recording.source}: patient {recording.item}"


def _require_unit(recording: Recording, unit: str) -> None:
    values = recording.values
    low, high = values[(values > 0) & (values < LOWEST_MEDIAN)], values[values >= LOWEST_MEDIAN]
    if min(len(low), len(high)) >= FEWEST and MG_PER_MMOL / 1.8 < np.median(high) / np.median(low) < MG_PER_MMOL * 1.8:
        raise UserError(
            f"{_named(recording)} mixes units: {len(low)} values around {np.median(low):.3g} as in mmol/L, {len(high)} "
            f"around {np.median(high):.3g} as in mg/dL: write all in one unit"
        )
    median = float(np.median(values))
    other = "mmol/L" if unit == "mg/dL" else "mg/dL"
    if median < LOWEST_MEDIAN if unit == "mg/dL" else median > HIGHEST_MEDIAN:
        instead = "its format says so: mend the file" if recording.unit else f"give units={other}, or units=none"
        raise UserError(f"{_named(recording)} has a median of {median:.4g}, which is no glucose in {unit}: {instead}")


def difference_in_mgdl(amount: float, units: UnitName) -> float:
    """Return a difference that an option states in `units` as it is inside."""
    return amount * MG_PER_MMOL if units == "mmol/L" else amount
