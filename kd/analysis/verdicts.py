"""Verdicts that generalise to new examples as well as new seeds, where single predictions are known. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from kd.analysis.comparison import judged
from kd.analysis.slices import Quality
from kd.analysis.statistics import crossed_difference
from kd.analysis.table import Table
from kd.base.judge import Judge, metric_of

MOST_BLOCKS = 200
"""Most recomputations of a metric; past that more of them change the interval by less than a hundredth."""


@dataclass(frozen=True)
class Values:
    """What examples, or blocks of them, add to a run's metric.

    Attributes:
        values: `(examples,)` or `(blocks,)`, in the metric's unit; their mean is the metric.
        groups: of each value, numbers from 0; values of one group depend on one another.
    """

    values: npt.NDArray[np.float64]
    groups: npt.NDArray[np.int64]


def values_of(predictions: pd.DataFrame, metric: str, judge: Judge | type[Judge]) -> Values | None:
    """Return an example's share in a metric that is a mean over examples, else the pseudo-values of groups.

    None where the metric is no mean, and there is one group or the metric of a part is not finite.
    """
    groups = pd.factorize(predictions["group"])[0].astype(np.int64)
    if (values := judge.example_values(predictions, metric)) is not None:
        return Values(values, groups)
    blocks = blocks_of(groups)
    pseudo = pseudo_values(predictions, lambda part: metric_of(judge, part, metric), blocks)
    return None if pseudo is None else Values(pseudo, np.arange(len(pseudo)))


def blocks_of(groups: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return each example's block, numbered from 0: its group, or one of 200 random blocks of whole groups.

    Where there are more groups than 200, each block has nearly the same number of them (delete-d jackknife over
    disjoint blocks; Shao and Tu 1995, The Jackknife and Bootstrap, section 2.3). The same groups give the same blocks,
    so that runs can be compared by block.

    Args:
        groups: `(examples,)`, numbers from 0.
    """
    count = int(groups.max()) + 1
    if count <= MOST_BLOCKS:
        return groups
    block_of_group: npt.NDArray[np.int64] = np.random.default_rng(0).permutation(count) % MOST_BLOCKS
    return block_of_group[groups]


def pseudo_values(
    predictions: pd.DataFrame, metric: Quality, blocks: npt.NDArray[np.int64]
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


def differences(pairs: Sequence[tuple[int, Values, Values]]) -> Values:
    """Return by how much an arm's values differ from those it is compared with.

    Args:
        pairs: seed, values of the arm, and of the other on the same examples in the same order.

    Returns:
        Values `(seeds, examples)`: of each seed the mean over its pairs.
    """
    seeds = defaultdict(list)
    for seed, ours, theirs in pairs:
        seeds[seed].append(ours.values - theirs.values)
    return Values(np.stack([np.mean(found, axis=0) for found in seeds.values()]), pairs[0][1].groups)


def over_examples(table: Table, examples: Mapping[str, Values]) -> Table:
    """Judge a table's arms again, over seeds and examples.

    A test over seeds alone takes the test set for given. On simulated runs that share one, of arms equally good on new
    examples, it claimed a difference in up to 64 % of the comparisons instead of 5 % (benchmarks/verdicts.py).

    Args:
        table: judged over seeds.
        examples: differences `(seeds, examples)` by arm; an arm that has none keeps its difference over seeds,
            Holm-corrected with the others.
    """
    over_seeds = {arm.key: arm.difference for arm in table.arms if arm.difference}
    over_both = {key: crossed_difference(one.values, one.groups) for key, one in examples.items()}
    return judged(table, over_seeds | over_both)
