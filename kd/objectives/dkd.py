"""Decoupled distillation: the teacher's confidence, apart from its distribution over the other options."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from kd.base.types import OUTPUTS_ALONE, MaskName, Needs, StudentOutputs, TeacherOutputs, Term, TopLogProbs
from kd.objectives.base import log_distributions, masked_sum, mean_term, paired

TARGET, OTHERS = 1.0, 8.0
"""The paper's weights of the two parts on CIFAR-100."""


def decoupled_kl(
    student_logits: torch.Tensor, teacher_logits: torch.Tensor | TopLogProbs, mask: torch.Tensor, temperature: float
) -> Term:
    """T^2 * (1 TCKD + 8 NCKD) at each valid position (Zhao et al. 2022, https://arxiv.org/abs/2203.08679).

    TCKD is the KL divergence of [p(target), 1 - p(target)], NCKD that of the distributions over all other options; the
    plain KL is TCKD + (1 - p(target)) NCKD, which suppresses NCKD where the teacher is sure. The paper's target is the
    label; here it is the teacher's most probable option, because transfer rows have no labels.

    Args:
        student_logits: `(..., options)`.
        teacher_logits: `(..., options)`, or its most probable options: see `log_distributions`.
        mask: `(...)`, true at valid positions.
        temperature: T > 0.

    Returns:
        (sum over valid positions, their number), in nats, >= 0, and 0 where the two agree; computed in float32.
    """
    mask, ours, theirs = log_distributions(student_logits, teacher_logits, mask, temperature)
    options = theirs[..., :-1] if isinstance(teacher_logits, TopLogProbs) else theirs  # the rest is no option
    target = torch.zeros_like(theirs, dtype=torch.bool).scatter(-1, options.argmax(dim=-1, keepdim=True), True)
    parts = []
    for each in (ours, theirs):
        rest = each.masked_fill(target, float("-inf")).logsumexp(dim=-1, keepdim=True)
        sure = each.masked_fill(~target, 0.0).sum(dim=-1, keepdim=True)
        parts.append((torch.cat([sure, rest], dim=-1), (each - rest).masked_fill(target, 0.0)))
    (our_target, our_others), (their_target, their_others) = parts
    tckd = F.kl_div(our_target, their_target, reduction="none", log_target=True).sum(dim=-1)
    nckd = F.kl_div(our_others, their_others, reduction="none", log_target=True).sum(dim=-1)  # 0 at the target
    return masked_sum((TARGET * tckd + OTHERS * nckd) * temperature**2, mask)


@dataclass(frozen=True)
class Dkd:
    """`dkd`: decoupled distillation at a temperature."""

    temperature: float
    name: str = "dkd"
    mask: MaskName = "positions"
    needs: Needs = OUTPUTS_ALONE

    def __call__(self, student: StudentOutputs, teacher: TeacherOutputs, mask: torch.Tensor) -> Term:
        """Compare each output `(positions, options)`; see `decoupled_kl`."""
        return mean_term(decoupled_kl(*each, mask, self.temperature) for each in paired(student, teacher))
