"""Soft targets: the student follows the teacher's whole distribution."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from kd.objectives.base import blanked, masked_sum
from kd.types import MaskName, TeacherOutputs, Term


def soft_kl(student_logits: torch.Tensor, teacher_logits: torch.Tensor, mask: torch.Tensor, temperature: float) -> Term:
    """T^2 * KL(softmax(teacher / T) || softmax(student / T)) at each valid position.

    T^2 keeps the gradient's size the same whatever T is (Hinton, Vinyals and Dean 2015, section 2.1,
    https://arxiv.org/abs/1503.02531).

    Args:
        student_logits: `(..., options)`.
        teacher_logits: `(..., options)`; no gradient reaches it.
        mask: `(...)`, true at valid positions.
        temperature: T > 0.

    Returns:
        (sum over valid positions, their number), in nats, >= 0, and 0 where the two agree; computed in float32.
    """
    student = F.log_softmax(blanked(student_logits, mask) / temperature, dim=-1)
    teacher = F.log_softmax(blanked(teacher_logits.detach(), mask) / temperature, dim=-1)
    divergence = F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=-1)
    return masked_sum(divergence * temperature**2, mask)


@dataclass(frozen=True)
class Soft:
    """`soft`: Hinton's soft targets at a temperature."""

    temperature: float
    name: str = "soft"
    mask: MaskName = "positions"

    def __call__(self, student: Any, teacher: TeacherOutputs, mask: torch.Tensor) -> Term:
        """Compare logits `(batch, ..., options)`; see `soft_kl`."""
        return soft_kl(student.logits, teacher.logits, mask, self.temperature)
