"""What every objective builds on: a sum over valid positions, kept apart from their number.

The total is `alpha * sum_i L_i + (1 - alpha) * task loss`, each `L_i` a mean over valid positions. A term gives the sum
and the count apart, so that the mean does not depend on how gradient accumulation or ranks split a batch.
"""

import torch

from kd.types import Term


def masked_sum(values: torch.Tensor, mask: torch.Tensor) -> Term:
    """Sum `values` where `mask` holds.

    Args:
        values: `(...)`, a loss at each position; what stands at masked positions may be anything, NaN too.
        mask: `(...)`, true at valid positions.

    Returns:
        (sum, count), both scalars; (0, 0) where all is masked.
    """
    valid = mask.bool()
    return values.masked_fill(~valid, 0.0).sum(), valid.sum()


def at_valid(mask: torch.Tensor, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Leave out what stands at masked positions, before anything is computed of it.

    Masking the loss alone is not enough: the backward pass multiplies its zero gradient by what stands there, and
    0 * NaN is NaN. Where only some tokens count, most of the work over a vocabulary is saved. A single output for each
    row is put to 0 instead: picking rows would have a GPU wait for it.

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
