"""A verdict over examples replaces the one over seeds, corrected within the same table."""

import numpy as np
import pytest

from kd.analysis.comparison import compare
from kd.analysis.statistics import crossed_difference, holm
from kd.analysis.verdicts import Values, over_examples
from kd.base.types import RunRecord

GROUPS = np.arange(200)


def record(arm, seed, accuracy, control=""):
    tags = {
        "kd.task": "t",
        "kd.test_digest": "d",
        "kd.test_scored": "true",
        "kd.role": "distilled" if control else "student",
        "kd.arm": arm,
        "kd.seed": str(seed),
        "kd.control_arm": control,
    }
    return RunRecord(f"{arm}-{seed}", f"{arm} · seed {seed}", {}, {"test/accuracy": accuracy}, tags)


def examples(gain, rng):
    return Values(rng.choice([-1.0, 0.0, 1.0], size=(3, 200), p=[0.1, 0.8 - gain, 0.1 + gain]), GROUPS)


def table_of(differences):
    records = [record("control", seed, 0.8) for seed in range(3)]
    for arm, values in differences.items():
        records += [record(arm, seed, 0.8 + value, "control") for seed, value in enumerate(values.mean(axis=1))]
    (table,), _ = compare(records, {"t": {"accuracy": True}})
    return table


def test_arms_with_examples_are_judged_over_them_and_all_are_corrected_together():
    rng = np.random.default_rng(0)
    known = {"a": examples(0.4, rng), "b": examples(0.0, rng), "c": examples(0.3, rng)}
    table = table_of({name: one.values for name, one in known.items()})
    del known["c"]
    judged = {arm.key: arm for arm in over_examples(table, known).arms}
    before = {arm.key: arm for arm in table.arms}
    for name, one in known.items():
        assert judged[name].difference == crossed_difference(one.values, one.groups)
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
    table = table_of({"a": steady})
    (before,) = [arm for arm in table.arms if arm.key == "a"]
    (after,) = [arm for arm in over_examples(table, {"a": Values(steady, GROUPS)}).arms if arm.key == "a"]
    assert before.verdict == "better"
    assert after.verdict == "no difference shown"
