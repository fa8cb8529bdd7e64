"""Reads a space from a built-in name or a YAML file; every mistake is reported in one line before any work."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kd.base.console import did_you_mean, shown
from kd.base.types import UserError
from kd.base.written import parse_yaml, read_text
from kd.space.parameters import KEYS, Parameter, Space, extremes, steps_to, value_at
from kd.space.values import OPTIONS, SEARCHABLE, Value, as_number, described, joined, near_or_known, typed

TYPES = {float: ("float", "int", "categorical"), int: ("int", "categorical")}
"""What a parameter may be, by the type of its option; all others are categorical."""


def load_space(option: str, builtin: Mapping[str, Mapping[str, Any]]) -> Space:
    """Return a built-in space by its name, or read a YAML file; UserError where it is neither, or no good space."""
    named = f"space={option!r}"
    if option in builtin:
        return read_space(builtin[option], named)
    instead = f"{did_you_mean(option, builtin, '')} give one of {', '.join(builtin)}, or a YAML file".strip()
    return read_space(parse_yaml(read_text(option, named, instead), named), named)


def read_space(given: Mapping[str, Any], named: str) -> Space:
    """Read parameters, each with its type, low, high, log, step, choices and when, from mappings as YAML has them.

    Raises:
        UserError: what is unknown, missing, of the wrong type, out of order or impossible; it says where the space is
            from, as in `space='my.yaml'`.
    """
    if not isinstance(given, Mapping):
        raise UserError(f"{named} must have lines such as: alpha: {{type: float, low: 0.1, high: 1}}")
    if not given:
        raise UserError(f"{named} is empty: give one parameter or more of {', '.join(SEARCHABLE)}")
    space: Space = ()
    for name, description in given.items():
        if name not in SEARCHABLE:
            raise UserError(f"{named}: unknown parameter {shown(name)}: {near_or_known(name, SEARCHABLE)}")
        space = (*space, _parameter(name, description, space, f"{named}: {name}"))
        if not any(name in point for point in extremes(space, {name})):
            raise UserError(f"{named}: {name}: its conditions (when) are never met together: change or drop one")
    return space


def _parameter(name: str, given: Any, earlier: Space, where: str) -> Parameter:
    if not isinstance(given, Mapping):
        raise UserError(f"{where} is {shown(given)}: give a mapping such as {{type: categorical, choices: [1, 2]}}")
    kind = given.get("type")
    if not isinstance(kind, str) or kind not in KEYS:
        got = f"type={shown(kind)} is unknown" if "type" in given else "type is missing"
        raise UserError(f"{where}: {got}: give {', '.join(KEYS)}")
    known = ("type", *KEYS[kind], "when")
    for key in given:
        if key not in known:
            raise UserError(f"{where}: unknown key {shown(key)} for type {kind}: {near_or_known(key, known)}")
    possible = TYPES.get(OPTIONS[name].kind, ("categorical",))
    if kind not in possible:
        instead = f"{', or '.join(possible)} with choices"
        raise UserError(f"{where}: type={kind!r}, but {name} is {described(name)}: give type {instead}")
    for key, meaning in (("low", "the least value"), ("high", "the greatest value"), ("choices", "a list of values")):
        if key in known and key not in given:
            raise UserError(f"{where}: {key} is missing: give {meaning}")
    when = _conditions(given.get("when", {}), earlier, where)
    if kind == "categorical":
        return Parameter(name, "categorical", choices=_choices(name, given["choices"], where), when=when)
    return _with_range(Parameter(name, "float" if kind == "float" else "int", when=when), given, where)


def _with_range(parameter: Parameter, given: Mapping[str, Any], where: str) -> Parameter:
    bounds = {key: _bound(key, given[key], parameter.kind, where) for key in ("low", "high", "step") if key in given}
    low, high, step, log = bounds["low"], bounds["high"], bounds.get("step"), given.get("log", False)
    wrong = {
        f"log={shown(log)} is not understood: give true or false": not isinstance(log, bool),
        f"low={low} is above high={high}: give low <= high": low > high,
        f"low={low} has no logarithm: give low > 0, or leave log out": log and low <= 0,
        f"log=True and step={step} contradict each other: leave one out": log and step is not None,
        f"step={step} is out of range: give a number > 0": step is not None and step <= 0,
    }
    for what, holds in wrong.items():
        if holds:
            raise UserError(f"{where}: {what}")
    read = replace(parameter, low=low, high=high, log=log, step=step)
    return replace(read, high=value_at(read, int(steps_to(read, high)))) if step is not None else read


def _bound(key: str, given: Any, kind: str, where: str) -> float:
    try:
        return as_number(given, whole=kind == "int")
    except ValueError:
        allowed = "a whole number" if kind == "int" else "a finite number"
        raise UserError(f"{where}: {key}={shown(given)} is not understood: give {allowed}") from None


def _choices(name: str, given: Any, where: str) -> tuple[Value, ...]:
    if not isinstance(given, list | tuple) or not given:
        raise UserError(f"{where}: choices={shown(given)}: give a list of one value or more, each {described(name)}")
    read: list[Value] = []
    for choice in given:
        value = _choice(name, choice, f"{where}: choices has")
        if value in read:
            raise UserError(f"{where}: choices has {shown(choice)} twice: give different values")
        read.append(value)
    return tuple(read)


def _choice(name: str, value: Any, where: str) -> Value:
    try:
        return typed(name, value)
    except ValueError:
        raise UserError(f"{where} {shown(value)}: {name} is {described(name)}") from None


def _conditions(given: Any, earlier: Space, where: str) -> dict[str, tuple[Value, ...]]:
    if not isinstance(given, Mapping):
        raise UserError(f"{where}: when={shown(given)} is not understood: give a mapping such as {{objective: soft}}")
    known = {parameter.name: parameter.choices for parameter in earlier}
    read: dict[str, tuple[Value, ...]] = {}
    for name, values in given.items():
        if name not in known:
            raise UserError(f"{where}: when names {shown(name)}, no parameter above it: {near_or_known(name, known)}")
        if not known[name]:
            raise UserError(f"{where}: when names {name}, which is a range: give {name} choices, or drop the condition")
        listed = values if isinstance(values, list | tuple) else [values]
        wanted = [_choice(name, value, f"{where}: when has") for value in listed]
        allowed = joined(known[name])
        for value in wanted:
            if value not in known[name]:
                raise UserError(f"{where}: when has {name}={value!r}, which is never drawn: give of {allowed}")
        if not wanted:
            raise UserError(f"{where}: when has no value of {name}: give one or more of {allowed}")
        read[name] = tuple(choice for choice in known[name] if choice in wanted)
    return read
