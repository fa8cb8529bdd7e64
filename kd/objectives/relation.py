"""Self-attention relations: which tokens are similar in the last layer, by queries, by keys and by values."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from kd.base.types import MaskName, Needs, Setting, StudentOutputs, TeacherOutputs, Term
from kd.objectives.base import masked_sum

FAR = -1e30
"""Score of a masked key."""


def relation_kl(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor, heads: int) -> Term:
    """KL of softmax(A A^T / sqrt(d)), teacher to student, for A queries, keys and values, at each valid query position.

    MiniLMv2 (Wang et al. 2021, https://arxiv.org/abs/2012.15828): the concatenated vectors of all heads are split again
    into `heads` of width d, so that widths and numbers of heads may differ. The mean over the three relations and over
    heads.

    Args:
        student: `(batch, 3, length, width)`: queries, keys, values.
        teacher: `(batch, 3, length, its width)`; no gradient reaches it.
        mask: `(batch, length)`, true at valid tokens.
        heads: number of relation heads; divides both widths.

    Returns:
        (sum over valid query positions, their number), in nats, >= 0, and 0 where the two agree; computed in float32.
    """
    valid = mask.bool()
    ours, theirs = (_relations(each, valid, heads) for each in (student, teacher.detach()))
    divergence = F.kl_div(ours, theirs, reduction="none", log_target=True).sum(dim=-1)
    return masked_sum(divergence.mean(dim=(1, 2)), valid)


def _relations(vectors: torch.Tensor, valid: torch.Tensor, heads: int) -> torch.Tensor:
    """Return log-probabilities `(batch, 3, heads, length, length)`."""
    kept = vectors.float().masked_fill(~valid[:, None, :, None], 0.0)
    split = kept.reshape(*kept.shape[:-1], heads, -1).transpose(2, 3)
    scores = split @ split.transpose(-1, -2) / math.sqrt(split.shape[-1])
    return F.log_softmax(scores.masked_fill(~valid[:, None, None, None, :], FAR), dim=-1)


@dataclass(frozen=True)
class Relation:
    """`relation`: divergence of the last layers' self-attention relations."""

    last: tuple[int, int]
    most_heads: int
    needs: Needs
    name: str = "relation"
    mask: MaskName = "tokens"

    def __call__(self, student: StudentOutputs, teacher: TeacherOutputs, mask: torch.Tensor) -> Term:
        """Compare queries, keys and values; see `relation_kl`."""
        mine, its = self.last
        ours, theirs = student.relation[mine], teacher.relation[its]
        return relation_kl(ours, theirs, mask, relation_heads(ours.shape[-1], theirs.shape[-1], self.most_heads))


def relation(setting: Setting) -> Relation:
    """Build the term, with as many relation heads as the teacher has, where they divide both widths."""
    last = (setting.student.layers - 1, setting.teacher.layers - 1)
    return Relation(last, setting.teacher.heads, setting.needs("relation", (last,)))


def relation_heads(width: int, its_width: int, most: int) -> int:
    """Return the greatest number up to `most` that divides both widths."""
    shared = math.gcd(width, its_width)
    return max(heads for heads in range(1, most + 1) if shared % heads == 0)
