"""How student and teacher are compared. A new objective is a function, a line in OBJECTIVES and an ObjectiveName."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from kd.base.types import (
    OUTPUTS_ALONE,
    LayerKind,
    LayerPairs,
    MaskName,
    Needs,
    ObjectiveName,
    ObjectiveTerm,
    Setting,
    StudentOutputs,
    TeacherOutputs,
    Term,
    UserError,
)
from kd.objectives.attention import attention_kl
from kd.objectives.base import mean_term
from kd.objectives.distributions import decoupled_kl, generalised_jsd, soft_kl
from kd.objectives.hard import hard_cross_entropy
from kd.objectives.hidden import cosine_distance, hidden_mse, patient_distance
from kd.objectives.mse import squared_error
from kd.objectives.relation import relation_kl


@dataclass(frozen=True)
class Comparison:
    """A term: the mean of a comparison over the task's outputs, or over pairs of layers.

    Attributes:
        name: of the objective.
        compare: takes a tensor of the student, the teacher's, the mask, and `options`.
        options: such as a temperature.
        kind: of the layers' contents that are compared; None compares the task's outputs.
        pairs: those layers.
        needs: the same in words, and the widths to be joined; one projection serves all pairs, as in TinyBERT.
    """

    name: ObjectiveName
    compare: Callable[..., Term]
    options: tuple[float, ...] = ()
    kind: LayerKind | None = None
    pairs: LayerPairs = ()
    needs: Needs = OUTPUTS_ALONE

    @property
    def mask(self) -> MaskName:
        """Where it is computed."""
        return "tokens" if self.kind else "positions"

    def __call__(self, student: StudentOutputs, teacher: TeacherOutputs, mask: torch.Tensor) -> Term:
        """Compare what the student says with what the teacher says."""
        if self.kind is None:
            both = [(values, teacher.outputs[name]) for name, values in student.outputs.items()]
        else:
            ours, theirs = getattr(student, self.kind), getattr(teacher, self.kind)
            both = [(ours[mine], theirs[its]) for mine, its in self.pairs]
        return mean_term(self.compare(*each, mask, *self.options) for each in both)


def _of_layers(
    setting: Setting,
    name: ObjectiveName,
    compare: Callable[..., Term],
    kind: LayerKind,
    pairs: LayerPairs,
    *options: int,
) -> Comparison:
    return Comparison(name, compare, options, kind, pairs, setting.needs(kind, pairs))


def _last(setting: Setting) -> LayerPairs:
    return ((setting.student.layers - 1, setting.teacher.layers - 1),)


def _inner(setting: Setting) -> LayerPairs:
    if not setting.inner:
        raise UserError(
            f"objective='patient' leaves the last layers to the logits, and nothing is left to compare of a student of "
            f"{setting.student.layers} and a teacher of {setting.teacher.layers} layers: give pairs as match, such as "
            "0:1, or another objective"
        )
    return setting.inner


OBJECTIVES: dict[ObjectiveName, Callable[[Setting], ObjectiveTerm | None]] = {
    "none": lambda setting: None,
    "soft": lambda setting: Comparison("soft", soft_kl, (setting.temperature,)),
    "hard": lambda setting: Comparison("hard", hard_cross_entropy),
    "hidden": lambda setting: _of_layers(setting, "hidden", hidden_mse, "hidden", setting.pairs),
    "attention": lambda setting: _of_layers(setting, "attention", attention_kl, "attention", setting.pairs),
    "relation": lambda setting: _of_layers(
        setting, "relation", relation_kl, "relation", _last(setting), setting.teacher.heads
    ),
    "cosine": lambda setting: _of_layers(setting, "cosine", cosine_distance, "hidden", _last(setting)),
    "patient": lambda setting: _of_layers(setting, "patient", patient_distance, "hidden", _inner(setting)),
    "jsd": lambda setting: Comparison("jsd", generalised_jsd, (setting.temperature, setting.beta)),
    "dkd": lambda setting: Comparison("dkd", decoupled_kl, (setting.temperature,)),
    "mse": lambda setting: Comparison("mse", squared_error),
}
"""Builder of each objective's term. `none` has no term: the student learns from the labels alone."""
