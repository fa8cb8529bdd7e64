import math

import numpy as np
import pytest
from scipy import stats

from kd.analysis.statistics import (
    PairedDifference,
    Spread,
    crossed_difference,
    holm,
    mcnemar,
    mean_interval,
    minimum_detectable_difference,
    paired_difference,
    resampled,
    verdict,
)


def by_seed(values):
    return dict(enumerate(values))


def test_interval_is_the_t_interval_not_the_normal_one():
    values = [0.80, 0.84, 0.85, 0.79]
    interval = mean_interval(values)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (interval.mean, interval.low, interval.high) == pytest.approx((np.mean(values), low, high))
    assert interval.n == 4


def test_one_value_has_no_interval_instead_of_a_zero_width_one():
    interval = mean_interval([0.5])
    assert (interval.mean, interval.low, interval.high, interval.n) == (0.5, None, None, 1)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf, 1.0]])
def test_a_missing_value_does_not_become_a_mean(values):
    with pytest.raises(ValueError, match="finite"):
        mean_interval(values)


def test_paired_test_matches_scipy_on_common_seeds_whatever_their_order():
    arm = {3: 0.84, 1: 0.80, 2: 0.83, 9: 0.99}
    control = {1: 0.79, 2: 0.80, 3: 0.82, 7: 0.10}
    got = paired_difference(arm, control)
    expected = stats.ttest_rel([0.80, 0.83, 0.84], [0.79, 0.80, 0.82])
    low, high = expected.confidence_interval()
    assert got.n == 3
    assert (got.mean, got.low, got.high, got.p) == pytest.approx((0.02, low, high, expected.pvalue))


def test_swapping_arm_and_control_turns_the_sign_and_keeps_p():
    a, b = by_seed([0.7, 0.8, 0.75]), by_seed([0.6, 0.75, 0.74])
    one, other = paired_difference(a, b), paired_difference(b, a)
    assert one.mean == pytest.approx(-other.mean)
    assert one.low == pytest.approx(-other.high)
    assert one.p == pytest.approx(other.p)


def test_one_common_seed_gives_none_instead_of_nan_and_no_seed_in_common_is_refused():
    with pytest.raises(ValueError, match="one finite value a seed is needed"):
        paired_difference({1: 0.5}, {2: 0.5})
    single = paired_difference({1: 0.5}, {1: 0.4})
    assert single.mean == pytest.approx(0.1)
    assert (single.low, single.high, single.p, single.n) == (None, None, None, 1)


def test_identical_arms_give_p_one_instead_of_nan():
    got = paired_difference(by_seed([0.7, 0.8, 0.9]), by_seed([0.7, 0.8, 0.9]))
    assert got == PairedDifference(0.0, 0.0, 0.0, 1.0, 3)


def test_equal_differences_do_not_claim_certainty_though_rounding_gives_them_spread():
    arm, control = [0.85, 0.91, 0.77], [0.80, 0.86, 0.72]
    assert np.std(np.subtract(arm, control)) > 0  # 0.05 each, but for the last bit: a t test says p = 1e-31
    for kind in (np.float64, np.float32):
        got = paired_difference(by_seed(np.asarray(arm, kind)), by_seed(np.asarray(control, kind)))
        assert got.mean == pytest.approx(0.05, abs=1e-6)
        assert (got.low, got.high, got.p) == (None, None, 0.25)  # all signs agree: 2 of 8 sign patterns
        assert verdict(got, got.p, True) == "no difference shown"


def test_equal_differences_over_many_seeds_are_found():
    got = paired_difference(by_seed([1.0] * 6), by_seed([0.5] * 6))
    assert got.p == 2 / 2**6
    assert verdict(got, got.p, True) == "better"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_nan_metric_is_refused_instead_of_spreading(bad):
    with pytest.raises(ValueError, match="finite"):
        paired_difference(by_seed([0.5, bad]), by_seed([0.5, 0.5]))


def test_holm_matches_the_hand_computation_in_the_given_order():
    # sorted .005 .01 .03 .04 times 4 3 2 1 = .02 .03 .06 .04, then the running maximum
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.2]) == [0.2]


def test_holm_never_lowers_a_p_value_never_reorders_and_stays_between_itself_and_bonferroni():
    rng = np.random.default_rng(0)
    for _ in range(50):
        p = rng.random(7)
        adjusted = np.array(holm(list(p)))
        order = np.argsort(p)
        assert (np.diff(adjusted[order]) >= 0).all()
        assert (adjusted >= p).all()
        assert (adjusted <= np.minimum(1, 7 * p) + 1e-12).all()


