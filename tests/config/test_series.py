"""Options of series: contradictions are refused when they are given, not when data are read."""

import pytest

from kd.base.types import UserError
from kd.config.series import SeriesOptions


@pytest.mark.parametrize("text", ["0.7,0.3", "0.7,0.2,0.2", "1,0,0", "a,b,c", "", "0.5,0.6,-0.1"])
def test_a_time_split_that_is_none_is_refused_with_an_example(text):
    with pytest.raises(UserError, match=r"give three shares above 0 that add up to 1, such as 0.7,0.1,0.2"):
        SeriesOptions(time_split=text)


def test_what_is_known_ahead_is_one_of_the_covariates():
    assert SeriesOptions(covariates="carbs, bolus", known_ahead="bolus")
    with pytest.raises(UserError, match="'basal' is no covariate: name it in covariates too"):
        SeriesOptions(covariates="carbs,bolus", known_ahead="bolus,basal")


@pytest.mark.parametrize("given", [{"missing_share": 0.0}, {"missing_share": 1.0}, {"noise_sd": 0.0}, {"history": 0}])
def test_what_would_do_nothing_is_out_of_range(given):
    with pytest.raises(UserError, match=f"{next(iter(given))}=.* is out of range"):
        SeriesOptions(**given)
