"""The design of a study: which options vary, crossed with one another, and the cells that this makes. Pure."""

import itertools
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, replace
from pathlib import Path
from typing import Any

from kd.base.budgets import BUDGETS
from kd.base.console import shown
from kd.base.types import GuideName, UserError
from kd.base.written import parse_yaml, read_text
from kd.config import DistillConfig, RowOptions, StudentConfig, StudyConfig, TaskOptions, options_in
from kd.config.objective import parse_objective, plays_a_part, spelt_objective
from kd.config.options import Option
from kd.space.values import Value, described, near_or_known, typed

OF_TRANSFER = ("transfer_confidence", "transfer_balance")
"""Options that choose among transfer rows."""
GUIDE = "guide"
"""An axis that is no option: who teaches, the teacher or, for self-training, the student's own control."""
GUIDANCE = (GUIDE, *options_in(DistillConfig).keys() - options_in(StudentConfig).keys())
"""What a student without a teacher does not have."""
EVALUATED = "attribution_examples"
"""An option of the evaluation alone: it may be in the base."""
REFUSED = {
    **dict.fromkeys(
        options_in(RowOptions).keys() - {"max_train", "labelled"},
        "it chooses the rows that are read and scored, which all cells share",
    ),
    **dict.fromkeys(
        ("experiment", "resume", "checkpoint_every_s", "cache", "cache_budget_gib", "devices", *BUDGETS),
        "it changes where or how a training is kept, and no result",
    ),
    EVALUATED: "it changes the evaluation, and no training",
}
"""Options that cannot be an axis, and why."""
DECIDING = {name: options_in(DistillConfig)[name].default for name in ("objective", "alpha", "transfer")}
"""Options that say whether a cell learns from a teacher, and their defaults."""
MOST_COMBINATIONS = 100_000
"""More than are trained within a year, and as many as are planned within seconds."""
KEYS = ("title", "base", "axes", "exclude")
Excluded = Mapping[str, frozenset[Value | None]]
"""A combination that is left out: all cells that have one of the values for each option named."""
Levels = dict[str, Value | None]
"""A cell: option -> its value there, for the axes that play a part in it."""


@dataclass(frozen=True)
class Design:
    """What a YAML file describes.

    Attributes:
        name: the file's, without its ending.
        title: what a person reads.
        base: options that are the same in all cells.
        axes: options that vary, and their values; every combination is a cell.
        exclude: combinations that are left out.
        text: the file's.
    """

    name: str
    title: str
    base: Mapping[str, Value | None]
    axes: Mapping[str, tuple[Value | None, ...]]
    exclude: tuple[Excluded, ...]
    text: str = ""


def load_design(path: str, own: type[TaskOptions] = TaskOptions) -> Design:
    """Read a design from a YAML file; `own` are the task's options, which may be axes like those of `distill`.

    Raises:
        UserError: there is no such file, or what `read_design` refuses.
    """
    named = f"design={path!r}"
    text = read_text(_found(path), named, "give a YAML file, such as studies/quick.yaml")
    return replace(read_design(parse_yaml(text, named), named, Path(path).stem, own), text=text)


def _found(path: str) -> str:
    """Return where a design is: here, or, by a path such as studies/quick.yaml, among those that come with this."""
    shipped = os.path.join(Path(__file__).parents[2], path)
    ours = Path(path).parts[:-1] == ("studies",) and os.path.isfile(shipped)
    return shipped if ours and not os.path.exists(path) else path


def read_design(given: Any, named: str, name: str, own: type[TaskOptions] = TaskOptions) -> Design:
    """Read a design from mappings as a YAML file has them; errors say that it comes from `named`.

    They are title, base (option -> value), axes (option -> list of values) and exclude (a list of option -> value or
    list of values).

    Raises:
        UserError: what is unknown, missing, refused as an axis, of the wrong type, given twice or never the case.
    """
    if not isinstance(given, Mapping):
        raise UserError(f"{named} must have {', '.join(KEYS)}, such as: axes: {{objective: [soft, hard]}}")
    for key in given:
        if key not in KEYS:
            raise UserError(f"{named}: unknown key {shown(key)}: {near_or_known(key, KEYS)}")
    read = _Reader(named, own)
    base = {key: read.value(key, value, "base") for key, value in read.options(given, "base").items()}
    axes = {key: read.values(key, value) for key, value in read.options(given, "axes").items()}
    if not axes:
        raise UserError(f"{named}: axes is missing: give options and their values, such as {{objective: [soft, hard]}}")
    for key in base.keys() & axes.keys():
        raise UserError(f"{named}: {key} is in base and in axes: leave one out")
    title = given.get("title", name)
    if not isinstance(title, str) or not title.strip():
        raise UserError(f"{named}: title is {shown(title)}: give text, in quotes where it looks like a number")
    left_out = given.get("exclude") or []
    if not isinstance(left_out, list):
        raise UserError(f"{named}: exclude is {shown(left_out)}: give a list of mappings")
    exclude = tuple(read.exclusion(one, axes) for one in left_out)
    return Design(name, title, base, axes, exclude)


