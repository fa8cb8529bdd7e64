"""Options of a cascade."""

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from kd.base.types import UserError
from kd.config.training import MainConfig


@dataclass(frozen=True, kw_only=True)
class CascadeConfig(MainConfig):
    """Distil step by step, teacher to assistants to student, beside the direct route, each step with its control."""

    heading: ClassVar[str] = "this command"
    chain: str = "6,4,2"
    """Teacher, assistants and student, three or more, comma-separated. A number is layers, those of `teacher` or cut
    from the model before; else a model as `teacher` or `student` take it: models:/T/1,distilbert-base-uncased,./tiny,2.
    Each step takes `epochs`, the direct route as many as all steps."""

    def __post_init__(self) -> None:
        """Refuse what is out of range, and what the chain says already."""
        super().__post_init__()
        first = self.members[0]
        if isinstance(first, str):
            if self.teacher not in (first, CascadeConfig.teacher):
                raise UserError(
                    f"teacher={self.teacher!r} beside chain={self.chain!r}, which starts at another model: leave "
                    "teacher out, or start the chain at its number of layers"
                )
            object.__setattr__(self, "teacher", first)
        for option in ("student", "student_layers", "student_config"):
            if value := getattr(self, option):
                raise UserError(
                    f"{option}={value!r} beside chain={self.chain!r}: the chain says what each student is; leave "
                    f"{option} out"
                )
        if self.initialisation and not any(isinstance(one, int) for one in self.members[1:]):
            raise UserError(
                f"initialisation={self.initialisation!r} chooses among layers, but chain={self.chain!r} cuts no "
                "student: leave it out"
            )
        if self.objective == "none":
            raise UserError(
                "objective='none' hands on nothing from teacher to student, and the controls are trained anyway: "
                "give another, such as soft"
            )

    @property
    def members(self) -> tuple[int | str, ...]:
        """The models of the chain, the teacher first: a number of layers, or a model's name.

        Raises:
            UserError: the chain is not understood, has no assistant, or its layers do not fall.
        """
        parts = [part.strip() for part in self.chain.split(",")]
        named, example = f"chain={self.chain!r}", "such as 6,4,2"
        if not all(re.match(r"\d+$|[^\d-]|\d+[^\d.]", part) for part in parts):
            raise UserError(f"{named} is not understood: give numbers of layers or models, {example}")
        found = tuple(int(part) if part.isdecimal() else part for part in parts)
        numbers = [(before, after) for before, after in pairwise(found) if isinstance(after, int)]
        if any(after < 1 or (isinstance(before, int) and after >= before) for before, after in numbers):
            raise UserError(f"{named} does not fall to a number >= 1: give more layers before fewer, {example}")
        if len(found) < 3:
            raise UserError(
                f"{named} has no assistant between teacher and student: give three or more, {example}; "
                "without an assistant it is the entry point main"
            )
        return found
