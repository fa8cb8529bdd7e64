"""Values by group for metrics that are no mean over examples, so that they are judged as means are. Pure."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd

MOST_BLOCKS = 200
"""Most recomputations of a metric; past that more of them change the interval by less than a hundredth."""

Metric = Callable[[pd.DataFrame], float]


def blocks_of(groups: npt.NDArray[np.int64], seed: int = 0) -> npt.NDArray[np.int64]:
    """Return each example's block, numbered from 0: its group, or one of 200 random blocks of whole groups.

    Where there are more groups than 200, each block has nearly the same number of them (delete-d jackknife over
    disjoint blocks; Shao and Tu 1995, The Jackknife and Bootstrap, section 2.3).

    Args:
        groups: `(examples,)`, numbers from 0.
        seed: of the draw; the same groups give the same blocks, so that runs can be compared by block.
    """
    count = int(groups.max()) + 1
    if count <= MOST_BLOCKS:
        return groups
    block_of_group: npt.NDArray[np.int64] = np.random.default_rng(seed).permutation(count) % MOST_BLOCKS
    return block_of_group[groups]


def pseudo_values(
    predictions: pd.DataFrame, metric: Metric, blocks: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64] | None:
    """Return for each block what it adds to a metric, so that the mean over blocks is the metric.

    With m blocks and the metric f, block b's value is f + (m - 1) (mean of f without each block - f without b): the
    pseudo-values of Tukey (1958), which Dorfman, Berbaum and Metz (1992) judge over readers and cases, moved so that
    their mean is f itself (Hillis, Obuchowski, Schartz and Berbaum 2005). For a mean over blocks of equal size they are
    the blocks' own means. The metric is computed m + 1 times.

    Args:
        predictions: one line an example.
        metric: smooth in the examples, such as RMSE, F1 or a correlation; not a median.
        blocks: `(examples,)`, numbers from 0; examples of one block are left out together.

    Returns:
        `(m,)`; None with one block, or where the metric of some part is not finite.
    """
    count = int(blocks.max()) + 1
    if count < 2:
        return None
    whole = np.array(metric(predictions))
    without = np.array([metric(predictions.iloc[np.flatnonzero(blocks != block)]) for block in range(count)])
    if not (np.isfinite(whole) and np.isfinite(without).all()):
        return None
    return from_left_out(whole, without)


def from_left_out(whole: npt.NDArray[np.float64], without: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return pseudo-values `(..., blocks)` from a metric `(...)` and the same without each block `(..., blocks)`."""
    count = without.shape[-1]
    values: npt.NDArray[np.float64] = whole[..., None] + (count - 1) * (without.mean(axis=-1, keepdims=True) - without)
    return values
