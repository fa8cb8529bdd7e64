"""Forecasts are scored in their unit, by window, and no figure stands for what cannot be known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from kd.analysis.verdicts import values_of
from kd.base.judge import OF_TASKS
from kd.tasks.forecasting.grids import ZONES
from kd.tasks.forecasting.scores import ForecastJudge, frame
from tests.tasks.forecasts import diagnosed, noisy, persistence, two_patients, windows

MADE = two_patients()
GOOD, POOR = noisy(MADE, 5.0), noisy(MADE, 20.0, seed=2)
MMOL = 18.016


def in_mmol(made):
    return replace(made, last=made.last / MMOL, truth=made.truth / MMOL, unit="mmol/L")


def narrow(table):
    """As a comparison reads it."""
    return table[[name for name in table.columns if not name.startswith(ForecastJudge.wide)]]


# The table


def test_one_line_a_window_has_the_documented_columns_and_means_over_the_steps():
    made = windows({"a": np.array([100.0, 110, 90, 200])}, horizon=2)
    table = frame(made, np.array([[100.0, 100.0], [100.0, 150.0]]), {0.1: np.full((2, 2), 80.0)})
    narrow_columns = ["example_id", "group", "patient", "time", "step_minutes", "horizon", "unit", "last", "range",
                      "squared_error", "absolute_error", "percentage_error", "squared_error_persistence"]  # fmt: skip
    assert list(narrow(table).columns) == narrow_columns
    wide = [name for name in table.columns if name not in narrow_columns]
    assert wide == ["step:truth:1", "step:truth:2", "step:forecast:1", "step:forecast:2", "step:q0.1:1", "step:q0.1:2"]
    assert table["squared_error"].tolist() == [(10**2 + 10**2) / 2, (10**2 + 50**2) / 2]
    assert table["absolute_error"].tolist() == [10, 30]
    assert table["percentage_error"].to_numpy() == pytest.approx([(10 / 110 + 10 / 90) / 2, (10 / 90 + 50 / 200) / 2])
    assert table["squared_error_persistence"].tolist() == [(10**2 + 10**2) / 2, (20**2 + 90**2) / 2]
    assert table["range"].tolist() == ["70-180", ">180"]
    assert table["time"].dtype == np.int64
    assert {*ForecastJudge.slices, *ForecastJudge.outcomes} <= set(table.columns)


def test_what_is_not_glucose_has_no_range_and_no_figure_of_glucose():
    table = noisy(replace(MADE, unit="none"))
    assert "range" not in table
    found = diagnosed(table)
    assert not [name for name in found if any(word in name for word in ("hyp", "clarke", "parkes", "grmse", "low"))]
    assert "forecast/rmse_step_6" in found


@pytest.mark.parametrize("shape", [(3, 6), (len(MADE.truth), 5)])
def test_forecasts_of_another_shape_than_the_truth_are_refused_rather_than_spread(shape):
    with pytest.raises(ValueError, match=r"forecasts .* truth"):
        frame(MADE, np.zeros(shape))


def test_a_truth_that_is_no_number_is_refused_because_no_target_is_a_missing_value():
    truth = MADE.truth.copy()
    truth[3, 2] = np.nan
    with pytest.raises(ValueError, match="true values are not finite"):
        frame(replace(MADE, truth=truth), MADE.truth)


def test_a_model_that_diverged_has_no_number_for_its_error_rather_than_one_of_what_is_left():
    forecasts = MADE.truth.copy()
    forecasts[3, 2] = np.nan
    table = frame(MADE, forecasts)
    assert np.isnan(ForecastJudge.quality(table)["rmse"])
    assert diagnosed(table) == {}


# Quality


def test_quality_is_of_all_values_and_skill_is_against_persistence():
    truth, forecast = (np.stack([GOOD[f"step:{what}:{k}"] for k in range(1, 7)]) for what in ("truth", "forecast"))
    found = ForecastJudge.quality(GOOD)
    assert list(found) == list(ForecastJudge.directions)
    assert found["rmse"] == pytest.approx(np.sqrt(((truth - forecast) ** 2).mean()))
    assert found["mae"] == pytest.approx(np.abs(truth - forecast).mean())
    assert found["mape"] == pytest.approx((np.abs(truth - forecast) / truth).mean())
    last = ForecastJudge.quality(persistence(MADE))
    assert last["skill"] == pytest.approx(0)
    assert found["skill"] == pytest.approx(1 - found["rmse"] / last["rmse"])


def test_the_percentage_is_absent_where_a_truth_is_0_and_skill_where_persistence_is_never_wrong():
    made = windows({"a": np.array([5.0, 0, 7, 8])}, horizon=2, unit="none")
    found = ForecastJudge.quality(frame(made, np.ones((2, 2))))
    assert set(found) == {"rmse", "mae", "skill"}
    assert frame(made, np.ones((2, 2)))["percentage_error"].isna().tolist() == [True, False]
    constant = windows({"a": np.full(9, 5.0)}, horizon=2, unit="none")
    assert set(ForecastJudge.quality(frame(constant, constant.truth + 1))) == {"rmse", "mae", "mape"}


def test_other_units_change_errors_by_their_factor_and_nothing_else():
    ours = frame(in_mmol(MADE), persistence(MADE).filter(like="step:forecast").to_numpy() / MMOL)
    theirs = persistence(MADE)
    assert ours["range"].tolist() == theirs["range"].tolist()
    for metric, value in ForecastJudge.quality(theirs).items():
        factor = MMOL if metric in ("rmse", "mae") else 1
        assert factor * ForecastJudge.quality(ours)[metric] == pytest.approx(value, abs=1e-9)
    found, expected = diagnosed(ours), diagnosed(theirs)
    assert set(found) == set(expected)
    for name, value in expected.items():
        factor = MMOL if any(word in name for word in ("rmse", "mae")) else 1
        assert factor * found[name] == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("metric", ForecastJudge.directions)
def test_every_metric_is_judged_by_window_or_by_patient_and_day_and_the_values_average_to_it(metric):
    found = values_of(narrow(GOOD), metric, ForecastJudge)
    assert found.values.mean() == pytest.approx(ForecastJudge.quality(GOOD)[metric])
    if metric in ("rmse", "skill"):
        assert len(found.values) == GOOD["group"].nunique() == 6


def test_comparing_needs_no_wide_column():
    ours, theirs = narrow(GOOD), narrow(POOR)
    assert ForecastJudge.quality(ours) == ForecastJudge.quality(GOOD)
    assert ForecastJudge.paired_test(ours, theirs) == ForecastJudge.paired_test(GOOD, POOR)
    assert ForecastJudge.churn(ours, theirs) == ForecastJudge.churn(GOOD, POOR)


# Against one another


def test_fidelity_is_the_distance_of_the_forecasts_and_the_likeness_of_their_errors():
    forecast = MADE.truth + 10 * np.random.default_rng(3).normal(size=MADE.truth.shape)
    teacher, student = frame(MADE, forecast), frame(MADE, forecast + 2)
    assert ForecastJudge.fidelity(student, teacher)["fidelity/rmse"] == pytest.approx(2)
    assert ForecastJudge.fidelity(student, teacher)["fidelity/correlation"] == pytest.approx(1)
    assert ForecastJudge.fidelity(teacher, teacher)["fidelity/rmse"] == 0
    assert abs(ForecastJudge.fidelity(GOOD, POOR)["fidelity/correlation"]) < 0.1
    exact = frame(MADE, MADE.truth)
    assert "fidelity/correlation" not in ForecastJudge.fidelity(exact, teacher)


def test_churn_goes_the_way_it_went_and_small_changes_are_none():
    better, poorer = ForecastJudge.churn(POOR, GOOD), ForecastJudge.churn(GOOD, POOR)
    first, smaller, larger = better
    assert better[smaller] == poorer[larger] > 0.9
    assert better[first] == better[smaller] + better[larger] == poorer[first]
    assert set(ForecastJudge.churn(GOOD, GOOD).values()) == {0.0}
    slight = GOOD.assign(absolute_error=1.001 * GOOD["absolute_error"])
    assert ForecastJudge.churn(GOOD, slight)[first] == 0


@pytest.mark.parametrize("method", ["fidelity", "churn", "paired_test"])
def test_predictions_of_other_windows_are_never_compared(method):
    with pytest.raises(ValueError, match="same examples"):
        getattr(ForecastJudge, method)(GOOD, GOOD.iloc[::-1])


def test_the_paired_test_is_diebold_marianos_and_knows_that_windows_overlap():
    name, p = ForecastJudge.paired_test(GOOD, POOR)
    assert name == "Diebold-Mariano"
    assert p < 1e-6
    assert ForecastJudge.paired_test(POOR, GOOD)[1] == pytest.approx(p)
    assert ForecastJudge.paired_test(GOOD, GOOD)[1] == 1
    gap = np.random.default_rng(0).normal(0.8, 10, len(GOOD) + 5)
    smooth = np.convolve(gap, np.ones(6) / 6, "valid")
    other = GOOD.assign(squared_error=GOOD["squared_error"] + smooth)
    apart = other.assign(time=other["time"] * 6)
    assert ForecastJudge.paired_test(other, GOOD)[1] > 2 * ForecastJudge.paired_test(apart, GOOD)[1]


# Figures


def test_every_figure_that_is_shown_is_logged_and_named_as_reports_expect():
    quantiles = {q: MADE12.truth + shift for q, shift in ((0.1, -9), (0.5, 1), (0.9, 11))}
    table = frame(MADE12, MADE12.truth + 30 * np.random.default_rng(5).normal(size=MADE12.truth.shape), quantiles)
    logged = {**diagnosed(table), **ForecastJudge.fidelity(table, noisy(MADE12))}
    assert {figure.key for figure in ForecastJudge.figures} <= set(logged) | {"fidelity/cka"}
    assert all(name.startswith(OF_TASKS) for name in logged)
    assert np.isfinite([*logged.values()]).all()
    assert len({figure.title for figure in ForecastJudge.figures}) == len(ForecastJudge.figures)


MADE12 = two_patients(horizon=12)


def test_figures_are_the_same_with_and_without_validation_as_nothing_is_fitted():
    assert ForecastJudge.diagnostics(GOOD, GOOD) == diagnosed(GOOD)


def test_errors_by_step_by_range_and_by_patient_add_up_to_the_whole():
    found, whole = diagnosed(POOR), ForecastJudge.quality(POOR)
    steps = [found[f"forecast/rmse_step_{k}"] for k in range(1, 7)]
    assert np.sqrt(np.mean(np.square(steps))) == pytest.approx(whole["rmse"])
    assert np.mean([found[f"forecast/mae_step_{k}"] for k in range(1, 7)]) == pytest.approx(whole["mae"])
    truth = POOR.filter(like="step:truth").to_numpy()
    sizes = [(truth < 70).sum(), ((truth >= 70) & (truth <= 180)).sum(), (truth > 180).sum()]
    parts = [found[f"forecast/rmse_{name}"] for name in ("low", "in_range", "high")]
    assert np.sqrt(np.average(np.square(parts), weights=sizes)) == pytest.approx(whole["rmse"])
    each = [ForecastJudge.quality(own)["mae"] for _, own in POOR.groupby("patient")]
    assert found["forecast/mae_patient_mean"] == pytest.approx(np.mean(each))
    assert found["forecast/mae_patient_sd"] == pytest.approx(np.std(each, ddof=1))


def test_one_patient_has_no_spread_over_patients():
    found = diagnosed(POOR[POOR["patient"] == "570"])
    assert not [name for name in found if "patient" in name]


@pytest.mark.parametrize(
    ("truth", "forecast", "weight"),
    [
        (100, 140, 1),  # in range nothing is added
        (85, 125, 1),
        (55, 95, 2.5),  # at 30 below 85, and over 10 too high
        (55, 45, 1),  # too low costs nothing more
        (70, 80, 1 + 1.5 * 0.5),  # half the way below 85
        (55, 60, 1 + 1.5 * 0.5),  # half of 10 too high
        (255, 215, 2),  # at 100 above 155, and over 20 too low
        (255, 275, 1),
        (205, 165, 1.5),
        (255, 245, 1.5),
    ],
)
def test_the_glucose_weighted_error_counts_what_would_harm_as_published(truth, forecast, weight):
    made = windows({"a": np.array([120.0, truth])}, horizon=1)
    found = diagnosed(frame(made, np.array([[float(forecast)]])))
    assert found["forecast/grmse"] == pytest.approx(np.sqrt(weight) * abs(truth - forecast))


def test_persistence_lags_by_the_whole_horizon_and_the_truth_not_at_all():
    last, exact = diagnosed(persistence(MADE)), diagnosed(frame(MADE, MADE.truth))
    assert (last["forecast/lag_minutes"], last["forecast/temporal_gain_minutes"]) == (30, 0)
    assert (exact["forecast/lag_minutes"], exact["forecast/temporal_gain_minutes"]) == (0, 30)
    late = np.column_stack([MADE.last, MADE.last, MADE.truth[:, :4]])
    assert diagnosed(frame(MADE, late))["forecast/lag_minutes"] == 10


def test_zones_are_those_of_the_last_step():
    made = windows({"a": np.array([120.0, 100, 295, 295, 100])}, horizon=2)
    table = frame(made, np.array([[0.0, 400.0], [0.0, 295.0], [0.0, 20.0]]))
    found = diagnosed(table)
    assert [found[f"forecast/parkes_{zone.lower()}"] for zone in ZONES] == pytest.approx([1 / 3, 2 / 3, 0, 0, 0])
    assert [found[f"forecast/clarke_{zone.lower()}"] for zone in ZONES] == pytest.approx([1 / 3, 2 / 3, 0, 0, 0])


# Events


def events_of(values, forecasts, horizon=6, gaps=()):
    found = diagnosed(frame(windows({"a": np.array(values, dtype=float)}, horizon, gaps=gaps), forecasts))
    return {name: found.get(f"forecast/{name}") for name in ("hypo_sensitivity", "hypo_precision", "hypo_mcc")}


def series(*parts):
    return np.concatenate([np.full(count, value) for value, count in parts])


def shifted(values, horizon=6):
    """Exact forecasts."""
    return windows({"a": np.asarray(values, dtype=float)}, horizon).truth.copy()


def test_an_event_that_is_forecast_exactly_is_found_and_nothing_else_is_announced():
    values = series((100, 20), (60, 5), (100, 20))
    assert events_of(values, shifted(values)) == {"hypo_sensitivity": 1, "hypo_precision": 1, "hypo_mcc": 1}


def test_two_values_below_70_are_no_event_and_three_are():
    short, long = series((100, 20), (60, 2), (100, 20)), series((100, 20), (60, 3), (100, 20))
    assert events_of(short, shifted(short))["hypo_sensitivity"] is None
    assert events_of(long, shifted(long))["hypo_sensitivity"] == 1
    assert events_of(short, np.full(shifted(short).shape, 60.0))["hypo_precision"] == 0


def test_a_forecast_announces_an_event_by_15_minutes_below_70_or_by_being_there_when_it_ends():
    values = series((100, 20), (60, 5), (100, 20))
    dip = np.full(shifted(values).shape, 100.0)
    dip[:, 2:4] = 60
    assert events_of(values, dip)["hypo_sensitivity"] == 0
    dip[:, 2:5] = 60
    assert events_of(values, dip)["hypo_sensitivity"] == 1
    at_end = np.full(dip.shape, 100.0)
    at_end[:, -1] = 60
    assert events_of(values, at_end)["hypo_sensitivity"] == 1


def test_a_window_that_begins_within_an_event_neither_gains_nor_loses_by_it():
    values = series((100, 20), (60, 8), (100, 20))
    exact = shifted(values)
    inside = windows({"a": values}).last < 70
    worst = np.where(inside[:, None], 160 - exact, exact)
    assert events_of(values, worst) == events_of(values, exact)


def test_an_event_counts_where_it_begins_within_the_horizon_and_is_whole_though_it_lasts_longer():
    values = series((100, 20), (60, 3), (100, 20))
    near = windows({"a": values})
    begins = (near.time - near.time[0]) // 300 < 20
    due = begins & ((near.time - near.time[0]) // 300 >= 14)
    forecasts = np.where(due[:, None], 60.0, 100.0) * np.ones((1, 6))
    assert events_of(values, forecasts) == {"hypo_sensitivity": 1, "hypo_precision": 1, "hypo_mcc": 1}


def test_confusion_gives_the_textbook_figures():
    values = series((100, 20), (60, 5), (100, 20))
    forecasts = shifted(values)
    forecasts[14:17] = 100  # three of the six windows before it miss it
    forecasts[0:2] = 60  # two false alarms
    kept = 39 - 5  # windows, less those within the event
    hits, misses, alarms = 3, 3, 2
    quiet = kept - hits - misses - alarms
    found = events_of(values, forecasts)
    assert found["hypo_sensitivity"] == pytest.approx(0.5)
    assert found["hypo_precision"] == pytest.approx(0.6)
    below = np.sqrt((hits + alarms) * (hits + misses) * (quiet + alarms) * (quiet + misses))
    assert found["hypo_mcc"] == pytest.approx((hits * quiet - alarms * misses) / below)


def test_values_apart_by_a_gap_do_not_add_up_to_an_event():
    values = series((100, 10), (60, 2), (60, 20), (60, 2), (100, 20))
    gaps = {*range(6, 40)}
    made = windows({"a": values}, gaps=gaps)
    table = frame(made, made.truth)
    assert table["step:truth:6"].iloc[5] == 60
    assert "forecast/hypo_sensitivity" not in diagnosed(table)


def test_high_glucose_is_an_event_above_180_and_180_itself_is_not():
    values = series((100, 20), (180, 5), (100, 20))
    made = windows({"a": values})
    assert "forecast/hyper_sensitivity" not in diagnosed(frame(made, made.truth))
    made = windows({"a": np.where(values == 180, 181, values)})
    assert diagnosed(frame(made, made.truth))["forecast/hyper_mcc"] == 1


# Intervals


def test_coverage_and_pinball_loss_are_of_the_quantiles_and_absent_without():
    rng = np.random.default_rng(6)
    made = two_patients(days=6)
    middle = made.truth + 10 * rng.normal(size=made.truth.shape)
    wide = {0.1: middle - 12.816, 0.5: middle, 0.9: middle + 12.816}
    found = diagnosed(frame(made, middle, wide))
    assert found["forecast/coverage"] == pytest.approx(0.8, abs=0.01)
    assert found["forecast/coverage_expected"] == pytest.approx(0.8)
    under = 12.816 + made.truth - middle
    assert 0 < found["forecast/pinball"] < under.mean()
    one = frame(made, middle, {0.5: middle})
    assert diagnosed(one)["forecast/pinball"] == pytest.approx(ForecastJudge.quality(one)["mae"] / 2)
    assert "forecast/coverage" not in diagnosed(one)
    assert not [name for name in diagnosed(frame(made, middle)) if "coverage" in name or "pinball" in name]


def test_the_pinball_loss_of_a_high_quantile_counts_what_is_above_it_more():
    made = windows({"a": np.array([100.0, 110.0])}, horizon=1)
    assert diagnosed(frame(made, np.full((1, 1), 100.0), {0.9: np.full((1, 1), 100.0)}))[
        "forecast/pinball"
    ] == pytest.approx(9)
    assert diagnosed(frame(made, np.full((1, 1), 100.0), {0.9: np.full((1, 1), 120.0)}))[
        "forecast/pinball"
    ] == pytest.approx(1)


def test_predictions_come_back_from_a_file_as_they_were(tmp_path):
    GOOD.to_parquet(tmp_path / "predictions.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "predictions.parquet"), GOOD)
    assert diagnosed(pd.read_parquet(tmp_path / "predictions.parquet")) == diagnosed(GOOD)