def cells(design: Design) -> list[Levels]:
    """Return the cells and the controls that they need, each once, seed by seed: broken off, whole seeds are done.

    A control has no objective and nothing of what belongs to one, so that several cells may share it. The objective is
    there also where it is no axis.

    Raises:
        UserError: everything is excluded, or there are too many.
    """
    pairs = ((control_of(point), _levels(design, point)) for point in _combinations(design))
    found = dict.fromkeys(tuple(levels.items()) for pair in pairs for levels in pair)
    if not found:
        raise UserError(f"study {design.title!r}: exclude leaves no cell: leave some of it out")
    return [dict(levels) for levels in found]


def control_of(levels: Mapping[str, Value | None]) -> Levels:
    """Return the levels of a cell's control."""
    return {"objective": "none", **{axis: level for axis, level in levels.items() if axis not in GUIDANCE}}


def in_words(axis: str, level: object) -> str:
    """Return a level as a person reads it."""
    if level in ("", None):
        return "none"
    if axis == "student_config":
        return Path(str(level)).stem
    return "all" if axis in ("labelled", "max_train") and level == 0 else str(level)


def _combinations(design: Design) -> Iterator[Levels]:
    """Yield every combination of the axes' values that is not excluded, the seeds changing slowest."""
    order = sorted(design.axes, key=lambda axis: axis != "seed")
    if (count := math.prod(map(len, design.axes.values()))) > MOST_COMBINATIONS:
        raise UserError(
            f"study {design.title!r} crosses {count:,} combinations: give fewer values, at most {MOST_COMBINATIONS:,} "
            "combinations; each that is not excluded is a training"
        )
    for values in itertools.product(*(design.axes[axis] for axis in order)):
        chosen = dict(zip(order, values, strict=True))
        point = {axis: chosen[axis] for axis in design.axes}
        if not any(all(point[axis] in values for axis, values in one.items()) for one in design.exclude):
            yield point


def _levels(design: Design, point: Levels) -> Levels:
    """Return the levels that play a part at a combination; its control's where nothing is learned from a teacher.

    That is under the objective none, and where alpha is 0 without transfer rows. The temperature, say, plays no part
    under `hard`, and what chooses among transfer rows none where there are none.
    """
    objective, alpha, transfer = (point.get(name, design.base.get(name, DECIDING[name])) for name in DECIDING)
    weights = parse_objective(str(objective))
    if "none" in weights or (alpha == 0 and not transfer):
        return control_of(point)
    idle = ("objective", *(() if transfer else OF_TRANSFER))
    parts = {axis: level for axis, level in point.items() if axis not in idle and plays_a_part(axis, weights)}
    return {"objective": spelt_objective(str(objective)), **parts}


class _Reader:
    """Reads the parts of a design; errors say where it comes from."""

    def __init__(self, named: str, own: type[TaskOptions]) -> None:
        self.named = named
        self.known = {**options_in(StudyConfig, own), GUIDE: Option(GUIDE, GuideName, MISSING, "", "")}
        self.axes = (*(one for one in options_in(DistillConfig, own) if one not in REFUSED), GUIDE)

    def options(self, given: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        """Return the mapping at a key, its options checked."""
        found = given.get(key) or {}
        if not isinstance(found, Mapping):
            raise UserError(f"{self.named}: {key} is {shown(found)}: give a mapping of options")
        known = self.axes if key == "axes" else (*self.axes[:-1], EVALUATED)
        for option in found:
            if option not in known and option in REFUSED:
                reason = f"{option} cannot be in {key}: {REFUSED[option]}"
                raise UserError(f"{self.named}: {reason}; it is given on the command line")
            if option not in known:
                raise UserError(f"{self.named}: {key}: unknown option {shown(option)}: {near_or_known(option, known)}")
        return found

    def value(self, option: str, value: Any, key: str) -> Value | None:
        """Return a value of the option's type; where nothing is given by default, "" or null is a value too."""
        if value in ("", None) and value == self.known[option].default:
            return None if value is None else ""
        try:
            return typed(option, value, self.known)
        except ValueError:
            allowed = described(option, self.known)
            raise UserError(f"{self.named}: {key}: {option}={shown(value)}: give {allowed}") from None

    def values(self, option: str, given: Any) -> tuple[Value | None, ...]:
        """Return the different values of an axis."""
        if not isinstance(given, list) or not given:
            raise UserError(f"{self.named}: axes: {option} is {shown(given)}: give a list of one value or more")
        found: dict[Value | None, None] = {}
        for one in given:
            value = self.value(option, one, "axes")
            if value in found:
                raise UserError(f"{self.named}: axes: {option} has {shown(value)} twice: give different values")
            found[value] = None
        return tuple(found)

    def exclusion(self, given: Any, axes: Mapping[str, tuple[Value | None, ...]]) -> Excluded:
        """Return one combination that is left out."""
        where = f"{self.named}: exclude"
        if not isinstance(given, Mapping) or not given:
            raise UserError(f"{where} has {shown(given)}: give mappings of axes, such as {{objective: hidden}}")
        found = {}
        for axis, values in given.items():
            if axis not in axes:
                raise UserError(f"{where} names {shown(axis)}, which is no axis: {near_or_known(axis, axes)}")
            wanted = [self.value(axis, one, "exclude") for one in (values if isinstance(values, list) else [values])]
            known = frozenset(axes[axis])
            for value in wanted:
                if value not in known:
                    raise UserError(f"{where} has {axis}={shown(value)}, which is never the case: give of {axes[axis]}")
            found[axis] = frozenset(wanted)
        return found
