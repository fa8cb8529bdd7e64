"""A training, decided, before it is carried out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kd.signals import TeacherSignal
from kd.stages.rows import Rows
from kd.stages.weights import Located
from kd.types import ObjectiveTerm, Role, SplitName


@dataclass(frozen=True)
class Plan:
    """One training, decided.

    Attributes:
        stage: entry point's name.
        role: teacher, student or distilled.
        title: run name.
        model: as initialised.
        tokenizer: the model's.
        rows: what it learns and is scored on.
        identity: what makes the learned weights what they are, seed left out; hashed to the arm.
        control: the same for the arm's control; None where the arm is a control or a teacher.
        terms: comparisons with the teacher.
        alpha: their weight.
        teacher: the teacher's files and URI; None for a teacher.
        signal: gives the teacher's outputs for "train", "validation" or "test"; None for a teacher.
    """

    stage: str
    role: Role
    title: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    rows: Rows
    identity: Mapping[str, Any]
    control: Mapping[str, Any] | None
    terms: tuple[ObjectiveTerm, ...]
    alpha: float
    teacher: Located | None
    signal: Callable[[SplitName], TeacherSignal] | None