def test_holm_shrinks_with_the_table_not_with_the_order():
    p = [0.04, 0.01, 0.04, 0.2]
    assert holm(p[::-1]) == pytest.approx(holm(p)[::-1])


@pytest.mark.parametrize("bad", [math.nan, -0.1, 1.1])
def test_holm_refuses_what_is_no_p_value(bad):
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, bad])


@pytest.mark.parametrize(
    ("mean", "p", "higher", "words"),
    [
        (0.1, 0.01, True, "better"),
        (0.1, 0.01, False, "worse"),
        (-0.1, 0.01, True, "worse"),
        (-0.1, 0.01, False, "better"),
        (0.1, 0.05, True, "no difference shown"),
        (-0.1, 1.0, False, "no difference shown"),
    ],
)
def test_verdict_speaks_of_quality_so_a_lower_error_is_better(mean, p, higher, words):
    assert verdict(PairedDifference(mean, None, None, 0.001, 3), p, higher) == words


@pytest.mark.parametrize("n", [1, 2])
def test_two_seeds_never_make_a_claim(n):
    difference = paired_difference(by_seed([1.0, 1.1][:n]), by_seed([0.0, 0.0][:n]))
    assert verdict(difference, difference.p and 1e-9, True) == "too few seeds"


def test_a_lost_p_value_is_an_error_not_a_verdict():
    with pytest.raises(ValueError, match="adjusted_p"):
        verdict(PairedDifference(0.1, 0.0, 0.2, 0.04, 3), None, True)


def detectable(sd, n, **more):
    """Of n seeds whose differences spread by sd."""
    return minimum_detectable_difference(sd / math.sqrt(n), Spread(n - 1), **more)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_detectable_difference_is_found_with_the_stated_power(n):
    delta, tables = detectable(0.7, n), 40_000
    differences = np.random.default_rng(n).normal(delta, 0.7, (tables, n))
    found = stats.ttest_1samp(differences, 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.01)


def test_the_detectable_difference_scales_with_spread_and_falls_with_seeds():
    one = detectable(1.0, 3)
    assert detectable(2.0, 3) == pytest.approx(2 * one)
    falling = [detectable(1.0, n) for n in (2, 3, 5, 10, 30)]
    assert falling == sorted(falling, reverse=True)
    assert detectable(1.0, 1000) == pytest.approx((1.95996 + 0.84162) / math.sqrt(1000), rel=0.01)
    assert detectable(1.0, 3, alpha=0.05 / 4) > one
    with pytest.raises(ValueError, match="NaN"):
        detectable(1.0, 1)


@pytest.mark.parametrize("examples", [None, 50, 500])
@pytest.mark.parametrize("seed_sd", [0.0, 0.5, 1.0])
def test_tables_without_a_true_difference_rarely_claim_one(seed_sd, examples):
    """Accuracy in points, 3 arms and their shared control, 3 seeds; `examples` makes the metric coarse and noisy."""
    rng, tables, arms, seeds = np.random.default_rng(7), 2000, 3, 3
    scores = 80 + rng.normal(0, seed_sd, (tables, arms + 1, seeds))
    if examples:
        scores = 100 / examples * rng.binomial(examples, np.clip(scores / 100, 0, 1))
    claims = 0
    for table in scores:
        differences = [paired_difference(by_seed(arm), by_seed(table[0])) for arm in table[1:]]
        words = [verdict(d, p, True) for d, p in zip(differences, holm([d.p for d in differences]), strict=True)]
        claims += bool({"better", "worse"} & set(words))
    assert claims / tables <= 0.055


# over seeds and examples


def drawn(rng, seeds=3, examples=400, arm_and_example=0.0, seed_sd=0.0):
    """Return 0/1 differences of two equally good arms: each example, run and arm has its say."""
    difficulty = rng.normal(size=examples)
    sides = []
    for _ in range(2):
        liking = rng.normal(0, arm_and_example, examples)
        moved = rng.normal(0, seed_sd, (seeds, 1))
        sides.append(difficulty + liking + moved + rng.normal(0, 0.3, (seeds, examples)) > -1)
    return sides[0].astype(float) - sides[1]


def alone(differences):
    return crossed_difference(differences, np.arange(differences.shape[1]))


def test_over_seeds_and_examples_the_mean_is_the_metrics_and_the_interval_agrees_with_p():
    rng = np.random.default_rng(0)
    excluded = set()
    for _ in range(60):
        differences = drawn(rng, int(rng.integers(2, 6)), arm_and_example=1.0, seed_sd=0.3)
        got = alone(differences + rng.choice([0.0, 0.05]))
        assert got.low < got.mean < got.high
        assert (got.p < 0.05) == (not got.low <= 0 <= got.high)
        assert got.examples == differences.shape[1]
        excluded.add(got.p < 0.05)
    assert excluded == {True, False}


