"""Hard targets: the student learns the teacher's decision as if it were the label."""

import torch
import torch.nn.functional as F

from kd.base.types import Term, TopLogProbs
from kd.objectives.base import at_valid, masked_sum


def hard_cross_entropy(
    student_logits: torch.Tensor, teacher_logits: torch.Tensor | TopLogProbs, mask: torch.Tensor
) -> Term:
    """Cross-entropy of the student against the teacher's most probable option, at each valid position.

    The temperature plays no part. It is the pseudo-label form of distillation (Touvron et al. 2021, DeiT, equation 3,
    https://arxiv.org/abs/2012.12877).

    Args:
        student_logits: `(..., options)`.
        teacher_logits: `(..., options)`, or its most probable options; no gradient reaches it.
        mask: `(...)`, true at valid positions.

    Returns:
        (sum over valid positions, their number), in nats, >= 0; computed in float32.
    """
    if isinstance(teacher_logits, TopLogProbs):
        choice = teacher_logits.indices[..., :1]
    else:
        choice = teacher_logits.detach().argmax(dim=-1, keepdim=True)
    mask, student, choice = at_valid(mask, student_logits, choice)
    log_probabilities = F.log_softmax(student.float(), dim=-1)
    return masked_sum(-log_probabilities.gather(-1, choice).squeeze(-1), mask)
