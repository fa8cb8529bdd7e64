"""The grid: what is not regular, not in order or of another unit is refused, and nothing moves unseen."""

import numpy as np
import pytest

from kd.base.types import UserError
from kd.data.series.grid import common_step, gridded
from kd.data.series.ordered import ordered
from kd.data.series.recording import Recording
from kd.data.series.units import in_mgdl
from tests.data.series.made import START, long, refusal, times, wave


def recording(when, values, **fields):
    return Recording("570", "", "a.csv", when, np.asarray(values, float), **fields)


def where(place):
    return f"a.csv: line {place + 2}"


def grid(when, values, minutes=0.0):
    one = recording(when, values)
    return gridded(one, common_step([one], minutes), ())


def seconds(*values):
    return START + np.array(values).astype("timedelta64[s]")


def test_a_missing_reading_is_nan_and_the_next_one_stays_at_its_time():
    found = grid(seconds(0, 300, 900, 1200), [1, 2, 4, 5])
    assert found.step == 300
    np.testing.assert_array_equal(found.values, [1, 2, np.nan, 4, 5])


def test_a_clock_that_is_not_exact_neither_moves_readings_nor_makes_gaps():
    rng = np.random.default_rng(0)
    base = np.arange(500) * 300
    found = grid(seconds(*(base + rng.integers(-70, 70, 500))), np.arange(500))
    assert found.step == 300
    np.testing.assert_array_equal(found.values, np.arange(500))


def test_of_two_readings_at_one_point_the_nearer_counts_and_it_is_said():
    found = grid(seconds(0, 300, 420, 600, 900, 1200, 1500, 1800), [1, 2, 9, 3, 4, 5, 6, 7])
    np.testing.assert_array_equal(found.values, [1, 2, 3, 4, 5, 6, 7])
    assert "the nearer is used (1 times)" in found.notes[0]


@pytest.mark.parametrize("minutes", [1, 15, 60])
def test_a_step_that_is_not_the_datas_is_refused_with_the_datas(minutes):
    with pytest.raises(UserError, match=f"patient 570 has a value every 5 min, but step_minutes={minutes} says"):
        common_step([recording(times(9), wave(9))], minutes)


def test_two_patients_of_two_rates_are_refused_by_name():
    other = Recording("584", "", "b.csv", times(9, 15), wave(9))
    with pytest.raises(UserError, match=r"b.csv: patient 584 has a value every 15 min, but a.csv: patient 570 one"):
        common_step([recording(times(9), wave(9)), other], 0)


def test_times_without_a_common_step_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(UserError, match="has no regular times"):
        grid(seconds(*np.cumsum(rng.integers(60, 3600, 400))), wave(400))


def test_one_reading_is_no_series_and_a_step_of_half_a_second_no_step():
    with pytest.raises(UserError, match="has only 1 reading"):
        common_step([recording(times(1), [1])], 0)
    with pytest.raises(UserError, match="no whole number of seconds"):
        common_step([recording(times(9), wave(9))], 0.001)


def test_a_value_that_never_changes_is_refused():
    with pytest.raises(UserError, match="patient 570 has nothing but the value 100"):
        grid(times(50), [100.0] * 50)


def test_one_wrong_year_does_not_take_all_memory():
    when = np.append(times(500), np.datetime64("2127-01-01T00:00:00"))
    with pytest.raises(UserError, match="one of these times must be wrong"):
        grid(when, wave(501))


def test_readings_out_of_order_are_refused_with_the_line_and_not_sorted():
    when = times(50)
    when[[20, 21]] = when[[21, 20]]
    with pytest.raises(UserError, match=r"a.csv: line 23: its time .* is before .*: sort the rows by time"):
        ordered(when, wave(50), where)


def test_a_format_that_writes_the_newest_first_is_sorted_and_it_is_said():
    when, values, notes = ordered(times(9)[::-1], np.arange(9.0), where, any_order=True)
    assert list(when) == list(times(9))
    assert list(values) == list(range(9))[::-1]
    assert notes == ["readings were sorted by time"]


