"""Similarity of two models' layers: linear centred kernel alignment (CKA) of their mean states."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from kd.base.task import Collate
from kd.base.types import Batch, Features, MaskName


def mean_states(
    model: torch.nn.Module,
    features: Features,
    positions: Sequence[int],
    collate: Collate,
    masks: Callable[[Batch], Mapping[MaskName, torch.Tensor]],
    batch_size: int,
) -> np.ndarray | None:
    """Run `model` once, and average each layer's output over the valid tokens of each feature.

    Args:
        model: on the device to be used, in evaluation mode.
        features: with a column `length`.
        positions: of the features to use.
        collate: pads a list of features.
        masks: where a batch is valid; `tokens` is used.
        batch_size: features in a forward.

    Returns:
        `(layers, positions, width)` float32, without the embeddings; None where the model gives no hidden states.
    """
    device = next(model.parameters()).device
    order = np.argsort(-np.asarray(features["length"])[np.asarray(positions)], kind="stable")
    parts = []
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            taken = [positions[i] for i in order[start : start + batch_size]]
            batch = collate(features.__getitems__(taken)).to(device)
            states = getattr(model(**batch.inputs, output_hidden_states=True), "hidden_states", None)
            if not states or len(states) < 2:
                break
            valid = masks(batch)["tokens"].unsqueeze(-1)
            count = valid.sum(dim=1).clamp(min=1)
            means = [(layer.float() * valid).sum(dim=1) / count for layer in states[1:]]
            parts.append(torch.stack(means).cpu().numpy())
    if not parts:
        return None
    return np.concatenate(parts, axis=1)[:, np.argsort(order)]


def cka(ours: np.ndarray, theirs: np.ndarray) -> float | None:
    """Return linear CKA, from -1 to 1: 1 for states that differ by a rotation and a scale, about 0 for unrelated ones.

    Kornblith et al. 2019 (https://arxiv.org/abs/1905.00414), over all rows at once, with the unbiased estimate of HSIC
    (Song et al. 2012), as in Nguyen et al. 2021 (https://arxiv.org/abs/2010.15327): the biased estimate is high for
    unrelated states where there are hardly more rows than dimensions. None for fewer than four rows, or where one
    model's states, `(rows, width)`, are the same in all rows.
    """
    if len(ours) < 4:  # the unbiased estimate is not defined
        return None
    mine, other = _centred(ours), _centred(theirs)
    size = float(np.sqrt((mine * mine).sum() * (other * other).sum()))
    return float((mine * other).sum() / size) if size > 0 else None


def _centred(states: np.ndarray) -> np.ndarray:
    """Return the inner products `(rows, rows)`, without the diagonal, centred so that their products are unbiased.

    The U-centring of Szekely and Rizzo 2014; a sum of its products is n (n - 3) times Song's estimate.
    """
    values = states.astype(np.float64)
    values = values - values.mean(axis=0)  # the same result, without the digits lost to a large mean
    if np.ptp(states, axis=0).max() == 0:
        return np.zeros((len(states), len(states)))
    products = values @ values.T
    np.fill_diagonal(products, 0.0)
    n = len(products)
    sums = products.sum(axis=0)
    centred: np.ndarray = products - (sums[:, None] + sums[None, :]) / (n - 2) + sums.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(centred, 0.0)
    return centred
