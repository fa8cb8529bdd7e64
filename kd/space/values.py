"""What a searched option may be, and how values are read and shown."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeAlias, get_args

from kd.base.console import did_you_mean
from kd.base.numbers import GREATEST, number
from kd.base.types import UserError
from kd.config import DistillConfig, options_in
from kd.config.layers import spelt_layers
from kd.config.objective import allowed_objectives, spelt_match, spelt_objective
from kd.config.options import Option

SEARCHABLE = (
    *("learning_rate", "epochs", "batch_size", "gradient_accumulation", "warmup_ratio", "weight_decay", "patience"),
    *("objective", "alpha", "temperature", "beta", "match"),
    *("student_layers", "initialisation"),
)
"""Options of `distill` that may be searched."""
OPTIONS: Mapping[str, Option] = options_in(DistillConfig)
Value: TypeAlias = str | int | float


def as_number(value: Any, whole: bool = False) -> float:
    """Read a finite number (if `whole`, one that floats have exactly) or its text, as MLflow logs it; or ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    try:
        read = number(value) if isinstance(value, str) else float(value)
    except OverflowError:  # a whole number past every float
        read = math.inf
    if not math.isfinite(read) or (whole and (read != int(read) or abs(read) > GREATEST)):
        raise ValueError
    return int(read) if whole else read


def _layers(value: Any) -> str:
    """Read a count of layers, also as a number, or indices as text."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError
    return spelt_layers(str(value))


SPELT: dict[str, Callable[[Any], str]] = {
    "objective": lambda value: spelt_objective(str(value)),
    "match": lambda value: spelt_match(str(value)),
    "student_layers": _layers,
}
"""Texts with a grammar of their own, and their one spelling."""


def typed(name: str, value: Any, options: Mapping[str, Option] = OPTIONS) -> Value:
    """Return a value as the option has it, or raise ValueError where it cannot have it."""
    kinds = (options[name].kind, *get_args(options[name].kind))
    if int in kinds or float in kinds:
        return as_number(value, whole=int in kinds)
    if name in SPELT:
        try:
            return SPELT[name](value)
        except UserError as error:
            raise ValueError from error
    words, kind = options[name].words, bool if bool in kinds else str
    if not isinstance(value, kind) or not str(value).strip() or (words and value not in words):
        raise ValueError
    return value.strip() if isinstance(value, str) else value


def described(name: str, options: Mapping[str, Option] = OPTIONS) -> str:
    """Say in words what an option takes."""
    texts = {
        "objective": allowed_objectives(options[name].offered),
        "match": "spaced, last, skip, or pairs such as 0:2,1:5",
        "student_layers": 'a count of layers such as 2, or rising 0-based indices in quotes such as "0,5"',
        "transfer": "rest, or a data set",
        "teacher": "weights to fine-tune, or a finished teacher as models:/... or runs:/...",
    }
    return texts.get(name) or options[name].allowed


def joined(values: Iterable[Value]) -> str:
    """Return values as a list to read."""
    return ", ".join(map(str, values))


def near_or_known(word: Any, known: Collection[str]) -> str:
    """Return what an unknown word may have meant."""
    return did_you_mean(word, known, f"known: {', '.join(known) or 'none'}")
