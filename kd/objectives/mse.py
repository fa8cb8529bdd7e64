"""Squared error: the student predicts the teacher's numbers."""

import torch

from kd.base.types import Term, TopLogProbs
from kd.objectives.base import masked_sum


def squared_error(student: torch.Tensor, teacher: torch.Tensor | TopLogProbs, mask: torch.Tensor) -> Term:
    """Mean over the numbers of a position of the squared difference, at each valid position.

    For models that predict numbers, as in regression (Chen et al. 2017, section 3.3,
    https://proceedings.neurips.cc/paper/2017/hash/e1e32e235eee1f970470a3a6658dfdd5-Abstract.html) and forecasting.

    Args:
        student: `(positions, ...)`.
        teacher: `(positions, ...)`; no gradient reaches it.
        mask: `(positions,)`, true at valid positions.

    Returns:
        (sum over valid positions, their number), >= 0, and 0 where the two agree; computed in float32.
    """
    assert isinstance(teacher, torch.Tensor)  # TopLogProbs is a distribution, not numbers
    masked = (~mask.bool()).reshape(*mask.shape, *[1] * (student.dim() - mask.dim()))
    difference = (student.float() - teacher.detach().float()).masked_fill(masked, 0.0)
    return masked_sum(difference.square().unsqueeze(-1).flatten(mask.dim()).mean(dim=-1), mask)
