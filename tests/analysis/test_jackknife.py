"""A metric that is no mean over examples has values by group whose spread is that of the metric itself."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kd.analysis.statistics import crossed_difference
from kd.analysis.verdicts import MOST_BLOCKS, blocks_of, from_left_out, pseudo_values

RNG = np.random.default_rng(0)
ERRORS = pd.DataFrame({"error": RNG.normal(0.5, 1, 60)})
GROUPS = np.repeat(np.arange(12), 5)


def rmse(table):
    return float(np.sqrt((table["error"] ** 2).mean()))


def mean(table):
    return float(table["error"].mean())


def test_of_a_mean_they_are_the_means_of_the_groups_so_that_both_ways_give_one_verdict():
    got = pseudo_values(ERRORS, mean, GROUPS)
    assert got == pytest.approx(ERRORS["error"].to_numpy().reshape(12, 5).mean(axis=1))


def test_their_mean_is_the_metric_itself_and_not_its_estimate_without_bias():
    assert pseudo_values(ERRORS, rmse, GROUPS).mean() == pytest.approx(rmse(ERRORS), rel=1e-12)


def test_their_spread_is_the_jackknife_of_leaving_out_one_group_by_an_independent_sum():
    without = np.array([rmse(ERRORS[one != GROUPS]) for one in range(12)])
    variance = 11 / 12 * ((without - without.mean()) ** 2).sum()
    assert pseudo_values(ERRORS, rmse, GROUPS).var(ddof=1) / 12 == pytest.approx(variance)


def test_their_spread_is_that_of_the_metric_over_new_test_sets():
    rng, found, said = np.random.default_rng(1), [], []
    for _ in range(300):
        shifts = np.repeat(rng.normal(0, 1, 20), 5)
        table = pd.DataFrame({"error": shifts + rng.normal(0, 1, 100)})
        found.append(rmse(table))
        if len(said) < 60:
            said.append(pseudo_values(table, rmse, np.repeat(np.arange(20), 5)).var(ddof=1) / 20)
    assert np.mean(said) == pytest.approx(np.var(found), rel=0.2)


@pytest.mark.parametrize("blocks", [np.zeros(60, dtype=int), GROUPS])
def test_one_group_and_a_part_without_a_metric_give_nothing_rather_than_a_spread_of_zero(blocks):
    assert pseudo_values(ERRORS, lambda table: np.nan if len(table) < 60 or not blocks.any() else 1.0, blocks) is None


def test_many_groups_are_put_together_whole_into_blocks_of_one_size_the_same_for_every_run():
    groups = np.random.default_rng(2).permutation(np.repeat(np.arange(1000), 3))
    blocks = blocks_of(groups)
    assert set(blocks) == set(range(MOST_BLOCKS))
    assert all(len({*blocks[groups == one]}) == 1 for one in range(1000))
    assert set(np.bincount(blocks)) == {3 * 1000 // MOST_BLOCKS}
    assert np.array_equal(blocks, blocks_of(groups))
    assert not np.array_equal(blocks, groups % MOST_BLOCKS)
    assert np.array_equal(blocks_of(GROUPS), GROUPS)


# False claims. Two arms do equally well on new groups; each has groups of its own that it does well on.

TIMES = 600
MOST = stats.binom.isf(1e-4, TIMES, 0.06)
"""Claims that a test with 6 % false ones exceeds once in 10,000; the draws are fixed besides."""


def equal_arms(rng, seeds, groups):
    """Errors `(arms, seeds, groups, examples)` of two arms with one distribution over groups and examples."""
    own = 0.7 * rng.normal(size=(2, 1, groups, 1)) + 0.3 * rng.normal(size=(2, 1, groups, 20))
    return own + 0.4 * rng.normal(size=(1, 1, groups, 20)) + 0.5 * rng.normal(size=(2, seeds, groups, 20))


def squares_by_group(errors):
    sums, count = (errors**2).sum(axis=-1), errors.shape[-1]
    left_out = sums.sum(axis=-1, keepdims=True) - sums
    whole = np.sqrt((errors**2).mean(axis=(-1, -2)))
    return from_left_out(whole, np.sqrt(left_out / (count * (sums.shape[-1] - 1))))


def right_by_group(errors):
    return (errors > -0.5).mean(axis=-1)


@pytest.mark.parametrize("seeds", [3, 10])
@pytest.mark.parametrize("groups", [3, 6, 12])
@pytest.mark.parametrize("by_group", [right_by_group, squares_by_group])
def test_few_groups_claim_no_more_than_the_level_although_the_normals_tail_would(by_group, groups, seeds):
    rng = np.random.default_rng([groups, seeds])
    claimed, by_normal = 0, 0
    for _ in range(TIMES):
        ours, theirs = by_group(equal_arms(rng, seeds, groups))
        got = crossed_difference(ours - theirs, np.arange(groups))
        claimed += got.p < 0.05
        by_normal += 2 * stats.norm.sf(abs(got.mean) / got.se) < 0.05
    assert claimed <= MOST
    assert groups > 6 or by_normal > MOST
