"""Every option that sets a budget is judged by its own figure, and one that sets none is not judged."""

from dataclasses import fields

import pytest

from kd.base.budgets import BUDGETS, Device, budgets_of, feasibility, fits, fits_device
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


@pytest.mark.parametrize(
    ("p95", "name"),
    [
        (99.9, "excellent"),
        (100, "good"),
        (499, "good"),
        (500, "acceptable"),
        (999, "acceptable"),
        (1000, "challenging"),
    ],
)
def test_feasibility_classes_at_their_borders(p95, name):
    assert feasibility(p95) == name


RAM, DISK = BUDGETS["ram_budget_mib"], BUDGETS["size_budget_mib"]


def test_a_model_fits_a_device_whose_ram_and_storage_it_may_just_fill_and_no_smaller_one():
    metrics = {RAM: 512.0, DISK: 100.0, "profile/ram_model_mib": 1e9}
    assert fits_device(metrics, Device(512, 100)) == (True, "peak RAM 512 of 512 MiB, model 100 of 100 MiB")
    assert not fits_device(metrics, Device(511, 100))[0]
    assert fits_device(metrics, Device(16384, 0.5))[1].endswith("of 16384 MiB, model 100 of 0.5 MiB")
    assert not fits_device(metrics, Device(512, 99.9))[0]


@pytest.mark.parametrize("metrics", [{}, {RAM: 1.0}, {DISK: 1.0}])
def test_where_a_figure_was_not_measured_nothing_is_said_of_a_device(metrics):
    assert fits_device(metrics, Device(1e9, 1e9)) is None
