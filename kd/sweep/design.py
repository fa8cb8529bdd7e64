"""The design of a study: which options vary, crossed with one another, and the cells that this makes. Pure."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

from kd.base.types import GuideName, UserError
from kd.config import DistillConfig, StudentConfig, TaskOptions
from kd.config.objective import parse_objective, plays_a_part, spelt_objective
from kd.space.reading import read_text, read_yaml
from kd.space.values import SEARCHABLE, Value, described, joined, near_or_known, shown, typed

OF_TRANSFER = ("transfer_confidence", "transfer_balance")
"""Options that choose among transfer rows."""
GUIDE = "guide"
"""An axis that is no option: who teaches, the teacher or, for self-training, the student's own control."""
CROSSED = (*SEARCHABLE, "max_train", "labelled", "epoch_rows", "transfer", *OF_TRANSFER, "seed")
"""Options that a design may hold, as axes or as its base."""
EVALUATED = ("attribution_examples",)
"""Options that change no training: of the base alone."""
GUIDANCE = (GUIDE, *{one.name for one in fields(DistillConfig)} - {one.name for one in fields(StudentConfig)})
"""What a student without a teacher has not."""
KEYS = ("title", "base", "axes", "exclude")
Levels = dict[str, Value]
"""A cell: option -> its value there, for the axes that play a part in it."""


@dataclass(frozen=True)
class Design:
    """What a YAML file asks for.

    Attributes:
        name: the file's, without its ending.
        title: what a person reads.
        base: options that are the same in all cells.
        axes: options that vary, and their values; every combination is a cell.
        exclude: combinations that are left out: all cells that have one of the values for each option named.
    """

    name: str
    title: str
    base: Mapping[str, Value]
    axes: Mapping[str, tuple[Value, ...]]
    exclude: tuple[Mapping[str, tuple[Value, ...]], ...]


def load_design(path: str) -> Design:
    """Read a design from a YAML file.

    Raises:
        UserError: there is no such file, or what `read_design` refuses.
    """
    named = f"design={path!r}"
    text = read_text(path, named, "give a YAML file, such as studies/quick.yaml")
    return read_design(read_yaml(text, named), named, Path(path).stem)


def read_design(given: Any, named: str, name: str) -> Design:
    """Read a design from mappings as a YAML file has them.

    Args:
        given: title, base (option -> value), axes (option -> list of values), exclude (list of option -> value or
            list of values).
        named: where it comes from, as errors say it.
        name: of the study, where it has no title.

    Raises:
        UserError: what is unknown, missing, of the wrong type, given twice or never the case.
    """
    if not isinstance(given, Mapping):
        raise UserError(f"{named} must hold {', '.join(KEYS)}, such as: axes: {{objective: [soft, hard]}}")
    for key in given:
        if key not in KEYS:
            raise UserError(f"{named}: unknown key {shown(key)}: {near_or_known(key, KEYS)}")
    base = {key: _value(key, value, f"{named}: base") for key, value in _mapping(given, "base", named).items()}
    axes = {key: _levels(key, value, f"{named}: axes") for key, value in _mapping(given, "axes", named).items()}
    if not axes:
        raise UserError(f"{named}: axes is missing: give options and their values, such as {{objective: [soft, hard]}}")
    for key in base.keys() & axes.keys():
        raise UserError(f"{named}: {key} is in base and in axes: leave one out")
    left_out = given.get("exclude") or []
    if not isinstance(left_out, list):
        raise UserError(f"{named}: exclude is {shown(left_out)}: give a list of mappings")
    exclude = tuple(_exclusion(one, axes, f"{named}: exclude") for one in left_out)
    return Design(name, str(given.get("title") or name), base, axes, exclude)


