"""The toys' own options: light, as `--help` reads them."""

from dataclasses import dataclass
from typing import ClassVar

from kd.config.base import TaskOptions, require


@dataclass(frozen=True, kw_only=True)
class SeriesOptions(TaskOptions):
    """Windows of a series."""

    heading: ClassVar[str] = "series"
    objectives: ClassVar = ("mse", "hidden", "attention", "cosine", "relation", "patient")
    window: int = 8
    """Steps that are seen, >= 2."""
    horizon: int = 2
    """Steps that are forecast, >= 1."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        super().__post_init__()
        require(self.window >= 2, "window", self.window, "a number >= 2")
        require(self.horizon >= 1, "horizon", self.horizon, "a number >= 1")


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
