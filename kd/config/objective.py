"""The texts of `objective` and `match`: read without torch, and spelt in one way, so that equal options look equal."""

from collections.abc import Collection, Mapping
from typing import cast, get_args

from kd.base.console import shown
from kd.base.numbers import number, whole
from kd.base.types import MatchName, ObjectiveName, UserError

OBJECTIVE_NAMES: tuple[ObjectiveName, ...] = get_args(ObjectiveName)
PRESETS = {"mixed": "soft,hidden,attention"}
"""Words that stand for a sum."""
USED_BY: dict[str, tuple[ObjectiveName, ...]] = {
    "temperature": ("soft", "jsd", "dkd"),
    "beta": ("jsd",),
    "match": ("hidden", "attention", "patient"),
}
"""Options that play a part in some objectives alone."""


def positive(text: str) -> float | None:
    """Return the finite number > 0 that a text means; None where it means none."""
    try:
        return value if (value := number(text)) > 0 else None
    except ValueError:
        return None


def parse_objective(text: str, offered: Collection[str] = OBJECTIVE_NAMES) -> dict[ObjectiveName, float]:
    """Read a weighted sum such as `soft:0.5,hidden:0.1` into weights by name, in the order of `ObjectiveName`.

    A weight that is left out is 1. Errors name the objectives that are `offered`, those of a task. Raises UserError for
    an unknown or repeated name, a weight that is not finite and > 0, or `none` beside others.
    """
    weights: dict[str, float] = {}
    for part in PRESETS.get(text.strip(), text).split(","):
        name, colon, number = (word.strip() for word in part.partition(":"))
        if name not in OBJECTIVE_NAMES:
            wrong = f"{shown(name)} is no objective"
        elif name in weights:
            wrong = f"{name} is given twice"
        elif (weight := positive(number) if colon else 1.0) is None:
            wrong = f"the weight {shown(number)} of {name} is no finite number > 0"
        else:
            weights[name] = weight
            continue
        raise UserError(f"objective={shown(text)} is not understood, {wrong}: give {allowed_objectives(offered)}")
    if "none" in weights and weights != {"none": 1}:
        raise UserError(f"objective={shown(text)}: none goes with no other: give {allowed_objectives(offered)}")
    return {name: weights[name] for name in OBJECTIVE_NAMES if name in weights}


def plays_a_part(option: str, weights: Mapping[ObjectiveName, float]) -> bool:
    """Whether an option changes anything under an objective."""
    return any(name in USED_BY.get(option, weights) for name in weights)


def allowed_objectives(offered: Collection[str] = OBJECTIVE_NAMES) -> str:
    """Say what `objective` may be, of those that are `offered`."""
    presets = [f"{word} ({whole})" for word, whole in PRESETS.items() if {*whole.split(",")} <= {*offered}]
    names = [name for name in OBJECTIVE_NAMES if name in offered]
    terms = [name for name in names if name != "none"]
    example = ",".join(f"{name}:{weight}" for name, weight in zip(terms, (0.5, 0.1), strict=False))
    return f"one of {', '.join([*names, *presets])}, or a weighted sum such as {example}"


def spelt_objective(text: str, offered: Collection[str] = OBJECTIVE_NAMES) -> str:
    """Return an objective in its one spelling: presets unfolded, names in order, weights of 1 left out."""
    parts = parse_objective(text, offered).items()
    return ",".join(name if weight == 1 else f"{name}:{_number(weight)}" for name, weight in parts)


def _number(value: float) -> str:
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def parse_match(text: str) -> MatchName | tuple[tuple[int, int], ...]:
    """Read a map's name, or pairs of 0-based layers such as `0:2,1:5` (student:teacher), returned in rising order.

    Raises UserError for neither, or for a pair that is given twice.
    """
    names = get_args(MatchName)
    if text.strip() in names:
        return cast(MatchName, text.strip())
    allowed = f"{', '.join(names)}, or pairs of 0-based layers, student:teacher, such as 0:2,1:5"
    try:
        pairs = [(whole(mine), whole(its)) for mine, _, its in (part.partition(":") for part in text.split(","))]
    except ValueError:
        pairs = [(-1, -1)]
    if min(map(min, pairs)) < 0:
        raise UserError(f"match={shown(text)} is not understood: give {allowed}")
    if len(set(pairs)) < len(pairs):
        raise UserError(f"match={shown(text)} has a pair twice: give {allowed}")
    return tuple(sorted(pairs))


def spelt_match(text: str) -> str:
    """Return a map in its one spelling."""
    read = parse_match(text)
    return read if isinstance(read, str) else ",".join(f"{mine}:{its}" for mine, its in read)
