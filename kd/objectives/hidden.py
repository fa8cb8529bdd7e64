"""Hidden states: the student's layers have the same outputs as the teacher's."""

from dataclasses import dataclass

import torch

from kd.base.types import LayerPairs, MaskName, Needs, Setting, StudentOutputs, TeacherOutputs, Term
from kd.objectives.base import at_valid, masked_sum, mean_term


def hidden_mse(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> Term:
    """Mean over the width of the squared difference of hidden states, at each valid token.

    FitNets (Romero et al. 2015, https://arxiv.org/abs/1412.6550) and TinyBERT (Jiao et al. 2020, its L_hidn,
    https://arxiv.org/abs/1909.10351).

    Args:
        student: `(batch, length, width)`, projected to the teacher's width where it has another.
        teacher: `(batch, length, width)`; no gradient reaches it.
        mask: `(batch, length)`, true at valid tokens.

    Returns:
        (sum over valid tokens, their number), >= 0, and 0 where the two agree; computed in float32.
    """
    mask, ours, theirs = at_valid(mask, student, teacher.detach())
    return masked_sum((ours.float() - theirs.float()).square().mean(dim=-1), mask)


@dataclass(frozen=True)
class Hidden:
    """`hidden`: squared difference of the outputs of mapped layers; the mean over pairs.

    One projection serves all pairs where widths differ, as in TinyBERT.
    """

    pairs: LayerPairs
    needs: Needs
    name: str = "hidden"
    mask: MaskName = "tokens"

    def __call__(self, student: StudentOutputs, teacher: TeacherOutputs, mask: torch.Tensor) -> Term:
        """Compare hidden states; see `hidden_mse`."""
        return mean_term(hidden_mse(student.hidden[mine], teacher.hidden[its], mask) for mine, its in self.pairs)


def hidden(setting: Setting) -> Hidden:
    """Build the term."""
    return Hidden(setting.pairs, setting.needs("hidden", setting.pairs, joined=True))
