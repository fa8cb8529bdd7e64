"""What crosses folders: the words an option may take, frozen records, and the one error that is the user's to mend.

Nothing heavy is imported here, because options are parsed with these words before torch or MLflow is loaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    import torch

STANDARD_COLUMNS = ("example_id", "group", "label", "prediction", "loss")
"""Columns of every task's predictions."""
SplitName = Literal["train", "validation", "test"]
TaskName = Literal["classification"]
ObjectiveName = Literal["none", "soft", "hard"]
InitialisationName = Literal["first", "last", "odd", "even", "spaced", "random"]
PrecisionName = Literal["auto", "fp32", "bf16", "fp16"]
ResumeName = Literal["auto", "never"]
OutputName = Literal["table", "json", "csv", "html"]
SearchedArmName = Literal["distill", "control", "both"]
SamplerName = Literal["tpe", "random", "grid"]
PrunerName = Literal["median", "hyperband", "none"]
FormatName = Literal["onnx", "onnx-int8", "safetensors"]
Role = Literal["teacher", "student", "distilled", "trivial"]
MaskName = Literal["target", "positions", "tokens"]

Term: TypeAlias = "tuple[torch.Tensor, torch.Tensor]"
"""A loss as (sum over valid positions, number of valid positions): two scalars. The trainer divides, once."""


class UserError(Exception):
    """A mistake the user can mend. Its text is one line: the option, the value got, what is allowed, what to do.

    An entry point prints it on stderr without a stack trace and exits with 2.
    """


class Refused(Exception):
    """A gate was not passed. The text says which, the figure and the threshold. Exit code 3."""


class Stopped(Exception):
    """SIGTERM or Ctrl-C arrived and a checkpoint was saved; the same command goes on from there. Exit code 143."""


class Pruned(Exception):
    """A trial was stopped early, because others did better at the same point. No failure."""


@dataclass(frozen=True)
class TeacherOutputs:
    """What the teacher said about one batch, in the batch's order.

    Attributes:
        logits: `(batch, ..., options)`, float32, no gradient.
    """

    logits: "torch.Tensor"


class ObjectiveTerm(Protocol):
    """One way of comparing a student with its teacher on a batch."""

    @property
    def name(self) -> str:
        """Short name; the term is logged as `train/loss_<name>`."""
        ...

    @property
    def mask(self) -> MaskName:
        """Which of the task's masks says where the term is computed; its sum is the term's count."""
        ...

    def __call__(self, student: Any, teacher: TeacherOutputs, mask: "torch.Tensor") -> Term:
        """Compare the student's model output with the teacher's; no gradient reaches the teacher."""
        ...


@dataclass(frozen=True)
class RunRecord:
    """A tracked run, as comparison reads it; `started` in ms since 1970."""

    run_id: str
    name: str
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    started: int = 0
