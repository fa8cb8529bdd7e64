"""A verdict over examples replaces the one over seeds, corrected within the same table."""

import numpy as np
import pandas as pd
import pytest

from kd.analysis.comparison import compare
from kd.analysis.statistics import crossed_difference, holm
from kd.analysis.verdicts import Values, differences, over_examples, values_of
from tests.analysis.runs import scored

GROUPS = np.arange(200)


def examples(gain, rng):
    return Values(rng.choice([-1.0, 0.0, 1.0], size=(3, 200), p=[0.1, 0.8 - gain, 0.1 + gain]), GROUPS)


def table_of(known):
    records = [scored("control", seed, 0.8, metric="accuracy") for seed in range(3)]
    for arm, found in known.items():
        records += [
            scored(arm, seed, 0.8 + value, "control", "accuracy")
            for seed, value in enumerate(found.values.mean(axis=1))
        ]
    (table,), _ = compare(records, {"t": {"accuracy": True}})
    return table


def test_arms_with_examples_are_judged_over_them_and_all_are_corrected_together():
    rng = np.random.default_rng(0)
    known = {"a": examples(0.4, rng), "b": examples(0.0, rng), "c": examples(0.3, rng)}
    table = table_of(known)
    del known["c"]
    judged = {arm.key: arm for arm in over_examples(table, known).arms}
    before = {arm.key: arm for arm in table.arms}
    for name, one in known.items():
        gap = judged[name].difference
        assert gap == crossed_difference(one.values, one.groups).at(gap.alpha)
    assert judged["c"].difference == before["c"].difference
    p_values = [judged[name].difference.p for name in "abc"]
    assert [judged[name].adjusted_p for name in "abc"] == pytest.approx(holm(p_values))
    assert judged["a"].verdict == "better"
    assert judged["b"].verdict == "no difference shown"
    assert judged["b"].detectable > 0
    assert judged["a"].detectable is None
    assert judged["control"] == before["control"]


def test_seeds_that_agree_by_chance_on_one_test_set_are_no_verdict():
    """Differences of +0.02 on every seed: certain over seeds, and nothing over 200 examples that all seeds share."""
    one = np.zeros(200)
    one[:24], one[24:44] = 1.0, -1.0
    steady = np.tile(one, (3, 1))
    steady[0, 50], steady[1, 60:62] = 1.0, 1.0
    table = table_of({"a": Values(steady, GROUPS)})
    (before,) = [arm for arm in table.arms if arm.key == "a"]
    (after,) = [arm for arm in over_examples(table, {"a": Values(steady, GROUPS)}).arms if arm.key == "a"]
    assert before.verdict == "better"
    assert after.verdict == "no difference shown"


class Relative:
    """Judges by a ratio of sums, which is no mean over examples; answers and truth are numbers."""

    @staticmethod
    def quality(predictions):
        return {"ratio": float(predictions["answer"].sum() / predictions["truth"].sum())}

    @staticmethod
    def example_values(predictions, metric):
        return None


def answers(rng, gain, groups):
    truth = rng.uniform(1, 3, size=len(groups))
    by_group = 0.05 * rng.normal(size=groups.max() + 1)
    return pd.DataFrame({"group": groups.astype(str), "truth": truth, "answer": truth * (1 + gain + by_group[groups])})


def test_a_metric_that_is_no_mean_is_judged_over_groups_too_instead_of_over_seeds_alone():
    rng, groups = np.random.default_rng(0), np.repeat(np.arange(30), 10)
    sides = [[answers(rng, gain, groups) for _ in range(3)] for gain in (0.2, 0.0)]
    values = [[values_of(one, "ratio", Relative) for one in side] for side in sides]
    assert [one.values.mean() for one in values[0]] == pytest.approx(
        [Relative.quality(one)["ratio"] for one in sides[0]]
    )
    found = differences([(seed, *pair) for seed, pair in enumerate(zip(*values, strict=True))])
    assert found.values.shape == (3, 30)
    table = table_of({"a": found})
    (arm,) = [arm for arm in over_examples(table, {"a": found}).arms if arm.key == "a"]
    assert (arm.difference.groups, arm.verdict) == (30, "better")
    assert arm.difference.mean == pytest.approx(0.2, abs=0.03)


def test_pairs_of_one_seed_are_one_value_of_that_seed():
    one, two = (Values(np.full(4, value), np.arange(4)) for value in (1.0, 3.0))
    found = differences([(0, two, one), (0, one, one), (1, one, two)])
    assert found.values.tolist() == [[1.0] * 4, [-2.0] * 4]


@pytest.mark.parametrize("groups", [np.zeros(6, dtype=int), np.arange(6)])
def test_where_groups_give_no_values_the_metric_stays_judged_over_seeds(groups):
    table = pd.DataFrame({"group": groups, "truth": [0.0] * 6, "answer": [1.0] * 6})
    with np.errstate(divide="ignore"):
        assert values_of(table, "ratio", Relative) is None
