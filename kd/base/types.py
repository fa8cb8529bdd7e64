"""What crosses folders: the words an option may take, frozen records, and the one error that is the user's to mend.

Nothing heavy is imported here, because options are parsed with these words before torch or MLflow is loaded.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, cast, get_args

from kd.base.harmless import harmless

if TYPE_CHECKING:
    import numpy as np
    import torch
    from datasets import Dataset

STANDARD_COLUMNS = ("example_id", "group")
"""Columns of every task's predictions."""
OUTPUTS = "outputs"
"""What is asked of a teacher to have all that the task compares; else `hidden.3` and the like."""
GuideName = Literal["teacher", "control"]
REST = "rest"
"""Where transfer rows come from: the training rows whose labels are not used."""
Holds = Literal["text", "class", "name", "value"]
"""What a column must hold: text; a class, that is one text, whole number or truth value; what may also be a date; any
number too."""
SplitName = Literal["train", "validation", "test"]
TaskName = Literal["classification", "forecasting"]
ObjectiveName = Literal[
    "none", "soft", "hard", "hidden", "attention", "relation", "cosine", "patient", "jsd", "dkd", "mse"
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
ChallengerName = Literal["better", "replace"]
Role = Literal["teacher", "student", "distilled", "trivial"]
MaskName = Literal["target", "positions", "tokens"]
LayerKind = Literal["hidden", "attention", "relation"]

LayerPairs: TypeAlias = tuple[tuple[int, int], ...]
"""(layer of the student, layer of the teacher) that are compared, both 0-based."""

Term: TypeAlias = "tuple[torch.Tensor, torch.Tensor]"
"""A loss as (sum over valid positions, number of valid positions): two scalars. The trainer divides, once."""


class UserError(Exception):
    """A mistake the user can mend. Its text is one line: the option, the value got, what is allowed. Exit code 2."""

    def __init__(self, text: str) -> None:
        """Signs that a terminal does not show, of names that users and files give, are written as in Python."""
        super().__init__("".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text))


class Halted(UserError):
    """What stops all work, as any other would meet it too. What was finished is kept; the same command continues."""


class DiskFull(Halted):
    """There is no room to write. The text says where."""


class Refused(Exception):
    """A gate was not passed. The text says which, the figure and the threshold. Exit code 3."""


class Stopped(BaseException):
    """SIGTERM or Ctrl-C arrived, and the same command continues from the last checkpoint. Exit code 143.

    No Exception, as KeyboardInterrupt is none: it may come within a library that makes its own error of any.
    """


class Lost(BaseException):
    """Another process of the same training has ended, so that this one cannot continue. Exit code 143."""


class Followed(BaseException):
    """This process has done its part of a training that the main process concludes. Exit code 0."""


class Pruned(Exception):
    """A trial was stopped early, because others did better at the same point. No failure."""


@dataclass(frozen=True)
class Splits:
    """The three splits, each with the original columns, `example_id` and `group` (both strings)."""

    train: "Dataset"
    validation: "Dataset"
    """Chosen and tuned on."""
    test: "Dataset"
    """Scored once, at the end."""
    notes: tuple[str, ...] = ()
    """Sentences for the user: what was cut from what, what was refused as a test and why, what leaks."""


class Features(Protocol):
    """What a model is fed, one feature after the other; an example may have several.

    Its columns are the model's inputs, the truth, `feature` (its own number), `example` (the number of its example) and
    `length` (what a forward pass costs, such as its number of tokens).
    """

    def __len__(self) -> int: ...

    def __getitem__(self, column: str) -> Any:
        """Return a column of numbers."""

    def __getitems__(self, features: Sequence[int]) -> list[dict[str, Any]]:
        """Return the features at these positions: a number or a list of numbers by column."""