def test_a_time_with_two_values_is_refused_with_the_line_and_an_identical_reading_is_dropped():
    when = np.repeat(times(9), 2)
    _, values, notes = ordered(when, np.repeat(np.arange(9.0), 2), where)
    assert list(values) == list(range(9))
    assert "(9)" in notes[0]
    with pytest.raises(UserError, match=r"a.csv: line 4: the time .* occurs twice, with 2 and 7: keep one"):
        ordered(times(3)[[0, 1, 1, 2]], np.array([1.0, 2, 7, 3]), where)


@pytest.mark.parametrize("minutes", [1, 5, 15])
def test_an_hour_that_a_clock_repeats_is_no_duplicate_and_no_disorder(minutes):
    when = times(60 * 12 // minutes, minutes)
    hour = 60 // minutes
    when = np.concatenate([when[: 3 * hour], when[2 * hour :]])
    with pytest.raises(UserError, match=r"clock is put back by an hour or two devices wrote: write times in UTC"):
        ordered(when, wave(len(when)), where)
    with pytest.raises(UserError, match=r"clock is put back by an hour or two devices wrote: write times in UTC"):
        ordered(when, wave(len(when)), where, any_order=True)


def test_a_repeated_hour_is_seen_where_the_seconds_differ_and_the_format_is_sorted():
    when = times(200)
    when = np.concatenate([when[:36], when[24:] + np.timedelta64(40, "s")])
    when, values, _ = ordered(when, wave(len(when)), where, any_order=True)
    with pytest.raises(UserError, match="clock is put back by an hour"):
        grid(when, values)


def test_an_hour_that_a_clock_leaves_out_is_a_gap():
    found = grid(np.delete(times(100), np.arange(24, 36)), wave(88))
    assert np.isnan(found.values[24:36]).all()
    assert np.isnan(found.values).sum() == 12


def test_mmol_becomes_mgdl_by_the_published_factor():
    one = in_mgdl(recording(times(3), [5, 6, 7]), "mmol/L")
    assert list(one.values) == pytest.approx([90.08, 108.096, 126.112])
    assert list(in_mgdl(recording(times(3), [5, 6, 7]), "none").values) == [5, 6, 7]


def test_the_unit_of_a_format_goes_before_the_option():
    assert in_mgdl(recording(times(3), [5, 6, 7], unit="mmol/L"), "mg/dL").values[0] == pytest.approx(90.08)
    assert in_mgdl(recording(times(3), [100, 110, 120], unit="mg/dL"), "mmol/L").values[0] == 100


@pytest.mark.parametrize(
    ("values", "units", "said"),
    [
        ([7, 8, 9], "mg/dL", "patient 570 has a median of 8, which is no glucose in mg/dL: give units=mmol/L"),
        ([120, 130, 140], "mmol/L", "patient 570 has a median of 130, which is no glucose in mmol/L: give units=mg/dL"),
        ([100, 120, 0], "mg/dL", "0 mg/dL at 2027-05-14T00:10:00 is no glucose"),
        ([100, 120, 5000], "mg/dL", "5000 mg/dL at"),
        (
            [7.1, 7.2, 6.9, 7, 130, 125, 135, 140, 128],
            "mg/dL",
            "mixes units: 4 values around 7.05 as in mmol/L, 5",
        ),
        ([7.1, 7.2, 6.9, 7, 7.3, 130, 125, 135], "mmol/L", "mixes units"),
    ],
)
def test_values_that_are_no_glucose_in_their_unit_are_refused(values, units, said):
    with pytest.raises(UserError) as caught:
        in_mgdl(recording(times(len(values)), values), units)
    assert said in str(caught.value)


def test_a_low_that_is_true_is_no_other_unit():
    values = [25, 28, 29, 140, 150, 160, 170]
    assert list(in_mgdl(recording(times(7), values), "mg/dL").values) == values


def test_a_patient_of_another_unit_beside_others_is_named(tmp_path):
    data = {"570": (times(600), wave(600)), "584": (times(600), wave(600, 1) / 18)}
    assert "patient 584 has a median of" in refusal(long(tmp_path / "a.csv", data))
