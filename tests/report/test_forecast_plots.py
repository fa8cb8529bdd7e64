"""Pictures of forecasts show each arm's own values where they are, end lines at gaps, and are of the right unit."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex

from kd.analysis.slices import Details
from kd.report.plots import looks, plots
from kd.tasks.forecasting.scores import ForecastJudge
from tests.report.examples import CONTROL, PLAIN, TRIVIAL, arm, table
from tests.tasks.forecasts import noisy, persistence, two_patients

OURS = arm("distill mse", "distilled", gap=-1.0)
TABLE = replace(table(TRIVIAL, CONTROL, OURS, higher=False), pictures=ForecastJudge.pictures)
MADE = two_patients(gaps=range(60, 90))
TABLES = {TRIVIAL.key: persistence(MADE), CONTROL.key: noisy(MADE, 20), OURS.key: noisy(MADE, 5, seed=2)}
NAMES = {picture.name for picture in ForecastJudge.pictures}


def drawn(tables=TABLES, shown=TABLE):
    return {name: figure for name, figure in plots(shown, Details(predictions=tables)).items() if name in NAMES}


def axes_of(name, tables=TABLES):
    return drawn(tables)[name].axes[0]


def line(axes, name):
    return next(one for one in axes.lines if one.get_label() == name)


def test_all_are_drawn_where_there_are_predictions_and_none_without():
    assert set(drawn()) == NAMES
    assert drawn({}) == {}
    assert not NAMES & set(plots(PLAIN, Details(predictions=TABLES)))


@pytest.mark.parametrize("name", ["forecasts", "error_by_step"])
def test_every_arm_has_the_colour_it_has_in_all_pictures(name):
    axes = axes_of(name)
    for one in (TRIVIAL, CONTROL, OURS):
        assert to_hex(line(axes, one.label).get_color()) == looks(TABLE)[one.key].colour.lower()


def test_lines_end_at_a_gap_instead_of_bridging_it():
    for name in ("measured", OURS.label):
        hours, values = line(axes_of("forecasts"), name).get_data()
        (gap,) = np.flatnonzero(np.isnan(values))
        assert hours[gap + 1] - hours[gap - 1] == pytest.approx(31 / 12)
        whole = np.delete(hours, gap)
        assert np.max(np.delete(np.diff(whole), gap - 1)) == pytest.approx(1 / 12)


def test_a_forecast_is_drawn_at_the_time_it_is_for_so_that_a_perfect_one_lies_on_the_truth():
    tables = {OURS.key: noisy(MADE, 0)}
    axes = axes_of("forecasts", tables)
    for one, other in zip(line(axes, "measured").get_data(), line(axes, OURS.label).get_data(), strict=True):
        np.testing.assert_allclose(one, other)
    assert line(axes, "measured").get_xdata()[0] == 0.5
    assert line(axes, "measured").get_xdata()[-1] <= 48.5


def test_errors_by_step_are_those_that_are_logged():
    minutes, errors = line(axes_of("error_by_step"), CONTROL.label).get_data()
    logged = ForecastJudge.diagnostics(None, TABLES[CONTROL.key])
    assert minutes.tolist() == [5, 10, 15, 20, 25, 30]
    assert errors.tolist() == pytest.approx([logged[f"forecast/rmse_step_{k}"] for k in range(1, 7)])


def test_bars_are_each_patients_own_error_within_its_interval():
    axes = axes_of("error_by_patient")
    heights = {bars.get_label(): [bar.get_height() for bar in bars] for bars in axes.containers}
    own = TABLES[OURS.key]
    expected = [ForecastJudge.quality(own[own["patient"] == one])["rmse"] for one in ("570", "584")]
    assert [one.get_text() for one in axes.get_xticklabels()] == ["570", "584"]
    assert heights[OURS.label] == pytest.approx(expected)
    assert len(axes.lines) == 6
    for height, one in zip((height for each in heights.values() for height in each), axes.lines, strict=True):
        low, high = one.get_ydata()
        assert low < height < high


def test_a_patient_without_a_window_has_no_bar():
    tables = {key: one[one["patient"] == "584"] for key, one in TABLES.items()}
    assert [one.get_text() for one in axes_of("error_by_patient", tables).get_xticklabels()] == ["584"]


def test_a_patient_of_one_day_has_no_interval():
    tables = {key: one[one["group"].isin(["570:0", "584:0"])] for key, one in TABLES.items()}
    assert len(axes_of("error_by_patient", tables).lines) == 0


def test_the_grid_is_of_the_most_accurate_arm_in_mg_whatever_the_unit():
    axes = axes_of("error_grid")
    truth, forecast = line(axes, OURS.label).get_data()
    assert TRIVIAL.label not in [one.get_label() for one in axes.lines]
    own = dict(zip(*(TABLES[OURS.key][f"step:{what}:6"] for what in ("truth", "forecast")), strict=True))
    assert all(own[x] == y for x, y in zip(truth, forecast, strict=True))
    factor = 18.016
    small = replace(MADE, last=MADE.last / factor, truth=MADE.truth / factor, unit="mmol/L")
    truth, _ = line(axes_of("error_grid", {OURS.key: noisy(small, 0)}), OURS.label).get_data()
    assert truth == pytest.approx(line(axes_of("error_grid", {OURS.key: noisy(MADE, 0)}), OURS.label).get_xdata())


def test_what_is_not_glucose_has_no_error_grid_and_no_unit():
    found = drawn({OURS.key: noisy(replace(MADE, unit="none"))})
    assert set(found) == NAMES - {"error_grid"}
    assert found["forecasts"].axes[0].get_ylabel() == "value"


def test_points_outside_of_the_grid_are_counted_instead_of_lost_without_a_word():
    far = replace(MADE, truth=MADE.truth + 300)
    assert "outside of the picture" in axes_of("error_grid", {OURS.key: noisy(far)}).get_title(loc="left")
    assert "outside" not in axes_of("error_grid").get_title(loc="left")
