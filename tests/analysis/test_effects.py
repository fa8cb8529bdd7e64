"""Main effects are those of the textbook, and chance alone is not called an effect more often than is said."""

import itertools

import numpy as np
import pytest
from scipy import stats

from kd.analysis.effects import main_effects


def crossed(value, seeds=(0, 1, 2), **axes):
    """Scores of all combinations; `value(levels, seed)` is the metric."""
    points = [dict(zip(axes, levels, strict=True)) for levels in itertools.product(*axes.values())]
    return [(point, seed, value(point, seed)) for seed in seeds for point in points]


def test_effects_of_an_additive_world_are_found_exactly_and_the_widest_comes_first():
    gain = {"soft": 0.02, "hard": -0.02, 2: -0.1, 4: 0.1}
    scores = crossed(
        lambda point, seed: 0.8 + 0.01 * seed + sum(gain[level] for level in point.values()),
        objective=["soft", "hard"],
        layers=[2, 4],
    )
    layers, objective = main_effects(scores, ["objective", "layers"])
    assert (layers.name, objective.name) == ("layers", "objective")
    for factor in (layers, objective):
        for level in factor.levels:
            assert level.effect.mean == pytest.approx(gain[level.value])
            assert (level.cells, level.effect.n) == (2, 3)
    assert layers.spread == pytest.approx(0.2)


def test_p_is_that_of_a_paired_t_test_where_a_factor_has_two_levels():
    draws = np.random.default_rng(0).normal(size=(6, 2))
    scores = crossed(lambda point, seed: draws[seed, point["a"]], seeds=range(6), a=[0, 1])
    (factor,) = main_effects(scores, ["a"])
    assert factor.p == pytest.approx(stats.ttest_rel(draws[:, 0], draws[:, 1]).pvalue)
    assert factor.adjusted_p == pytest.approx(factor.p)


def test_chance_alone_is_called_an_effect_in_about_five_of_a_hundred_studies():
    draw = np.random.default_rng(1)
    claims = 0
    for _ in range(2000):
        values = draw.normal(size=(3, 4)) + draw.normal(size=(3, 1))
        (factor,) = main_effects(crossed(lambda point, seed, v=values: v[seed, point["a"]], a=range(4)), ["a"])
        claims += factor.p < 0.05
    assert 0.035 < claims / 2000 < 0.065


def test_under_three_seeds_there_is_an_effect_and_no_p():
    (factor,) = main_effects(crossed(lambda point, seed: point["a"], seeds=(0, 1), a=[0.0, 1.0]), ["a"])
    assert (factor.p, factor.adjusted_p) == (None, None)
    assert factor.spread == 1


def test_a_factor_that_plays_no_part_in_the_control_is_judged_without_it():
    scores = crossed(lambda point, seed: point["alpha"], alpha=[0.25, 0.75])
    scores += [({"objective": "none"}, seed, 9.0) for seed in range(3)]
    (factor,) = main_effects(scores, ["alpha", "objective"])
    assert [level.effect.mean for level in factor.levels] == [-0.25, 0.25]


def test_a_seed_on_which_a_level_failed_is_left_out_instead_of_shifting_the_others():
    scores = crossed(lambda point, seed: point["a"] + 100 * (seed == 2), a=[0.0, 1.0])
    whole, broken = (main_effects(each, ["a"])[0] for each in (scores, scores[:-1]))
    assert [level.effect.mean for level in whole.levels] == [level.effect.mean for level in broken.levels]
    assert broken.levels[0].effect.n == 2


def test_no_difference_at_all_is_no_effect():
    (factor,) = main_effects(crossed(lambda point, seed: 0.5, a=[0, 1]), ["a"])
    assert factor.p == 1


def test_a_gain_that_is_the_same_on_every_seed_is_not_called_beyond_all_doubt():
    scores = crossed(lambda point, seed: [0.81, 0.82, 0.93][seed] + point["a"], a=[0.0, 0.02])
    (factor,) = main_effects(scores, ["a"])
    assert factor.p == 0.25


def test_a_factor_that_changes_only_together_with_others_is_given_no_effect():
    """As in few_labels.yaml: without labels left over there is no text to transfer, and who teaches decides how."""
    quality = {100: 0.5, 300: 0.7, 0: 0.9}
    points = [{"labels": n, "objective": "none"} for n in quality]
    points += [{"labels": n, "objective": "soft", "guide": "teacher", "transfer": "rest"} for n in (100, 300)]
    points += [{"labels": n, "objective": "hard", "guide": "control", "transfer": "rest"} for n in (100, 300)]
    points += [{"labels": 0, "objective": "soft", "guide": "teacher", "transfer": ""}]
    scores = [(point, seed, quality[point["labels"]] + seed / 100) for seed in range(3) for point in points]
    labels, *others = main_effects(scores, ["objective", "labels", "guide", "transfer"])
    assert (labels.name, labels.spread) == ("labels", pytest.approx(0.4))
    assert {factor.name for factor in others} == {"objective", "guide", "transfer"}
    assert all((factor.levels, factor.p, factor.adjusted_p) == ((), None, None) for factor in others)


def test_an_excluded_combination_does_not_pass_for_an_effect_of_the_other_factor():
    scores = crossed(lambda point, seed: point["a"] + seed, a=[0.0, 1.0, 2.0], b=["x", "y"])
    scores = [one for one in scores if one[0] != {"a": 0.0, "b": "y"}]
    a, b = main_effects(scores, ["a", "b"])
    assert (a.name, a.spread, a.levels[0].cells) == ("a", 2.0, 1)
    assert (b.spread, b.p) == (0.0, 1.0)
