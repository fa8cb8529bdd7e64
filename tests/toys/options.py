"""The toys' own options: light, as `--help` reads them."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from kd.config.base import PositiveInt, Range, TaskOptions


@dataclass(frozen=True, kw_only=True)
class SeriesOptions(TaskOptions):
    """Windows of a series."""

    heading: ClassVar[str] = "series"
    objectives: ClassVar = ("mse", "hidden", "attention", "cosine", "relation", "patient")
    window: Annotated[int, Range(lambda value: value >= 2, "a number >= 2")] = 8
    """Steps that are seen, >= 2."""
    horizon: PositiveInt = 2
    """Steps that are forecast, >= 1."""


@dataclass(frozen=True, kw_only=True)
class TagsOptions(TaskOptions):
    """Tags of words."""

    heading: ClassVar[str] = "tags"
    objectives: ClassVar = ("soft", "hard", "hidden", "attention", "relation", "cosine", "jsd", "dkd")


@dataclass(frozen=True, kw_only=True)
class EchoOptions(TaskOptions):
    """Text to text."""

    heading: ClassVar[str] = "echo"
    objectives: ClassVar = ("soft", "hidden", "cosine", "jsd")
