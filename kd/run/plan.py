"""A training, decided, before it is carried out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kd.base.types import ObjectiveTerm, Role, SplitName
from kd.run.data import Rows
from kd.run.locate import Located
from kd.teacher.signal import TeacherSignal


@dataclass(frozen=True)
class Plan:
    """One training, decided.

    Attributes:
        stage: entry point's name.
        role: teacher, student or distilled.
        method: how it is trained, in words, such as `distill soft T=2`.
        start: what it starts from, and how many labels it sees, in words.
        seed: of initialisation, order and dropout.
        model: as initialised.
        tokenizer: the model's.
        rows: what it learns and is scored on.
        identity: what makes the learned weights what they are, seed left out; hashed to the arm.
        control: the same for the arm's control; None where the arm is a control or a teacher.
        terms: comparisons with the teacher.
        weights: of each term by its name; 1 where not named.
        alpha: weight of them all.
        teacher: the teacher's files and URI; None for a teacher.
        signal: gives the teacher's outputs for "train", "validation" or "test", and which: logits alone where not said;
            None for a teacher.
        guide: the teacher's model; None for a teacher.
        explained: examples on which attributions are compared with the teacher's.
        teacher_labels: how many labels the teacher has seen, where they are others than the student's; else empty.
    """

    stage: str
    role: Role
    method: str
    start: str
    seed: int
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    rows: Rows
    identity: Mapping[str, Any]
    control: Mapping[str, Any] | None
    terms: tuple[ObjectiveTerm, ...]
    alpha: float
    teacher: Located | None
    signal: "Signals | None"
    weights: Mapping[str, float] = field(default_factory=dict)
    guide: PreTrainedModel | None = None
    explained: int = 0
    teacher_labels: str = ""

    @property
    def label(self) -> str:
        """What a table calls the arm; tag `kd.label`."""
        return f"{self.method} · {self.start}"

    @property
    def title(self) -> str:
        """What people read as the run's name."""
        return titled(self.label, self.seed)

    @property
    def contents(self) -> tuple[str, ...]:
        """What the terms compare of the teacher."""
        return ("logits", *sorted({name for term in self.terms for name in term.needs.teacher}))


def titled(label: str, seed: int | str) -> str:
    """Return the name of the run of an arm on one seed."""
    return f"{label} · seed {seed}"


class Signals(Protocol):
    """Gives the teacher's outputs for a split."""

    def __call__(self, name: SplitName, contents: tuple[str, ...] = ("logits",)) -> TeacherSignal: ...  # noqa: D102
