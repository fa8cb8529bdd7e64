"""The plan of a training, made before anything is trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from kd.base.task import Processor
from kd.base.types import Objective, Role
from kd.run.data import Rows
from kd.run.encode import FeaturesOf
from kd.run.locate import Loaded
from kd.run.signals import TeacherSignals


@dataclass(frozen=True)
class Plan:
    """The plan of one training.

    Attributes:
        stage: entry point's name.
        role: teacher, student or distilled.
        method: how it is trained, in words, such as `distill soft T=2`.
        start: what it starts from, in words.
        seed: of initialisation, order and dropout.
        model: as initialised.
        processor: the model's.
        rows: the data it is trained and scored on.
        features: the splits of `rows` as the model is fed.
        identity: everything but the seed that decides the learned weights; hashed to the arm.
        control: the same for the arm's control; None where the arm is a control or a teacher.
        objective: comparisons with the teacher; without terms for a teacher and a control.
        teacher: None for a teacher.
        signals: the teacher's outputs; None for a teacher.
        explained: number of examples on which attributions are compared with the teacher's.
        teacher_labels: number of labels the teacher has seen, where they are not the student's; else empty.
    """

    stage: str
    role: Role
    method: str
    start: str
    seed: int
    model: PreTrainedModel
    processor: Processor
    rows: Rows
    features: FeaturesOf
    identity: Mapping[str, Any]
    control: Mapping[str, Any] | None = None
    objective: Objective = Objective()  # noqa: RUF009
    teacher: Loaded | None = None
    signals: TeacherSignals | None = None
    explained: int = 0
    teacher_labels: str = ""

    @property
    def label(self) -> str:
        """Name of the arm in tables; tag `kd.label`."""
        labels = f" · {len(self.rows.train)} labels" if "labelled" in self.identity else ""
        return f"{self.method} · {self.start}{labels}"

    @property
    def title(self) -> str:
        """Name of the run, for people."""
        return titled(self.label, self.seed)


def titled(label: str, seed: int | str) -> str:
    """Return the name of the run of an arm on one seed."""
    return f"{label} · seed {seed}"
