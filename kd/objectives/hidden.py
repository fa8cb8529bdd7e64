"""Hidden states: the student's layers have the same outputs as the teacher's; `hidden`, `cosine` and `patient`.

All compare `student`, `(batch, length, width)`, projected to the teacher's width where it has another, with `teacher`,
which no gradient reaches, where `mask`, `(batch, length)`, is true. They return (sum over valid tokens, their number),
>= 0, and 0 where the two agree; computed in float32.
"""

import torch
import torch.nn.functional as F

from kd.base.types import Term
from kd.objectives.base import at_valid, masked_sum


def hidden_mse(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> Term:
    """Mean over the width of the squared difference of hidden states, at each valid token.

    FitNets (Romero et al. 2015, https://arxiv.org/abs/1412.6550) and TinyBERT (Jiao et al. 2020, its L_hidn,
    https://arxiv.org/abs/1909.10351).
    """
    mask, ours, theirs = at_valid(mask, student, teacher.detach())
    return masked_sum((ours.float() - theirs.float()).square().mean(dim=-1), mask)


def cosine_distance(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> Term:
    """1 - cosine of the hidden states, 0 to 2, at each valid token; the objective compares the last layers.

    DistilBERT (Sanh et al. 2019, section 3, https://arxiv.org/abs/1910.01108).
    """
    mask, ours, theirs = at_valid(mask, student, teacher.detach())
    return masked_sum(1.0 - F.cosine_similarity(ours.float(), theirs.float(), dim=-1), mask)


def patient_distance(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> Term:
    """Squared distance of hidden states divided by their length, 0 to 4, at each valid token.

    PKD (Sun et al. 2019, https://arxiv.org/abs/1908.09355). The paper compares the [CLS] token alone, which not every
    task has, and sums over layers; here the mean over valid tokens and over pairs is taken. The last layers, whose
    states decide the logits, are compared only if `match` gives pairs: with `match=spaced` or `skip` it is PKD-Skip,
    with `last` PKD-Last.
    """
    mask, ours, theirs = at_valid(mask, student, teacher.detach())
    ours, theirs = (F.normalize(each.float(), dim=-1, eps=1e-6) for each in (ours, theirs))
    return masked_sum((ours - theirs).square().sum(dim=-1), mask)
