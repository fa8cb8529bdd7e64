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


def blanked(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Put 0 where `mask` does not hold, in float32.

    Masking the loss alone is not enough: the backward pass multiplies its zero gradient by what stands there, and
    0 * NaN is NaN.

    Args:
        logits: `(..., options)`.
        mask: `(...)`, true at valid positions.
    """
    return logits.float().masked_fill(~mask.bool().unsqueeze(-1), 0.0)