def test_seeds_that_all_answer_alike_are_judged_by_the_examples_and_not_taken_for_certainty():
    rng = np.random.default_rng(1)
    one = rng.choice([-1.0, 0.0, 1.0], size=500, p=[0.1, 0.75, 0.15])
    got = alone(np.tile(one, (5, 1)))
    z = one.mean() / (one.std(ddof=1) / math.sqrt(500))
    assert got.p == pytest.approx(2 * stats.t.sf(abs(z), 499), rel=1e-6)
    assert got.high - got.low == pytest.approx(2 * stats.t.isf(0.025, 499) * one.std(ddof=1) / math.sqrt(500), rel=1e-6)


def test_where_the_examples_say_nothing_the_test_is_the_t_test_over_seeds():
    by_seed_only = np.array([[0.01], [0.02], [0.06]]) + np.zeros((1, 300))
    got = alone(by_seed_only)
    assert got.p == pytest.approx(stats.ttest_1samp([0.01, 0.02, 0.06], 0).pvalue, rel=1e-6)
    assert (got.seed_share, got.n) == (pytest.approx(1), 3)


@pytest.mark.parametrize("comparisons", [1, 7])
def test_what_is_not_shown_over_seeds_and_examples_is_smaller_than_what_would_be(comparisons):
    rng, level = np.random.default_rng(11), 0.05 / comparisons
    shown = []
    for _ in range(200):
        gain = rng.choice([0.0, 0.05, 0.2])
        got = alone(drawn(rng, arm_and_example=rng.choice([0.0, 1.0]), seed_sd=rng.choice([0.0, 0.1])) + gain)
        detectable = minimum_detectable_difference(got.se, got.spread, alpha=level)
        shown.append(got.p < level)
        assert shown[-1] or abs(got.mean) < detectable
    assert 20 < sum(shown) < 180


def test_the_detectable_difference_goes_from_the_normal_to_students_with_the_share_of_the_seeds():
    spreads = [Spread(2, 1e6, share) for share in (0.0, 0.2, 0.5, 0.8, 1.0)]
    given = [minimum_detectable_difference(1.0, spread, alpha=0.01) for spread in spreads]
    assert given == sorted(given)
    assert given[0] == pytest.approx(stats.norm.isf(0.005) + stats.norm.isf(0.2), rel=1e-3)
    assert given[-1] == minimum_detectable_difference(1.0, Spread(2), alpha=0.01)


def test_examples_of_one_group_count_once_over_seeds_and_examples():
    differences = drawn(np.random.default_rng(2), examples=60, arm_and_example=1.0)
    copied = crossed_difference(np.repeat(differences, 20, axis=1), np.repeat(np.arange(60), 20))
    assert copied.p == pytest.approx(alone(differences).p, rel=1e-6)
    assert alone(np.repeat(differences, 20, axis=1)).p < copied.p


def test_a_model_against_itself_is_no_difference_and_one_seed_or_one_group_claims_nothing_of_examples():
    same = alone(np.zeros((3, 50)))
    assert (same.mean, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 1.0)
    assert alone(drawn(np.random.default_rng(3), seeds=1)).p is None
    one_group = crossed_difference(drawn(np.random.default_rng(4)), np.zeros(400, dtype=int))
    assert one_group.examples == 0


def test_a_shared_test_set_makes_no_false_claims_although_a_test_over_seeds_alone_would():
    rng = np.random.default_rng(5)
    both, seeds_alone, times = 0, 0, 600
    for _ in range(times):
        differences = drawn(rng, seeds=5, arm_and_example=0.7)
        both += alone(differences).p < 0.05
        seeds_alone += stats.ttest_1samp(differences.mean(axis=1), 0).pvalue < 0.05
    assert both / times < 0.075
    assert seeds_alone / times > 0.2


# McNemar


def test_mcnemar_gives_the_textbook_value():
    # Fagerland, Lydersen and Laake 2013, airway hyper-responsiveness: 1 and 7 discordant pairs, exact p = 0.070
    assert mcnemar(1, 7) == pytest.approx(0.0703125)
    assert mcnemar(5, 5) == 1.0


def test_mcnemar_is_the_sign_test_on_discordant_examples_by_an_independent_sum():
    for first in range(12):
        for second in range(12):
            fewer, n = min(first, second), first + second
            tail = sum(math.comb(n, k) for k in range(fewer + 1)) / 2**n
            assert mcnemar(first, second) == pytest.approx(min(1.0, 2 * tail)), (first, second)


