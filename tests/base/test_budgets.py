"""Every option that sets a budget is judged by its own figure, and one that sets none is not judged."""

from dataclasses import fields

import pytest

from kd.base.budgets import BUDGETS, budgets_of, fits
from kd.config import DistillConfig, GateOptions, MeasureConfig


def test_zero_none_and_absent_options_set_no_budget():
    assert budgets_of(MeasureConfig(model="models:/m/1")) == budgets_of(GateOptions()) == budgets_of(None) == {}
    assert budgets_of(MeasureConfig(model="models:/m/1", ram_budget_mib=5.0)) == {"ram_budget_mib": 5.0}


@pytest.mark.parametrize("options", [DistillConfig, MeasureConfig, GateOptions])
def test_no_budget_that_an_entry_point_takes_is_left_out(options):
    assert {field.name for field in fields(options) if "_budget_m" in field.name} == BUDGETS.keys()


@pytest.mark.parametrize(("name", "metric"), BUDGETS.items())
def test_a_budget_is_compared_with_its_own_figure_and_may_be_reached(name, metric):
    others = {other: 1e9 for other in BUDGETS.values()}
    assert list(fits(others | {metric: 5.0}, {name: 5.0}).values()) == [True]
    assert list(fits(others | {metric: 5.1}, {name: 5.0}).values()) == [False]
