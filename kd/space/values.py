"""What a searched option may be, and how values are read and shown."""

import difflib
import math
import reprlib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeAlias, get_args

from kd.base.types import UserError
from kd.config import DistillConfig, options_in
from kd.config.objective import allowed_objectives, spelt_match, spelt_objective

SEARCHABLE = (
    "learning_rate",
    "epochs",
    "batch_size",
    "gradient_accumulation",
    "warmup_ratio",
    "weight_decay",
    "patience",
    "objective",
    "alpha",
    "temperature",
    "beta",
    "match",
    "student_layers",
    "initialisation",
)
"""Options of `distill` that may be searched."""
HINTS: Mapping[str, Any] = {name: option.kind for name, option in options_in(DistillConfig).items()}
"""Option -> its type."""
Value: TypeAlias = str | int | float


def as_number(value: Any) -> float:
    """Read a finite number, also from text: `5e-5` is text in YAML 1.1, and MLflow logs all as text.

    Raises:
        ValueError: it is no finite number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    try:
        number = float(value)
    except OverflowError as error:
        raise ValueError from error  # a whole number past every float
    if not math.isfinite(number):
        raise ValueError
    return number


def as_whole(value: Any) -> int:
    """Read a whole number, also from text.

    Raises:
        ValueError: it is no whole number, or larger than those that a float has exactly.
    """
    number = as_number(value)
    if number != int(number) or abs(number) > 2**53:
        raise ValueError
    return int(number)


def _layers(value: Any) -> str:
    """Read a count of layers (2) or rising 0-based indices ("0,5", one index as "5,"), spelt in one way."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError
    parts = [part.strip() for part in str(value).split(",") if part.strip()]
    if not parts or not all(part.isdecimal() for part in parts):
        raise ValueError
    numbers = [int(part) for part in parts]
    if isinstance(value, str) and "," in value:
        if numbers != sorted(set(numbers)):
            raise ValueError
        return ",".join(map(str, numbers)) + ("," if len(numbers) == 1 else "")
    if numbers[0] < 1:
        raise ValueError
    return str(numbers[0])


def _text(value: Any) -> str:
    """Read a name that says something."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value.strip()


SPELT: dict[str, Callable[[Any], str]] = {
    "teacher": _text,
    "objective": lambda value: spelt_objective(str(value)),
    "match": lambda value: spelt_match(str(value)),
    "student_layers": _layers,
}
"""Texts with a grammar of their own, and their one spelling."""


def typed(name: str, value: Any, kinds: Mapping[str, Any] = HINTS) -> Value:
    """Return a value as the option has it; `kinds` are the types of the options there are.

    Raises:
        ValueError: the option cannot have it.
    """
    kind = kinds[name]
    if kind is bool:
        if not isinstance(value, bool):
            raise ValueError
        return value
    if int in (kind, *get_args(kind)):
        return as_whole(value)
    if float in (kind, *get_args(kind)):
        return as_number(value)
    if known := words(name, kinds):
        if value not in known:
            raise ValueError
        return str(value)
    if name in SPELT:
        try:
            return SPELT[name](value)
        except UserError as error:
            raise ValueError from error
    if not isinstance(value, str):
        raise ValueError
    return value.strip()


def words(name: str, kinds: Mapping[str, Any] = HINTS) -> tuple[str, ...]:
    """Return the words an option takes; none where it is a number or free text."""
    kind = kinds[name]
    return tuple(word for part in (kind, *get_args(kind)) for word in get_args(part) if isinstance(word, str))


def described(name: str, kinds: Mapping[str, Any] = HINTS) -> str:
    """Say in words what an option takes."""
    if known := words(name, kinds):
        return f"one of {joined(known)}"
    texts = {
        "objective": allowed_objectives(),
        "match": "spaced, last, skip, or pairs such as 0:2,1:5",
        "student_layers": 'a count of layers such as 2, or rising 0-based indices in quotes such as "0,5"',
        "transfer": "rest, or a data set",
        "teacher": "weights to fine-tune, or a finished teacher as models:/... or runs:/...",
    }
    numbers = {int: "a whole number", float: "a finite number", bool: "true or false"}
    kind = next((one for one in (kinds[name], *get_args(kinds[name])) if one in numbers), str)
    return texts.get(name) or numbers.get(kind, "text")


def joined(values: Iterable[Value]) -> str:
    """Return values as a list to read."""
    return ", ".join(map(str, values))


def near_or_known(word: Any, known: Collection[str]) -> str:
    """Return what an unknown word may have meant."""
    near = difflib.get_close_matches(word[:50], known, n=1) if isinstance(word, str) else []
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(known) or 'none'}"


def shown(value: Any) -> str:
    """Return a value's repr on one line, cut where it is long."""
    try:
        return " ".join(reprlib.repr(value).split())
    except ValueError:  # Python shows no number of more than 4300 digits; YAML reads one in hexadecimal
        return "a number too long to show"
