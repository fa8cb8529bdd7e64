"""Options of a cascade."""

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
    """Layers of teacher, assistants and student, three numbers or more, comma-separated and falling. Each step takes
    `epochs`, the direct route as many as all steps."""

    def __post_init__(self) -> None:
        """Refuse what is out of range, and what the chain says already."""
        super().__post_init__()
        _ = self.layers
        for option in ("student", "student_layers", "student_config"):
            if value := getattr(self, option):
                raise UserError(
                    f"{option}={value!r} beside chain={self.chain!r}: each student is cut from the model before it, to "
                    f"the chain's number of layers; leave {option} out"
                )
        if self.objective == "none":
            raise UserError(
                "objective='none' hands on nothing from teacher to student, and the controls are trained anyway: "
                "give another, such as soft"
            )

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers of each model, the teacher's first.

        Raises:
            UserError: the chain is not understood, has no assistant, or does not fall.
        """
        parts = [part.strip() for part in self.chain.split(",")]
        named, example = f"chain={self.chain!r}", "such as 6,4,2"
        if not all(part.isdecimal() for part in parts):
            raise UserError(f"{named} is not understood: give numbers of layers, {example}")
        numbers = tuple(map(int, parts))
        if numbers[-1] < 1 or any(after >= before for before, after in pairwise(numbers)):
            raise UserError(f"{named} does not fall to a number >= 1: give the teacher's layers first, {example}")
        if len(numbers) < 3:
            raise UserError(
                f"{named} has no assistant between teacher and student: give three numbers or more, {example}; "
                "without an assistant it is the entry point main"
            )
        return numbers
