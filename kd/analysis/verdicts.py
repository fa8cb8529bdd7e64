"""Verdicts that hold for new examples as well as new seeds, where single predictions are known. Pure."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from kd.analysis.comparison import Arm, Table
from kd.analysis.statistics import LEVEL, MIN_SEEDS, crossed_difference, holm, minimum_detectable_difference, verdict

Examples = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]
"""Differences `(seeds, examples)` in the metric's unit, and each example's group, numbered from 0."""


def over_examples(table: Table, examples: Mapping[str, Examples]) -> Table:
    """Judge a table's arms again, over seeds and examples.

    A test over seeds alone takes the test set for given. On simulated runs that share one, of arms equally good on new
    examples, it claimed a difference in up to 64 % of the comparisons instead of 5 % (benchmarks/verdicts.py).

    Args:
        table: judged over seeds.
        examples: by arm; an arm that has none keeps its difference over seeds, Holm-corrected with the others.
    """
    differences = {
        arm.key: crossed_difference(*examples[arm.key]) if arm.key in examples else arm.difference
        for arm in table.arms
        if arm.difference is not None
    }
    p_values = {key: one.p for key, one in differences.items() if one and one.n >= MIN_SEEDS and one.p is not None}
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))

    def judged(arm: Arm) -> Arm:
        difference = differences.get(arm.key)
        if difference is None:
            return arm
        words = verdict(difference, adjusted.get(arm.key), table.higher_is_better)
        detectable = arm.detectable
        if difference.se is not None and difference.seed_share is not None:
            level = LEVEL / max(len(adjusted), 1)
            detectable = minimum_detectable_difference(
                difference.se, difference.n - 1, alpha=level, seed_share=difference.seed_share
            )
        unseen = detectable if words == "no difference shown" else None
        return replace(arm, difference=difference, adjusted_p=adjusted.get(arm.key), verdict=words, detectable=unseen)

    return replace(table, arms=tuple(map(judged, table.arms)))
