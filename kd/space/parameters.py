"""A searched option, and the points that a space of them has."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, TypeAlias

from kd.space.values import HINTS, Value


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


def last_step(parameter: Parameter) -> int:
    """Return how many steps fit between low and high. Fractions of the decimals: 0.1 to 0.3 has two steps of 0.1."""
    return int((Fraction(str(parameter.high)) - Fraction(str(parameter.low))) // Fraction(str(parameter.step or 1)))


def value_at(parameter: Parameter, number: int) -> float:
    """Return low + number * step, of the range's type, without the error of adding floats."""
    exact = Fraction(str(parameter.low)) + number * Fraction(str(parameter.step or 1))
    return int(exact) if parameter.kind == "int" else float(exact)


def steps_to(parameter: Parameter, value: float) -> Fraction:
    """Return how many steps a value is above low."""
    return (Fraction(value) - Fraction(str(parameter.low))) / Fraction(str(parameter.step or 1))


def as_option(parameter: Parameter, value: Any) -> Any:
    """Return a value of the option's type: an int range of a float option gives floats."""
    return float(value) if HINTS[parameter.name] is float else value


def exists(parameter: Parameter, point: Mapping[str, Any]) -> bool:
    """Whether a parameter's conditions are met at the values of those before it."""
    return all(name in point and point[name] in values for name, values in parameter.when.items())


def with_conditions(space: Space, names: Collection[str]) -> Space:
    """Return the parameters named, and those that their conditions are about."""
    needed = set(names)
    for parameter in reversed(space):
        if parameter.name in needed:
            needed |= set(parameter.when)
    return tuple(parameter for parameter in space if parameter.name in needed)


def combinations(
    space: Space, values: Callable[[Parameter], Iterable[Value]], chosen: Mapping[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield every combination of values of the parameters that exist, the last parameter changing fastest.

    Args:
        space: the parameters.
        values: parameter -> those of its values that are to be combined.
        chosen: values of the parameters before.
    """
    point = dict(chosen or {})
    if not space:
        yield point
        return
    first, others = space[0], space[1:]
    if not exists(first, point):
        yield from combinations(others, values, point)
        return
    for value in values(first):
        yield from combinations(others, values, {**point, first.name: as_option(first, value)})


def ends(parameter: Parameter) -> tuple[Value, ...]:
    """Return the values that bound all others."""
    return parameter.choices or (parameter.low, parameter.high)


def every(parameter: Parameter) -> Iterable[Value]:
    """Return all values; a range counts by its step, or by 1."""
    return parameter.choices or (value_at(parameter, number) for number in range(last_step(parameter) + 1))
