"""What crosses folders: the words an option may take, frozen records, and the one error that is the user's to mend.

Nothing heavy is imported here, because options are parsed with these words before torch or MLflow is loaded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    import torch

STANDARD_COLUMNS = ("example_id", "group")
"""Columns of every task's predictions."""
CALLER_ONLY = ("labels", "row")
"""Keys of a batch that are not the model's."""
GuideName = Literal["teacher", "control"]
REST = "rest"
"""Where transfer rows come from: the training rows whose labels are not used."""
SplitName = Literal["train", "validation", "test"]
TaskName = Literal["classification"]
ObjectiveName = Literal[
    "none", "soft", "hard", "hidden", "attention", "relation", "cosine", "patient", "jsd", "dkd"
]  # fmt: skip
MatchName = Literal["spaced", "last", "skip"]
InitialisationName = Literal["first", "top-k", "last", "bottom-k", "odd", "even", "spaced", "random", "importance"]
PrecisionName = Literal["auto", "fp32", "bf16", "fp16"]
ResumeName = Literal["auto", "never"]
OutputName = Literal["table", "json", "csv", "html"]
SearchedArmName = Literal["distill", "control", "both"]
SamplerName = Literal["tpe", "random", "grid"]
PrunerName = Literal["median", "hyperband", "none"]
FormatName = Literal["onnx", "onnx-int8", "safetensors"]
CacheName = Literal["auto", "on", "off"]
CacheActionName = Literal["list", "verify", "prune"]
Role = Literal["teacher", "student", "distilled", "trivial"]
MaskName = Literal["target", "positions", "tokens"]

LayerPairs: TypeAlias = tuple[tuple[int, int], ...]
"""(layer of the student, layer of the teacher) that are compared, both 0-based."""

Term: TypeAlias = "tuple[torch.Tensor, torch.Tensor]"
"""A loss as (sum over valid positions, number of valid positions): two scalars. The trainer divides, once."""


class UserError(Exception):
    """A mistake the user can mend. Its text is one line: the option, the value got, what is allowed, what to do.

    An entry point prints it on stderr without a stack trace and exits with 2.
    """


class Refused(Exception):
    """A gate was not passed. The text says which, the figure and the threshold. Exit code 3."""


class Stopped(BaseException):
    """SIGTERM or Ctrl-C arrived and a checkpoint was saved; the same command goes on from there. Exit code 143.

    No Exception, as KeyboardInterrupt is none: it may come within a library that makes its own error of any.
    """


class Pruned(Exception):
    """A trial was stopped early, because others did better at the same point. No failure."""


class EncodedRows(Protocol):
    """Rows as model inputs, with columns `row` (position) and `length` (in tokens) beside them."""

    def __len__(self) -> int: ...  # noqa: D105

    def __getitem__(self, column: str) -> Any:
        """Return a column of numbers."""
        ...

    def __getitems__(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Return the rows at these positions: a number or a list of numbers by column."""
        ...


@dataclass(frozen=True)
class TopLogProbs:
    """A distribution over many options, of which the most probable are kept one by one and the rest as a whole.

    Attributes:
        values: `(..., k)`, float32: log-probabilities in nats at temperature 1, the greatest first.
        indices: `(..., k)`, int64: their options.
        tail: `(..., 8)`, float32: at i the logarithm of the sum of p^((i + 1) / 8) over the options that are left out;
            the last is their mass at temperature 1. At temperature T the sum of p^(1 / T) is what is needed.
    """

    values: "torch.Tensor"
    indices: "torch.Tensor"
    tail: "torch.Tensor"


@dataclass(frozen=True)
class TeacherOutputs:
    """What the teacher said about one batch, in the batch's order; float32, no gradient.

    Layers are counted from 0. What is shorter than the batch's longest is filled with 0, on the tokenizer's side.

    Attributes:
        logits: `(batch, ..., options)`, or the most probable of 30,000 options or more.
        hidden: output of each layer asked for, `(batch, length, width)`.
        attention: attention maps of each layer asked for, `(batch, heads, length, length)`; a row sums to 1.
        relation: queries, keys and values of each layer asked for, `(batch, 3, length, width)`, heads side by side.
    """

    logits: "torch.Tensor | TopLogProbs"
    hidden: "Mapping[int, torch.Tensor]" = field(default_factory=dict)
    attention: "Mapping[int, torch.Tensor]" = field(default_factory=dict)
    relation: "Mapping[int, torch.Tensor]" = field(default_factory=dict)


@dataclass(frozen=True)
class StudentOutputs:
    """What the student said about one batch, by the same names and shapes as `TeacherOutputs`; with gradient."""

    logits: "torch.Tensor"
    hidden: "Mapping[int, torch.Tensor]" = field(default_factory=dict)
    attention: "Mapping[int, torch.Tensor]" = field(default_factory=dict)
    relation: "Mapping[int, torch.Tensor]" = field(default_factory=dict)


@dataclass(frozen=True)
class Needs:
    """What a term compares besides logits.

    Attributes:
        student: such as `hidden.0`, the output of layer 0 (0-based).
        teacher: likewise, of the teacher.
        widths: of the student's and the teacher's hidden states, where a projection that is trained along joins them;
            the term is given the student's hidden states projected. None where there is nothing to join.
    """

    student: tuple[str, ...] = ()
    teacher: tuple[str, ...] = ()
    widths: tuple[int, int] | None = None


LOGITS_ALONE = Needs()


@dataclass(frozen=True)
class Shape:
    """A model's number of layers, width of hidden states, and number of attention heads."""

    layers: int
    width: int
    heads: int


@dataclass(frozen=True)
class Setting:
    """What terms are built from.

    Attributes:
        temperature: T > 0 of the soft targets.
        beta: from 0, forward KL, to 1, reverse KL, for `jsd`.
        student: its shape.
        teacher: its shape.
        pairs: layers to compare.
        inner: the same for terms that leave the last layer to the logits.
    """

    temperature: float
    beta: float
    student: Shape
    teacher: Shape
    pairs: LayerPairs
    inner: LayerPairs

    def needs(self, kind: str, pairs: LayerPairs, joined: bool = False) -> Needs:
        """Say that `kind` of these layers is compared; `joined`: by a projection where widths differ."""
        student, teacher = (tuple(dict.fromkeys(f"{kind}.{pair[side]}" for pair in pairs)) for side in (0, 1))
        widths = (self.student.width, self.teacher.width)
        return Needs(student, teacher, widths if joined and widths[0] != widths[1] else None)


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

    @property
    def needs(self) -> Needs:
        """What it compares besides logits."""
        ...

    def __call__(self, student: StudentOutputs, teacher: TeacherOutputs, mask: "torch.Tensor") -> Term:
        """Compare what the student said with what the teacher said; no gradient reaches the teacher."""
        ...


@dataclass(frozen=True)
class Content:
    """The tokens of a batch that an explanation speaks of.

    Attributes:
        key: which of the model's inputs holds tokens, `(batch, length)`.
        mask: `(batch, length)`: true at tokens that say something, false at padding and special tokens.
        blank: the token that stands for nothing.
    """

    key: str
    mask: "torch.Tensor"
    blank: int


@dataclass(frozen=True)
class RunRecord:
    """A tracked run, as comparison reads it; `started` in ms since 1970, `name` for people alone."""

    run_id: str
    name: str
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    started: int = 0

    @property
    def label(self) -> str:
        """What a table calls the run's arm: tag `kd.label`.

        Runs of a store older than that tag have none; their label is the name without ` · seed N` at its end.
        """
        return self.tags.get("kd.label") or self.name.rpartition(" · seed ")[0] or self.name