@dataclass(frozen=True)
class Batch:
    """Features padded together."""

    inputs: "Mapping[str, torch.Tensor]"
    """What the model is fed, by the names of its `forward`; each `(batch, ...)`."""
    truth: "Mapping[str, torch.Tensor]"
    """What the task compares with; the model does not see it."""
    features: "np.ndarray"
    """`(batch,)`, the features' numbers, always on the CPU: reading them elsewhere waits for the device."""

    def __len__(self) -> int:
        return len(self.features)

    def to(self, device: Any, non_blocking: bool = False) -> "Batch":
        """Return the same batch on a device; `accelerate` calls it."""
        return self._with(lambda value: value.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """Return the same batch in memory that a GPU reads quickly; torch's DataLoader calls it."""
        return self._with(lambda value: value.pin_memory())

    def _with(self, moved: "Callable[[torch.Tensor], torch.Tensor]") -> "Batch":
        inputs, truth = ({name: moved(value) for name, value in part.items()} for part in (self.inputs, self.truth))
        return Batch(inputs, truth, self.features)


@dataclass(frozen=True)
class LayerContent:
    """What one layer of a model gives: its text form is `hidden.3`, the output of layer 3, counted from 0."""

    kind: LayerKind
    layer: int

    @classmethod
    def parse(cls, text: str) -> "LayerContent | None":
        """Return what a text names; None where that is no layer's, as `logits`. Raises ValueError for `hidden.x`."""
        word, _, layer = text.partition(".")
        if word not in get_args(LayerKind):
            return None
        if not (layer.isascii() and layer.isdecimal()):
            raise ValueError(f"{text!r} names no layer: write {word}.0 for the first")
        return cls(cast(LayerKind, word), int(layer))

    def __str__(self) -> str:
        return f"{self.kind}.{self.layer}"


@dataclass(frozen=True)
class TopLogProbs:
    """A distribution over many options, of which the most probable are kept one by one and the rest as a whole."""

    values: "torch.Tensor"
    """`(..., k)`, float32: log-probabilities in nats at temperature 1, the greatest first."""
    indices: "torch.Tensor"
    """`(..., k)`, int64: their options."""
    tail: "torch.Tensor"
    """`(..., 8)`, float32: at i the logarithm of the sum of p^((i + 1) / 8) over the options that are left out; the
    last is their mass at temperature 1. At temperature T the sum of p^(1 / T) is what is needed."""


@dataclass(frozen=True)
class TeacherOutputs:
    """What the teacher says about one batch, in the batch's order; float32, no gradient. Layers are counted from 0.

    Layers shorter than the batch's longest are filled with 0, on the processor's side.
    """

    outputs: "Mapping[str, torch.Tensor | TopLogProbs]" = field(default_factory=dict)
    """What the task compares, by name: `(positions, ...)`, the valid positions of all features one after the other; of
    30,000 options or more the most probable."""
    hidden: "Mapping[int, torch.Tensor]" = field(default_factory=dict)
    """Output of each layer that is compared, `(batch, length, width)`."""
    attention: "Mapping[int, torch.Tensor]" = field(default_factory=dict)
    """Attention maps of each such layer, `(batch, heads, length, length)`; a row sums to 1."""
    relation: "Mapping[int, torch.Tensor]" = field(default_factory=dict)
    """Queries, keys and values of each such layer, `(batch, 3, length, width)`, heads side by side."""


@dataclass(frozen=True)
class StudentOutputs:
    """What the student says about one batch, by the same names and shapes as `TeacherOutputs`; with gradient."""

    outputs: "Mapping[str, torch.Tensor]" = field(default_factory=dict)
    hidden: "Mapping[int, torch.Tensor]" = field(default_factory=dict)
    attention: "Mapping[int, torch.Tensor]" = field(default_factory=dict)
    relation: "Mapping[int, torch.Tensor]" = field(default_factory=dict)


@dataclass(frozen=True)
class Needs:
    """What a term compares instead of the task's outputs, such as `hidden.0`, the output of layer 0."""

    student: tuple[str, ...] = ()
    teacher: tuple[str, ...] = ()
    widths: tuple[int, int] | None = None
    """Of the student's and the teacher's hidden states, where a projection that is trained along joins them: the term
    is given the student's hidden states projected. None where there is nothing to join."""


OUTPUTS_ALONE = Needs()


@dataclass(frozen=True)
class Shape:
    """A model's number of layers, width of hidden states, and number of attention heads."""

    layers: int
    width: int
    heads: int


@dataclass(frozen=True)
class Setting:
    """What the terms of an objective are built from."""

    temperature: float
    beta: float
    """From 0, forward KL, to 1, reverse KL, for `jsd`."""
    student: Shape
    teacher: Shape
    pairs: LayerPairs
    """Layers to compare."""
    inner: LayerPairs
    """The same for terms that leave the last layer to the logits."""

    def needs(self, kind: LayerKind, pairs: LayerPairs) -> Needs:
        """Return what is compared: `kind` of these layers; a projection joins hidden states of different widths."""
        student, teacher = (
            tuple(dict.fromkeys(str(LayerContent(kind, pair[side])) for pair in pairs)) for side in (0, 1)
        )
        widths = (self.student.width, self.teacher.width)
        return Needs(student, teacher, widths if kind == "hidden" and widths[0] != widths[1] else None)


class ObjectiveTerm(Protocol):
    """One way of comparing a student with its teacher on a batch."""

    @property
    def name(self) -> str:
        """Short name; the term is logged as `train/loss_<name>`."""

    @property
    def mask(self) -> MaskName:
        """Which of the task's masks says where the term is computed; its sum is the term's count."""

    @property
    def needs(self) -> Needs:
        """Which layers it compares; none where it compares the task's outputs."""

    def __call__(self, student: StudentOutputs, teacher: TeacherOutputs, mask: "torch.Tensor") -> Term:
        """Compare what the student says with what the teacher says; no gradient reaches the teacher."""


@dataclass(frozen=True)
class Objective:
    """What a distilled student minimises beside its own loss; without terms the student learns from the truth alone."""

    terms: tuple[ObjectiveTerm, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    """Of each term among them, by its name; 1 where not named."""
    alpha: float = 0.0
    """Weight of the terms, 0 to 1; the task's loss has 1 - alpha."""

    @property
    def contents(self) -> tuple[str, ...]:
        """What the teacher must give: the task's outputs, and the layers that terms compare."""
        return (OUTPUTS, *sorted({name for term in self.terms for name in term.needs.teacher}))


@dataclass(frozen=True)
class Content:
    """The tokens of a batch that an explanation speaks of."""

    key: str
    """Which of the model's inputs are tokens, `(batch, length)`."""
    mask: "torch.Tensor"
    """`(batch, length)`: true at tokens that say something, false at padding and special tokens."""
    blank: int
    """The token that stands for nothing."""


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
        """What a table calls the run's arm: tag `kd.label`, or in an older store the name without ` · seed N`."""
        return harmless(self.tags.get("kd.label") or self.name.rpartition(" · seed ")[0] or self.name)
