"""A searched option, and what a search does with a space of them: check it, draw from it, unfold it, write it down."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import combinations_with_replacement, islice
from typing import Any, Literal, Protocol, TypeAlias

from kd.base.console import shown
from kd.base.types import UserError
from kd.config import DistillConfig, default_of
from kd.space.values import OPTIONS, Value, described, joined, typed

OF_TEACHER = ("objective", "alpha", "temperature", "beta", "match")
"""Those that mean nothing without a teacher."""
MOST_POINTS = 10_000
"""Points a grid may have."""
RANGE = ("low", "high", "log", "step")
KEYS = {"float": RANGE, "int": RANGE, "categorical": ("choices",)}
"""What describes a parameter of each type, beside `type` and `when`."""


@dataclass(frozen=True)
class Parameter:
    """One option that is searched.

    Attributes:
        name: one of SEARCHABLE.
        kind: `float` and `int` are ranges, `categorical` is a choice.
        low: least value of a range, in the option's unit, included.
        high: greatest value of a range, included.
        log: whether a range is drawn from by its logarithm; then low > 0.
        step: distance between the values of a range, > 0; None: a float is any number between, an int every one.
        choices: values of a categorical parameter, different ones, of the option's type.
        when: categorical parameters before this one -> their values under which this one exists, all together.
    """

    name: str
    kind: Literal["float", "int", "categorical"]
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    choices: tuple[Value, ...] = ()
    when: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)


Space: TypeAlias = tuple[Parameter, ...]


class Suggests(Protocol):
    """What draws values: Optuna's `Trial`, `FixedTrial` or `FrozenTrial`; low and high are included."""

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        """Suggest a number."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """Suggest a whole number."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Suggest one of the choices."""


def steps_to(parameter: Parameter, value: float) -> Fraction:
    """Return how many steps a value is above low, by the decimals: 0.1 to 0.3 has two steps of 0.1."""
    return (Fraction(str(value)) - Fraction(str(parameter.low))) / Fraction(str(parameter.step or 1))


def value_at(parameter: Parameter, number: int) -> float:
    """Return low + number * step, of the range's type, without the error of adding floats."""
    exact = Fraction(str(parameter.low)) + number * Fraction(str(parameter.step or 1))
    return int(exact) if parameter.kind == "int" else float(exact)


def _as_option(parameter: Parameter, value: Any) -> Any:
    """Return a value of the option's type: an int range of a float option gives floats."""
    return float(value) if OPTIONS[parameter.name].kind is float else value


def _exists(parameter: Parameter, point: Mapping[str, Any]) -> bool:
    """Whether a parameter's conditions are met at the values of those before it."""
    return all(name in point and point[name] in values for name, values in parameter.when.items())


def extremes(space: Space, names: Collection[str]) -> Iterator[dict[str, Any]]:
    """Yield every combination of the bounds and choices of the parameters named, and of those they depend on."""
    needed = set(names)
    for parameter in reversed(space):
        if parameter.name in needed:
            needed |= set(parameter.when)
    part = tuple(parameter for parameter in space if parameter.name in needed)
    return _combinations(part, lambda one: one.choices or (one.low, one.high))


def _combinations(space: Space, values: Callable[[Parameter], Iterable[Value]]) -> Iterator[dict[str, Any]]:
    """Yield every combination of these values of the parameters that exist, the last parameter changing fastest."""
    if not space:
        yield {}
        return
    last = space[-1]
    for point in _combinations(space[:-1], values):
        if _exists(last, point):
            yield from ({**point, last.name: _as_option(last, value)} for value in values(last))
        else:
            yield point


def _every(parameter: Parameter) -> Iterable[Value]:
    """Return all values; a range counts by its step, or by 1."""
    if parameter.choices:
        return parameter.choices
    return (value_at(parameter, number) for number in range(int(steps_to(parameter, parameter.high)) + 1))


def check_space(space: Space, base: DistillConfig, named: str) -> None:
    """Check that the options take every bound and choice, beside the user's options that are not searched (`base`).

    Each two together, because some options exclude each other: `initialisation` and explicit `student_layers`.

    Raises:
        UserError: a value that is out of range or contradicts another, or an option that is given and searched.
    """
    for name in [parameter.name for parameter in space]:
        if (value := getattr(base, name)) != default_of(base, name):
            instead = f"leave {name} out, or give a space without it"
            raise UserError(f"{name}={value!r} is given, but {named} searches it: {instead}")
    for one, other in combinations_with_replacement(space, 2):
        for point in extremes(space, {one.name, other.name}):
            try:
                replace(base, **point)
            except UserError as error:
                raise UserError(f"{named}: {error}") from error


