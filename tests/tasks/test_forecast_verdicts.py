"""Windows overlap, and test sets have few days: equally good forecasters are seldom called better for all that."""

import numpy as np
import pytest
from scipy import stats

from benchmarks.verdicts import FORECASTS, false_claims, forecasts, pseudo_rmse
from kd.analysis.statistics import crossed_difference
from kd.analysis.verdicts import differences, values_of
from kd.tasks.forecasting.scores import ForecastJudge
from tests.tasks.forecasts import noisy, two_patients

TIMES = 600
MOST = stats.binom.isf(1e-4, TIMES, 0.06)
"""Claims that a test with 6 % false ones exceeds once in 10,000; the draws are fixed besides."""


def test_the_judges_windows_go_into_the_verdict_as_the_simulated_ones_do():
    table = noisy(two_patients(gaps=range(300, 500)))
    found = values_of(table, "rmse", ForecastJudge)
    by_day = table.groupby("group", sort=False)["squared_error"]
    assert by_day.size().nunique() > 1
    expected = pseudo_rmse(by_day.sum().to_numpy(), by_day.size().to_numpy())
    assert found.values == pytest.approx(expected)
    assert found.groups.tolist() == list(range(6))


def test_a_difference_that_all_days_and_seeds_have_is_shown():
    made = two_patients()
    pairs = []
    for seed in range(3):
        ours, theirs = noisy(made, 8, seed=seed), noisy(made, 10, seed=seed + 10)
        pairs.append((seed, values_of(ours, "rmse", ForecastJudge), values_of(theirs, "rmse", ForecastJudge)))
    both = differences(pairs)
    found = crossed_difference(both.values, both.groups)
    assert found.groups == 6
    assert found.high < 0


@pytest.mark.parametrize("kind", FORECASTS)
@pytest.mark.parametrize("days", [3, 6, 12])
def test_forecasters_that_are_equally_good_are_told_apart_in_at_most_6_of_100_comparisons(kind, days):
    drawn = forecasts(kind, days, np.random.default_rng([days, len(kind)]), TIMES)
    for seeds in (3, 10):
        alone, both = false_claims(drawn, seeds)
        assert TIMES * both <= MOST
        assert alone > both
