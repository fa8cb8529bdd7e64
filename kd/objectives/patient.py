"""Patient distillation: normalised hidden states of inner layers."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from kd.base.types import LayerPairs, MaskName, Needs, Setting, StudentOutputs, TeacherOutputs, Term, UserError
from kd.objectives.base import at_valid, masked_sum, mean_term


def patient_distance(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> Term:
    """Squared distance of hidden states divided by their length, at each valid token.

    PKD (Sun et al. 2019, https://arxiv.org/abs/1908.09355). The paper compares the [CLS] token alone, which
    not every task has; here every valid token counts, and the mean over them is taken.

    Args:
        student: `(batch, length, width)`, projected to the teacher's width where it has another.
        teacher: `(batch, length, width)`; no gradient reaches it.
        mask: `(batch, length)`, true at valid tokens.

    Returns:
        (sum over valid tokens, their number), 0 to 4 each, and 0 where the two agree; computed in float32.
    """
    mask, ours, theirs = at_valid(mask, student, teacher.detach())
    ours, theirs = (F.normalize(each.float(), dim=-1, eps=1e-6) for each in (ours, theirs))
    return masked_sum((ours - theirs).square().sum(dim=-1), mask)


@dataclass(frozen=True)
class Patient:
    """`patient`: distance of normalised hidden states of mapped layers; the mean over pairs, where the paper sums.

    The last layers, whose states decide the logits, are compared only if `match` gives pairs: with `match=spaced` or
    `skip` it is PKD-Skip, with `last` PKD-Last.
    """

    pairs: LayerPairs
    needs: Needs
    name: str = "patient"
    mask: MaskName = "tokens"

    def __call__(self, student: StudentOutputs, teacher: TeacherOutputs, mask: torch.Tensor) -> Term:
        """Compare hidden states; see `patient_distance`."""
        return mean_term(patient_distance(student.hidden[mine], teacher.hidden[its], mask) for mine, its in self.pairs)


def patient(setting: Setting) -> Patient:
    """Build the term.

    Raises:
        UserError: the last layers are the only pair.
    """
    if not setting.inner:
        raise UserError(
            f"objective='patient' leaves the last layers to the logits, and nothing is left to compare of a student of "
            f"{setting.student.layers} and a teacher of {setting.teacher.layers} layers: give pairs as match, such as "
            "0:1, or another objective"
        )
    return Patient(setting.inner, setting.needs("hidden", setting.inner, joined=True))