def for_control(space: Space) -> Space:
    """Return the space of the control, without the teacher's parameters and what depends on them; it may be empty."""
    gone = set(OF_TEACHER)
    for parameter in space:
        if gone & set(parameter.when):
            gone.add(parameter.name)
    return tuple(parameter for parameter in space if parameter.name not in gone)


def draw(space: Space, trial: Suggests) -> dict[str, Any]:
    """Let a trial suggest a value, of the option's type, for every parameter whose conditions are met, in order."""
    point: dict[str, Any] = {}
    for parameter in space:
        if _exists(parameter, point):
            point[parameter.name] = _as_option(parameter, _suggested(parameter, trial))
    return point


def _suggested(parameter: Parameter, trial: Suggests) -> Any:
    name, low, high, log = parameter.name, parameter.low, parameter.high, parameter.log
    if parameter.kind == "categorical":
        return trial.suggest_categorical(name, parameter.choices)
    if parameter.kind == "int":
        return trial.suggest_int(name, int(low), int(high), step=int(parameter.step or 1), log=log)
    value = trial.suggest_float(name, low, high, step=parameter.step, log=log)
    # Optuna's 0.1 + 2 * 0.1 is 0.30000000000000004: one point, one spelling
    return value if parameter.step is None else value_at(parameter, round(steps_to(parameter, value)))


def grid(space: Space, named: str) -> list[dict[str, Any]]:
    """Return every point of the space, once each, the last parameter changing fastest; values as `draw` gives them.

    A range without step, and more than MOST_POINTS points, are refused by a UserError.
    """
    for parameter in space:
        if not parameter.choices and parameter.step is None and parameter.low < parameter.high:
            instead = "choices, or step and no log" if parameter.log else "step, or type categorical and choices"
            raise UserError(f"{named}: {parameter.name} has no step, and a grid takes every value: give {instead}")
    points = list(islice(_combinations(space, _every), MOST_POINTS + 1))
    if len(points) > MOST_POINTS:
        raise UserError(f"{named} has more than {MOST_POINTS:,} points as a grid: give fewer choices or larger steps")
    return points


def within(space: Space, params: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Keep what the space can take of parameters from elsewhere, or of their texts as MLflow logs them.

    Options that the space does not search are passed over, and so are those whose conditions are not met: a run with
    hard targets logs its temperature too.

    Returns:
        (option -> value as `draw` gives it, what does not fit and why: "alpha='0' is outside 0.1 to 1.0"). What depends
        on an option that is not kept is not kept either.
    """
    kept: dict[str, Any] = {}
    absent: set[str] = set()  # their conditions are not met
    unfit: list[str] = []
    for parameter in space:
        name, when = parameter.name, parameter.when
        if any(one in absent or (one in kept and kept[one] not in values) for one, values in when.items()):
            absent.add(name)
        elif name in params:
            try:
                if unknown := joined(one for one in when if one not in kept):
                    raise ValueError(f"depends on {unknown}, which is not kept")
                kept[name] = _accepted(parameter, params[name])
            except ValueError as error:
                unfit.append(f"{name}={shown(params[name])} {error}")
    return kept, unfit


def _accepted(parameter: Parameter, given: Any) -> Any:
    """Return a value that the parameter can have; ValueError where it cannot."""
    try:
        value = typed(parameter.name, given)
    except ValueError:
        raise ValueError(f"is not {described(parameter.name)}") from None
    if parameter.choices:
        if value not in parameter.choices:
            raise ValueError(f"is not among {joined(parameter.choices)}")
        return value
    number = float(value)
    if parameter.step is not None or parameter.kind == "int":
        steps = steps_to(parameter, number)
        if abs(steps - round(steps)) > 1e-8:  # as Optuna distinguishes them
            raise ValueError(f"is between the steps of {parameter.step or 1} from {parameter.low}")
        number = value_at(parameter, round(steps))
    if not parameter.low <= number <= parameter.high:
        raise ValueError(f"is outside {parameter.low} to {parameter.high}")
    return _as_option(parameter, number)


def as_json(space: Space) -> str:
    """Return the space as JSON that `read_space` reads back, the same for equal spaces; parameters keep their order."""
    return json.dumps({parameter.name: _described(parameter) for parameter in space})


def _described(parameter: Parameter) -> dict[str, Any]:
    found = {key: getattr(parameter, key) for key in KEYS[parameter.kind]}
    found |= {"type": parameter.kind, "when": dict(sorted(parameter.when.items()))}
    return {key: value for key, value in sorted(found.items()) if value not in (None, {})}
