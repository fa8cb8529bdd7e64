"""Functions shared by objectives: sums over valid positions, and the KL divergence.

The total is `alpha * sum_i w_i L_i + (1 - alpha) * task loss`, each `L_i` a mean over valid positions. A term returns
sum and count, so that the mean does not depend on how gradient accumulation or ranks split a batch.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F

from kd.base.types import Term


def masked_sum(values: torch.Tensor, mask: torch.Tensor) -> Term:
    """Sum `values` where `mask` is true.

    Args:
        values: `(...)`, a loss at each position; at masked positions any value, also NaN.
        mask: `(...)`, true at valid positions.

    Returns:
        (sum, count), both scalars; (0, 0) where all is masked.
    """
    valid = mask.bool()
    return values.masked_fill(~valid, 0.0).sum(), valid.sum()


def mean_term(terms: Iterable[Term]) -> Term:
    """Return the mean of terms over the same positions, such as start and end of an answer, or pairs of layers."""
    sums, counts = zip(*terms, strict=True)
    return torch.stack(sums).mean(), counts[0]


def at_valid(mask: torch.Tensor, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Remove masked positions before anything is computed from them.

    Masking the loss alone is not enough: the backward pass multiplies its zero gradient by the masked values, and
    0 * NaN is NaN. Where only some tokens count, it also saves most of the work over a vocabulary. Where a feature has
    a single output, masked ones are set to 0 instead: selecting rows would make a GPU wait.

    Args:
        mask: `(...)`, true at valid positions.
        values: each `(..., options)`.

    Returns:
        A mask `(positions,)`, then the values, each `(positions, options)`.
    """
    valid = mask.bool()
    if valid.dim() == 1:
        return valid, *(each.masked_fill(~valid.unsqueeze(-1), 0) for each in values)
    picked = [each[valid] for each in values]
    return valid[valid], *picked


def kl(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return KL(one || other) over the last axis, in nats, of the logarithms of two distributions."""
    return F.kl_div(other, one, reduction="none", log_target=True).sum(dim=-1)