def cells(design: Design) -> list[Levels]:
    """Return the cells, with the controls that they need, seed by seed: where it is broken off, whole seeds are done.

    A control has no objective and nothing of what belongs to one; cells that it is shared by have it once. A cell whose
    objective is none, or whose alpha is 0 without transfer rows, is its control. An axis that plays no part under a
    cell's objective, such as the temperature under `hard`, is left out of it. The objective is there also where it is
    no axis.

    Raises:
        UserError: everything is excluded.
    """
    order = sorted(design.axes, key=lambda axis: axis != "seed")
    points = [dict(zip(order, values, strict=True)) for values in itertools.product(*(design.axes[a] for a in order))]
    kept = [point for point in points if not any(_is(point, one) for one in design.exclude)]
    if not kept:
        raise UserError(f"study {design.title!r}: exclude leaves no cell: leave some of it out")
    found: list[Levels] = []
    for point in kept:
        point = {axis: point[axis] for axis in design.axes}
        control = control_of(point)
        whole = {**design.base, **point}
        weights = parse_objective(str(whole.get("objective", TaskOptions.objectives[0])))
        own = {axis: value for axis, value in point.items() if axis not in GUIDANCE or plays_a_part(axis, weights)}
        own = {"objective": spelt_objective(str(whole.get("objective", TaskOptions.objectives[0]))), **own}
        if not whole.get("transfer"):
            own = {axis: value for axis, value in own.items() if axis not in OF_TRANSFER}
        if "none" in weights or (whole.get("alpha") == 0 and not whole.get("transfer")):
            own = control
        for one in (control, own):
            found += [] if one in found else [one]
    return found


def control_of(levels: Mapping[str, Value]) -> Levels:
    """Return the levels of a cell's control."""
    return {"objective": "none", **{axis: level for axis, level in levels.items() if axis not in GUIDANCE}}


def in_words(axis: str, level: object) -> str:
    """Return a level as a person reads it."""
    if level == "":
        return "none"
    return "all" if axis in ("labelled", "max_train") and level == 0 else str(level)


def _mapping(given: Mapping[str, Any], key: str, named: str) -> Mapping[str, Any]:
    found = given.get(key) or {}
    if not isinstance(found, Mapping):
        raise UserError(f"{named}: {key} is {shown(found)}: give a mapping of options")
    for option in found:
        known = (*CROSSED, GUIDE) if key == "axes" else (*CROSSED, *EVALUATED)
        if option not in known:
            raise UserError(
                f"{named}: {key}: unknown option {shown(option)}: {near_or_known(option, known)}; data, teacher and "
                "the like are given on the command line"
            )
    return found


def _value(option: str, value: Any, where: str) -> Value:
    if option == GUIDE:
        if value not in get_args(GuideName):
            raise UserError(f"{where}: {option}={shown(value)}: give one of {joined(get_args(GuideName))}")
        return str(value)
    try:
        return typed(option, value)
    except ValueError:
        raise UserError(f"{where}: {option}={shown(value)}: give {described(option)}") from None


def _levels(option: str, given: Any, where: str) -> tuple[Value, ...]:
    if not isinstance(given, list) or not given:
        raise UserError(f"{where}: {option} is {shown(given)}: give a list of one value or more")
    values = tuple(_value(option, value, where) for value in given)
    for value in values:
        if values.count(value) > 1:
            raise UserError(f"{where}: {option} has {shown(value)} twice: give different values")
    return values


def _exclusion(given: Any, axes: Mapping[str, Sequence[Value]], where: str) -> Mapping[str, tuple[Value, ...]]:
    if not isinstance(given, Mapping) or not given:
        raise UserError(f"{where} has {shown(given)}: give mappings of axes, such as {{objective: hidden}}")
    found = {}
    for axis, values in given.items():
        if axis not in axes:
            raise UserError(f"{where} names {shown(axis)}, which is no axis: {near_or_known(axis, axes)}")
        found[axis] = tuple(_value(axis, one, where) for one in (values if isinstance(values, list) else [values]))
        for value in found[axis]:
            if value not in axes[axis]:
                raise UserError(f"{where} has {axis}={shown(value)}, which is never the case: give of {axes[axis]}")
    return found


def _is(point: Mapping[str, Value], named: Mapping[str, Sequence[Value]]) -> bool:
    return all(point[axis] in values for axis, values in named.items())
