"""Generalised Jensen-Shannon divergence: between forward and reverse KL."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from kd.base.types import OUTPUTS_ALONE, MaskName, Needs, StudentOutputs, TeacherOutputs, Term, TopLogProbs
from kd.objectives.base import log_distributions, masked_sum, mean_term, paired


def generalised_jsd(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor | TopLogProbs,
    mask: torch.Tensor,
    temperature: float,
    beta: float,
) -> Term:
    """T^2 * (beta KL(P || M) + (1 - beta) KL(Q || M)), M = beta P + (1 - beta) Q, at each valid position.

    P is the teacher's distribution at T, Q the student's. At beta 0 it is defined as KL(P || Q), at 1 as KL(Q || P):
    the formula itself tends to 0 there, but divided by beta or 1 - beta it tends to these (Agarwal et al. 2024,
    On-Policy Distillation of Language Models, https://arxiv.org/abs/2306.13649). T^2 as in `soft`.

    Args:
        student_logits: `(..., options)`.
        teacher_logits: `(..., options)`, or its most probable options: see `log_distributions`.
        mask: `(...)`, true at valid positions.
        temperature: T > 0.
        beta: 0 to 1.

    Returns:
        (sum over valid positions, their number), in nats, >= 0, and 0 where the two agree; computed in float32.
    """
    mask, ours, theirs = log_distributions(student_logits, teacher_logits, mask, temperature)
    if beta == 0:
        divergence = _kl(theirs, ours)
    elif beta == 1:
        divergence = _kl(ours, theirs)
    else:
        mixture = torch.logaddexp(theirs + math.log(beta), ours + math.log1p(-beta))
        divergence = beta * _kl(theirs, mixture) + (1 - beta) * _kl(ours, mixture)
    return masked_sum(divergence * temperature**2, mask)


def _kl(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return KL(one || other) over the last axis, of logarithms."""
    return F.kl_div(other, one, reduction="none", log_target=True).sum(dim=-1)


@dataclass(frozen=True)
class Jsd:
    """`jsd`: generalised Jensen-Shannon divergence at a temperature."""

    temperature: float
    beta: float
    name: str = "jsd"
    mask: MaskName = "positions"
    needs: Needs = OUTPUTS_ALONE

    def __call__(self, student: StudentOutputs, teacher: TeacherOutputs, mask: torch.Tensor) -> Term:
        """Compare each output `(positions, options)`; see `generalised_jsd`."""
        return mean_term(generalised_jsd(*each, mask, self.temperature, self.beta) for each in paired(student, teacher))
