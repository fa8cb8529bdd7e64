"""The gates and their thresholds, from a YAML file, and from the options, which outrank it."""

import difflib
from dataclasses import fields
from pathlib import Path

import yaml

from kd.base.types import UserError
from kd.config import GateOptions, PromoteConfig

MOST = 1e300
"""Thresholds past which no float goes."""
GATES = tuple(field.name for field in fields(GateOptions) if field.name != "metric")


def thresholds(config: PromoteConfig) -> GateOptions:
    """Return the gates of the YAML file and of the options, which outrank it.

    Raises:
        UserError: the file is missing or no mapping, or a gate is unknown or out of range.
    """
    given = {field.name: getattr(config, field.name) for field in fields(GateOptions)}
    own = {name: value for name, value in given.items() if value not in (None, "")}
    if not config.gates:
        return GateOptions(**own)
    named = f"gates={config.gates!r}"
    try:
        read = yaml.safe_load(Path(config.gates).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{named} cannot be read ({error.strerror}): give a YAML file of gates") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{named} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(read, dict):
        raise UserError(f"{named} must hold lines such as: allowed_drop: 0.01")
    for name, value in read.items():
        if name not in given:
            near = difflib.get_close_matches(str(name), given, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(given)}"
            raise UserError(f"{named}: unknown gate {name!r}; {hint}")
        if name == "metric" and not isinstance(value, str):
            raise UserError(f"{named}: metric={value!r} is no metric's name")
        number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MOST
        if name != "metric" and not number:
            raise UserError(f"{named}: {name}={repr(value)[:50]} is no number that a gate can take")
    return GateOptions(**{**read, **own})
