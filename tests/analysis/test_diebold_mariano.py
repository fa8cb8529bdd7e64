"""Forecasts of overlapping windows are compared without taking each window for new evidence."""

import math

import numpy as np
import pytest
from scipy import stats

from kd.analysis.diebold_mariano import diebold_mariano
from kd.analysis.statistics import LEVEL

HORIZON = 6
TIMES = 1000
MOST = stats.binom.isf(1e-4, TIMES, 0.06)
"""Claims that a test with 6 % false ones exceeds once in 10,000; the draws are fixed besides."""


def overlapping(rng, series=4, length=300, horizon=HORIZON):
    """Differences without a true mean whose neighbours up to `horizon` - 1 places share shocks: MA(horizon - 1)."""
    shocks = rng.normal(size=(series, length + horizon - 1))
    return np.stack([np.convolve(one, np.ones(horizon), "valid") for one in shocks])


def flat(values):
    series, length = values.shape
    return values.ravel(), np.repeat(np.arange(series), length), np.tile(np.arange(length), series)


def test_equally_good_forecasts_are_told_apart_in_5_of_100_cases_although_a_plain_t_test_does_in_most():
    rng, claimed, plain = np.random.default_rng(0), 0, 0
    for _ in range(TIMES):
        values, series, places = flat(overlapping(rng))
        claimed += diebold_mariano(values, series, places, HORIZON) < LEVEL
        plain += stats.ttest_1samp(values, 0).pvalue < LEVEL
    assert 0.03 * TIMES < claimed <= MOST
    assert plain > 0.3 * TIMES


def test_gaps_and_several_patients_leave_the_size_as_it_is():
    rng, claimed = np.random.default_rng(1), 0
    for _ in range(TIMES):
        values, series, places = flat(overlapping(rng, series=12, length=120))
        kept = (places < 40) | (places > 70) | (series % 3 == 0)
        claimed += diebold_mariano(values[kept], series[kept], places[kept], HORIZON) < LEVEL
    assert 0.03 * TIMES < claimed <= MOST


def test_of_one_unbroken_series_it_is_the_published_statistic():
    rng = np.random.default_rng(2)
    values = overlapping(rng, series=1, length=80)[0] + 0.4
    n, h, centred = len(values), HORIZON, values - values.mean()
    covariances = [centred[k:] @ centred[: n - k] / n for k in range(h)]
    statistic = values.mean() / math.sqrt((covariances[0] + 2 * sum(covariances[1:])) / n)
    statistic *= math.sqrt((n + 1 - 2 * h + h * (h - 1) / n) / n)
    expected = 2 * stats.t.sf(abs(statistic), n - 1)
    assert diebold_mariano(values, np.zeros(n, dtype=int), np.arange(n), h) == pytest.approx(expected)


def test_at_one_step_ahead_it_is_the_paired_t_test():
    values = np.random.default_rng(3).normal(0.1, 1, 50)
    found = diebold_mariano(values, np.zeros(50, dtype=int), np.arange(50), 1)
    assert found == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


def test_the_order_of_the_rows_plays_no_part_and_neighbours_are_those_in_time():
    values, series, places = flat(overlapping(np.random.default_rng(4), series=3, length=60))
    mixed = np.random.default_rng(5).permutation(len(values))
    whole = diebold_mariano(values, series, places, HORIZON)
    assert diebold_mariano(values[mixed], series[mixed], places[mixed], HORIZON) == pytest.approx(whole)
    apart = diebold_mariano(values, series, places * HORIZON, HORIZON)
    assert apart == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


def test_a_difference_is_found_and_its_sign_plays_no_part():
    values, series, places = flat(overlapping(np.random.default_rng(6)) + 2)
    p = diebold_mariano(values, series, places, HORIZON)
    assert p < 0.001
    assert diebold_mariano(-values, series, places, HORIZON) == p


def test_where_the_covariances_add_up_to_less_than_nothing_there_is_still_a_variance():
    values = np.tile([1.0, -1.0], 20) + 0.01
    assert 0 < diebold_mariano(values, np.zeros(40, dtype=int), np.arange(40), 2) <= 1


@pytest.mark.parametrize("values", [np.zeros(40), np.ones(1), np.array([1.0, 2.0, 1.5])])
def test_no_difference_and_too_few_windows_claim_nothing(values):
    count = len(values)
    assert diebold_mariano(values, np.zeros(count, dtype=int), np.arange(count), HORIZON) == 1.0


def test_a_constant_difference_of_many_windows_is_no_difference_by_chance():
    assert diebold_mariano(np.full(100, 0.5), np.zeros(100, dtype=int), np.arange(100), HORIZON) == 0.0
