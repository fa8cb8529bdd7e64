"""Reads the YAML file that says what a model may cost on devices, each by its name."""

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from kd.base.budgets import Device
from kd.base.console import did_you_mean, shown
from kd.base.types import UserError

NAME = re.compile(r"(?=.{1,40}\Z)[\w.-]+( [\w.-]+)*")
"""A device's name: it becomes part of a tag's."""
INSTEAD = "give a file with lines such as phone: {ram_mib: 512, storage_mib: 100}"
KEYS = tuple(field.name for field in fields(Device))


def read_devices(path: str) -> dict[str, Device]:
    """Read a YAML file of devices. Raises UserError where it cannot be read, and as `devices_in` does."""
    from kd.base.written import parse_yaml, read_text  # with it comes yaml

    named = f"devices={shown(path)}"
    return devices_in(parse_yaml(read_text(path, named, INSTEAD), named), named)


def devices_in(given: Any, named: str) -> dict[str, Device]:
    """Read devices from mappings as a YAML file has them; errors say that they come from `named`.

    Raises:
        UserError: there is no device; or a device's name, keys or numbers are not understood.
    """
    if not isinstance(given, Mapping) or not given:
        raise UserError(f"{named} has no device: {INSTEAD}")
    return {name: _device(name, about, named) for name, about in given.items()}


def _device(name: Any, about: Any, named: str) -> Device:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        allowed = "1 to 40 letters, digits, spaces and . _ - (a number in quotes)"
        raise UserError(f"{named}: {shown(name)} is no device's name: give {allowed}")
    if not isinstance(about, Mapping):
        raise UserError(f"{named}: {name} is {shown(about)}: give it as {{ram_mib: 512, storage_mib: 100}}")
    for key in about:
        if key not in KEYS:
            hint = did_you_mean(key, KEYS, f"known: {', '.join(KEYS)}")
            raise UserError(f"{named}: {name}: unknown key {shown(key)}; {hint}")
    for key in KEYS:
        value = about.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            got = f"{key} is missing" if key not in about else f"{key} is {shown(value)}"
            raise UserError(f"{named}: {name}: {got}: give a number of MiB > 0")
    return Device(**{key: float(about[key]) for key in KEYS})
