"""Attention maps: the student attends to the same tokens as the teacher."""

import torch

from kd.base.types import Term
from kd.objectives.base import masked_sum

LEAST = 1e-8
"""Lower bound of probabilities, so that the logarithm of one that is rounded to 0 is finite."""


def attention_kl(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> Term:
    """KL(teacher's map || student's map) over valid keys, mean over heads, at each valid query position.

    As in MobileBERT (Sun et al. 2020, section 3.2, attention transfer, https://arxiv.org/abs/2004.02984). TinyBERT
    takes the squared difference of scores before the softmax instead. Where the numbers of heads differ, the maps are
    averaged over heads first.

    Args:
        student: `(batch, heads, length, length)`, queries by keys; maps before dropout.
        teacher: `(batch, heads, length, length)`; no gradient reaches it.
        mask: `(batch, length)`, true at valid tokens.

    Returns:
        (sum over valid query positions, their number), in nats, >= 0, and 0 where the two agree; computed in float32.
    """
    valid = mask.bool()
    both = (valid.unsqueeze(-1) & valid.unsqueeze(-2)).unsqueeze(1)
    ours, theirs = (each.float().masked_fill(~both, 0.0) for each in (student, teacher.detach()))
    if ours.shape[1] != theirs.shape[1]:
        ours, theirs = ours.mean(dim=1, keepdim=True), theirs.mean(dim=1, keepdim=True)
    ours, theirs = (each / each.sum(dim=-1, keepdim=True).clamp(min=LEAST) for each in (ours, theirs))
    logarithms = theirs.clamp(min=LEAST).log() - ours.clamp(min=LEAST).log()
    return masked_sum((theirs * logarithms).sum(dim=-1).mean(dim=1), valid)