def test_mcnemar_of_classifiers_that_err_on_the_same_examples_shows_nothing_instead_of_nan():
    assert mcnemar(0, 0) == 1.0


def test_mcnemar_does_not_care_who_is_first_and_rarely_claims_where_nothing_is():
    p = [mcnemar(first, 30 - first) for first in range(31)]
    assert p == pytest.approx(p[::-1])
    chances = stats.binom.pmf(range(31), 30, 0.5)  # of each split of 30 where both are right equally often
    assert 0 < sum(chance for chance, one in zip(chances, p, strict=True) if one < 0.05) <= 0.05


# Resampling


def test_whole_groups_stand_or_fall_together():
    groups = ["a", "b", "a", "c", "b", "a"]
    members = {name: [place for place, group in enumerate(groups) if group == name] for name in "abc"}
    sizes = []

    def figure(drawn):
        counts = np.bincount(drawn, minlength=len(groups))
        times = {name: {int(counts[place]) for place in places} for name, places in members.items()}
        assert all(len(one) == 1 for one in times.values())  # each member as often as the others of its group
        assert sum(one.copy().pop() for one in times.values()) == 3  # as many groups as there are
        sizes.append(len(drawn))
        return 0.0

    resampled(groups, figure, resamples=200)
    assert len(set(sizes)) > 1


def test_groups_of_one_example_are_the_plain_bootstrap():
    values = np.random.default_rng(3).normal(size=40)
    ours = resampled([f"{place:03}" for place in range(40)], lambda drawn: values[drawn].mean(), 300, seed=5)
    draws = np.random.default_rng(5)
    plain = np.sort([values[draws.integers(40, size=40)].mean() for _ in range(300)])
    np.testing.assert_array_equal(ours, plain)


def test_the_names_of_groups_and_their_order_do_not_change_the_spread():
    values = np.random.default_rng(4).normal(size=60)
    by_number = [place // 3 for place in range(60)]
    expected = np.std(resampled(by_number, lambda drawn: values[drawn].mean(), 2000))
    order = np.random.default_rng(5).permutation(60)
    shuffled = [f"group {by_number[place]}" for place in order]
    mixed = np.std(resampled(shuffled, lambda drawn: values[order][drawn].mean(), 2000))
    assert mixed == pytest.approx(expected, rel=0.1)


def test_the_same_seed_draws_the_same_and_another_seed_others():
    def draw(seed):
        return resampled(list("aabbccdd"), lambda drawn: float(drawn.sum()), 50, seed)

    np.testing.assert_array_equal(draw(1), draw(1))
    assert (draw(1) != draw(2)).any()


def test_figures_come_sorted_and_as_many_as_asked():
    got = resampled(list("abcd"), lambda drawn: float(drawn[0]), 37)
    assert got.shape == (37,)
    assert (np.diff(got) >= 0).all()


@pytest.mark.parametrize("groups", [["a"], ["a", "a", "a"], []])
def test_one_group_cannot_be_resampled_and_is_refused_instead_of_having_no_spread(groups):
    with pytest.raises(ValueError, match="at least two"):
        resampled(groups, lambda drawn: 0.0)


@pytest.mark.parametrize("size", [1, 5])
def test_the_lower_bound_of_a_paired_difference_holds_about_as_often_as_it_says(size):
    """One-sided 95 % bound on the difference of two accuracies, 300 examples; in groups, each group answers alike."""
    rng, repeats, held = np.random.default_rng(11), 200, 0
    examples = 300 // size
    for _ in range(repeats):
        ours = np.repeat(rng.random(examples) < 0.8, size)
        theirs = np.repeat(rng.random(examples) < 0.75, size)
        gaps = ours.astype(float) - theirs
        groups = np.repeat(np.arange(examples), size)
        figures = resampled(list(groups), lambda drawn, gaps=gaps: gaps[drawn].mean(), 200, seed=1)
        held += np.quantile(figures, 0.05) <= 0.05
    assert 0.90 <= held / repeats <= 0.99


def test_resampling_examples_of_groups_apart_would_claim_too_much():
    """What the groups are for: examples that answer alike hold less than they seem to."""
    rng = np.random.default_rng(12)
    values = np.repeat(rng.normal(size=30), 10)
    together = np.std(resampled(list(np.repeat(np.arange(30), 10)), lambda drawn: values[drawn].mean()))
    apart = np.std(resampled(list(range(300)), lambda drawn: values[drawn].mean()))
    assert together == pytest.approx(values.std() / math.sqrt(30), rel=0.15)
    assert together > 2 * apart
