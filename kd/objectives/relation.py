"""Self-attention relations: which tokens are similar in the last layer, by queries, by keys and by values."""

import math

import torch
import torch.nn.functional as F

from kd.base.types import Term
from kd.objectives.base import kl, masked_sum

FAR = -1e30
"""Score of a masked key."""


def relation_kl(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor, most_heads: int) -> Term:
    """KL of softmax(A A^T / sqrt(d)), teacher to student, for A queries, keys and values, at each valid query position.

    MiniLMv2 (Wang et al. 2021, https://arxiv.org/abs/2012.15828): the concatenated vectors of all heads are split again
    into relation heads of width d, so that widths and numbers of heads may differ. The mean over the three relations
    and over heads.

    Args:
        student: `(batch, 3, length, width)`: queries, keys, values.
        teacher: `(batch, 3, length, its width)`; no gradient reaches it.
        mask: `(batch, length)`, true at valid tokens.
        most_heads: as many relation heads are taken, or the most below that divide both widths.

    Returns:
        (sum over valid query positions, their number), in nats, >= 0, and 0 where the two agree; computed in float32.
    """
    heads, valid = relation_heads(student.shape[-1], teacher.shape[-1], most_heads), mask.bool()
    ours, theirs = (_relations(each, valid, heads) for each in (student, teacher.detach()))
    return masked_sum(kl(theirs, ours).mean(dim=(1, 2)), valid)


def _relations(vectors: torch.Tensor, valid: torch.Tensor, heads: int) -> torch.Tensor:
    """Return log-probabilities `(batch, 3, heads, length, length)`."""
    kept = vectors.float().masked_fill(~valid[:, None, :, None], 0.0)
    split = kept.reshape(*kept.shape[:-1], heads, -1).transpose(2, 3)
    scores = split @ split.transpose(-1, -2) / math.sqrt(split.shape[-1])
    return F.log_softmax(scores.masked_fill(~valid[:, None, None, None, :], FAR), dim=-1)


def relation_heads(width: int, its_width: int, most: int) -> int:
    """Return the greatest number up to `most` that divides both widths."""
    shared = math.gcd(width, its_width)
    return max(heads for heads in range(1, most + 1) if shared % heads == 0)
