"""Soft targets: the student follows the teacher's whole distribution."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from kd.base.types import OUTPUTS_ALONE, MaskName, Needs, StudentOutputs, TeacherOutputs, Term, TopLogProbs
from kd.objectives.base import log_distributions, masked_sum, mean_term, paired


def soft_kl(
    student_logits: torch.Tensor, teacher_logits: torch.Tensor | TopLogProbs, mask: torch.Tensor, temperature: float
) -> Term:
    """T^2 * KL(softmax(teacher / T) || softmax(student / T)) at each valid position.

    T^2 makes the gradient's size independent of T (Hinton, Vinyals and Dean 2015, section 2.1,
    https://arxiv.org/abs/1503.02531).

    Args:
        student_logits: `(..., options)`.
        teacher_logits: `(..., options)`, or its most probable options: see `log_distributions`.
        mask: `(...)`, true at valid positions.
        temperature: T > 0.

    Returns:
        (sum over valid positions, their number), in nats, >= 0, and 0 where the two agree; computed in float32.
    """
    mask, ours, theirs = log_distributions(student_logits, teacher_logits, mask, temperature)
    divergence = F.kl_div(ours, theirs, reduction="none", log_target=True).sum(dim=-1)
    return masked_sum(divergence * temperature**2, mask)


@dataclass(frozen=True)
class Soft:
    """`soft`: Hinton's soft targets at a temperature."""

    temperature: float
    name: str = "soft"
    mask: MaskName = "positions"
    needs: Needs = OUTPUTS_ALONE

    def __call__(self, student: StudentOutputs, teacher: TeacherOutputs, mask: torch.Tensor) -> Term:
        """Compare each output `(positions, options)`; see `soft_kl`."""
        return mean_term(soft_kl(*each, mask, self.temperature) for each in paired(student, teacher))
