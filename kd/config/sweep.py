"""Options of the entry points that train many students by a plan: study and cascade."""

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from kd.base.console import command, shown
from kd.base.numbers import whole
from kd.base.types import UserError
from kd.config.base import PositiveInt
from kd.config.training import SeedsOptions, TeachingOptions


@dataclass(frozen=True, kw_only=True)
class StudyConfig(TeachingOptions):
    """Train the same student under every condition of a design, with its controls, and say what mattered."""

    heading: ClassVar[str] = "training"
    design: str
    """YAML file of the design: studies/quick.yaml and others that come with kd, or your own."""
    workers: PositiveInt = 1
    """Processes that train cells on this machine, >= 1; CPU threads and GPUs are shared out among them."""
    dry_run: bool = False
    """Read the data, print the cells and about how long they take, and train nothing."""

    def _require_transfer(self) -> None:
        """Each cell checks it: what contradicts may be an axis."""


@dataclass(frozen=True, kw_only=True)
class CascadeConfig(SeedsOptions):
    """Distil step by step, teacher to assistants to student, beside the direct route, each step with its control."""

    heading: ClassVar[str] = "student"
    chain: str = "6,4,2"
    """Teacher, assistants and student, three or more, comma-separated. A number is layers, those of `teacher` or cut
    from the model before; else a model as `teacher` or `student` take it: models:/T/1,distilbert-base-uncased,./tiny,2.
    Each step takes `epochs`, the direct route as many as all steps."""

    def __post_init__(self) -> None:
        """Refuse what the chain says already, and an objective that hands on nothing."""
        first = self.members[0]
        if isinstance(first, str):
            if self.teacher != first:
                self._refuse_beside("chain", "teacher", why="it starts at another model", instead="start at a number")
            object.__setattr__(self, "teacher", first)
        super().__post_init__()
        why, instead = "it says what each student is", "name the model in chain"
        self._refuse_beside("chain", "student", "student_layers", "student_config", why=why, instead=instead)
        if all(isinstance(one, str) for one in self.members[1:]):
            self._refuse_beside("chain", "initialisation", why="no layers are chosen", instead="end it with a number")
        if self.objective == "none":
            raise UserError("objective='none' is what the controls have anyway: give another, such as soft")

    @property
    def members(self) -> tuple[int | str, ...]:
        """The models of the chain, the teacher first: a number of layers, or a model's name. Raises UserError."""
        found = tuple(_member(part.strip()) for part in self.chain.split(","))
        named, example = f"chain={shown(self.chain)}", "such as 6,4,2"
        if any(one < 0 if isinstance(one, int) else not re.match(r"[^\d-]|\d+[^\d.]", one) for one in found):
            raise UserError(f"{named} is not understood: give numbers of layers or models, {example}")
        numbers = [(before, after) for before, after in pairwise(found) if isinstance(after, int)]
        if any(after < 1 or (isinstance(before, int) and after >= before) for before, after in numbers):
            raise UserError(f"{named} does not fall to a number >= 1: give more layers before fewer, {example}")
        if len(found) < 3:
            raise UserError(f"{named} has no assistant: give three models or more, {example}, or run {command('main')}")
        return found


def _member(text: str) -> int | str:
    try:
        return whole(text)
    except ValueError:
        return text
