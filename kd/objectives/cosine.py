"""Cosine: the last hidden states of student and teacher have the same direction."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from kd.base.types import MaskName, Needs, Setting, StudentOutputs, TeacherOutputs, Term
from kd.objectives.base import at_valid, masked_sum


def cosine_distance(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> Term:
    """1 - cosine of the hidden states, at each valid token.

    DistilBERT (Sanh et al. 2019, section 3, https://arxiv.org/abs/1910.01108).

    Args:
        student: `(batch, length, width)`, projected to the teacher's width where it has another.
        teacher: `(batch, length, width)`; no gradient reaches it.
        mask: `(batch, length)`, true at valid tokens.

    Returns:
        (sum over valid tokens, their number), 0 to 2 each, and 0 where the two agree; computed in float32.
    """
    mask, ours, theirs = at_valid(mask, student, teacher.detach())
    return masked_sum(1.0 - F.cosine_similarity(ours.float(), theirs.float(), dim=-1), mask)


@dataclass(frozen=True)
class Cosine:
    """`cosine`: direction of the last layers' hidden states."""

    last: tuple[int, int]
    needs: Needs
    name: str = "cosine"
    mask: MaskName = "tokens"

    def __call__(self, student: StudentOutputs, teacher: TeacherOutputs, mask: torch.Tensor) -> Term:
        """Compare last hidden states; see `cosine_distance`."""
        mine, its = self.last
        return cosine_distance(student.hidden[mine], teacher.hidden[its], mask)


def cosine(setting: Setting) -> Cosine:
    """Build the term."""
    last = (setting.student.layers - 1, setting.teacher.layers - 1)
    return Cosine(last, setting.needs("hidden", (last,), joined=True))
