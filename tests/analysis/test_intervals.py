"""Words and figures agree: an interval contains 0 unless something is claimed, and no value that cannot be."""

import math

import numpy as np
import pytest

from kd.analysis.comparison import compare
from kd.analysis.effects import main_effects
from kd.analysis.statistics import (
    LEVEL,
    Interval,
    PairedDifference,
    bounded,
    holm,
    holm_levels,
    mean_interval,
    of_difference,
    paired_difference,
)
from kd.analysis.verdicts import Values, over_examples
from tests.analysis.runs import scored

CLAIMS = ("better", "worse")
SHARE = {"t": {"score": (0.0, 1.0)}}


def drawn(rng):
    """A table of some arms on some seeds, near an end of the scale or not; and differences by example of some arms."""
    seeds, examples = int(rng.integers(1, 8)), int(rng.choice([4, 40, 400]))
    level, spread = rng.choice([0.02, 0.2, 0.5, 0.98]), rng.choice([0.0, 0.01, 0.1, 0.5])
    control = rng.random((seeds, examples)) < np.clip(level + rng.normal(0, spread, (seeds, 1)), 0, 1)
    records, known = [scored("control", seed, float(row.mean())) for seed, row in enumerate(control)], {}
    for place in range(int(rng.integers(1, 7))):
        gain = rng.choice([0.0, 0.05, -0.2, 0.4]) + rng.normal(0, spread, (seeds, 1))
        arm = rng.random((seeds, examples)) < np.clip(level + gain, 0, 1)
        records += [scored(f"arm{place}", seed, float(row.mean()), "control") for seed, row in enumerate(arm)]
        if rng.random() < 0.7:
            known[f"arm{place}"] = Values(arm.astype(float) - control, np.arange(examples) // int(rng.integers(1, 4)))
    (table,), _ = compare(records, {"t": {"score": bool(rng.integers(2))}}, bounds=SHARE)
    return over_examples(table, known)


def test_an_interval_excludes_0_exactly_where_something_is_claimed_and_none_leaves_the_scale():
    rng, claims, shown = np.random.default_rng(0), 0, 0
    for _ in range(400):
        for arm in drawn(rng).arms:
            for interval, least in ((arm.quality, 0.0), (arm.difference, -1.0)):
                if interval and interval.low is not None:
                    assert least <= interval.low <= interval.mean <= interval.high <= 1.0
            if (gap := arm.difference) and gap.low is not None:
                assert (arm.verdict in CLAIMS) == (not gap.low <= 0 <= gap.high), arm
                claims, shown = claims + (arm.verdict in CLAIMS), shown + 1
            elif gap:
                assert gap.n < 3 or gap.se is None
    assert 100 < claims < shown - 100


def test_holms_levels_reject_what_his_adjusted_p_values_do_and_spare_the_rest():
    rng = np.random.default_rng(1)
    for _ in range(500):
        p = list(rng.random(int(rng.integers(1, 9))) ** rng.choice([1, 4, 8]))
        claimed = [one < LEVEL for one in holm(p)]
        levels = holm_levels(p)
        assert [one < level for one, level in zip(p, levels, strict=True)] == claimed
        assert min(levels) >= LEVEL / len(p)
        assert max(levels) <= LEVEL
    assert holm_levels([]) == []
    assert holm_levels([0.001, 0.9, 0.03]) == pytest.approx([0.05 / 3, 0.05 / 2, 0.05 / 2])


def test_an_interval_at_another_level_is_the_one_that_contains_what_has_such_a_p():
    gap = paired_difference({0: 0.5, 1: 0.7, 2: 0.6}, {0: 0.4, 1: 0.5, 2: 0.55})
    for alpha in (0.05, 0.01, 0.001):
        at = gap.at(alpha)
        ends = [paired_difference({0: 0.1 - end, 1: 0.2 - end, 2: 0.05 - end}, dict.fromkeys(range(3), 0.0)).p
                for end in (at.low, at.high)]  # fmt: skip
        assert ends == pytest.approx([alpha, alpha])
        assert (at.mean, at.p, at.alpha) == (gap.mean, gap.p, alpha)
    assert gap.at(LEVEL).low == pytest.approx(gap.low)
    bare = PairedDifference(0.1, None, None, 0.25, 3)
    assert (bare.at(0.01).low, bare.at(0.01).high) == (None, None)


def test_the_interval_of_a_share_that_left_0_to_1_is_cut_there_and_a_loss_has_no_upper_end():
    wild = mean_interval([0.05, 0.02, 0.548])
    assert wild.low < 0 < wild.high < 1
    assert bounded(wild, (0.0, 1.0)) == Interval(wild.mean, 0.0, wild.high, 3)
    assert bounded(Interval(2.0, -1.0, 5.0, 3), (0.0, None)) == Interval(2.0, 0.0, 5.0, 3)
    assert bounded(Interval(0.5, None, None, 1), (0.0, 1.0)) == Interval(0.5, None, None, 1)
    assert of_difference((0.0, 1.0)) == (-1.0, 1.0)
    assert of_difference((-1.0, 1.0)) == (-2.0, 2.0)
    assert of_difference((0.0, None)) == (None, None)


def test_a_value_that_is_no_number_is_a_sentence_that_counts_them_and_says_what_to_do():
    with pytest.raises(ValueError, match="2 of 3 values are not finite") as caught:
        mean_interval([0.5, math.nan, math.inf])
    assert "leave out the runs" in str(caught.value)


def test_of_a_factor_of_two_levels_the_effects_exclude_0_exactly_where_it_mattered():
    rng, mattered = np.random.default_rng(2), set()
    for _ in range(100):
        gains = {"alpha": rng.choice([0.0, 0.02]), "layers": rng.choice([0.0, 0.05])}
        scores = [
            ({"alpha": a, "layers": b}, seed, 0.5 + a * gains["alpha"] + b * gains["layers"] + rng.normal(0, 0.01))
            for a in (0, 1) for b in (0, 1) for seed in range(4)
        ]  # fmt: skip
        for factor in main_effects(scores, ["alpha", "layers"]):
            claimed = factor.adjusted_p < LEVEL
            mattered.add(claimed)
            assert all((not one.effect.low <= 0 <= one.effect.high) == claimed for one in factor.levels)
    assert mattered == {True, False}
