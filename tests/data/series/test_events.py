"""Covariates on the grid: amounts are kept whole, and nothing is known before it happens."""

import numpy as np
import pytest

from kd.data.series.events import joined, on_grid
from kd.data.series.recording import FOREVER, Events

POINTS = np.arange(12) * 300


def at(*seconds):
    return np.array(seconds).astype("datetime64[s]")


def events(starts, ends, amounts, kind="amount"):
    return Events(at(*starts), at(*ends), np.array(amounts, float), kind)


def test_an_amount_is_at_the_first_point_that_is_not_before_it():
    found = on_grid(events([600, 601, 899], [600, 601, 899], [10, 20, 30]), POINTS, 300)
    assert list(np.flatnonzero(found)) == [2, 3]
    assert list(found[2:4]) == [10, 50]


def test_a_spread_amount_flows_evenly_and_is_kept_whole():
    found = on_grid(events([450, 600], [1350, 1200], [9, 6]), POINTS, 300)
    assert found.sum() == pytest.approx(15)
    assert list(found[2:6]) == pytest.approx([1.5, 3 + 3, 3 + 3, 1.5])
    assert found[3:5].sum() == pytest.approx(12)


def test_a_rate_an_hour_gives_what_flowed_in_each_step_until_the_next_rate():
    found = on_grid(events([0, 900], [900, FOREVER.astype(int)], [1.2, 0], "rate"), POINTS, 300)
    assert list(found) == pytest.approx([0.1] * 4 + [0] * 8)


def test_a_rate_is_unknown_before_the_first_and_not_nought():
    found = on_grid(events([600], [FOREVER.astype(int)], [1.2], "rate"), POINTS, 300)
    assert np.isnan(found[:2]).all()
    assert list(found[2:]) == pytest.approx([0.1] * 10)


def test_a_level_holds_its_last_value_and_is_unknown_before_the_first():
    found = on_grid(events([310, 900], [310, 900], [5, 7], "level"), POINTS, 300)
    np.testing.assert_array_equal(found, [np.nan, 5, 5] + [7] * 9)


def test_the_rate_at_the_end_of_one_file_holds_in_the_next():
    one = joined(
        [events([0], [FOREVER.astype(int)], [1.2], "rate"), events([1500], [FOREVER.astype(int)], [0.6], "rate")]
    )
    found = on_grid(one, POINTS[3:], 300)
    assert list(found) == pytest.approx([0.1] * 3 + [0.05] * 6)


def test_what_two_files_of_a_patient_both_have_happened_once():
    first, second = events([0, 0, 300], [0, 0, 300], [5, 5, 7]), events([300, 600], [300, 600], [7, 9])
    assert list(on_grid(joined([first, second]), POINTS, 300)[:3]) == [10, 7, 9]


def test_nothing_that_happens_later_changes_what_was_known():
    rng = np.random.default_rng(0)
    for kind in ("amount", "rate", "level"):
        starts = np.sort(rng.integers(-900, 3300, 20))
        starts[0] = -900
        whole = events(starts, starts + rng.integers(0, 900, 20), rng.random(20), kind)
        for point in (4, 8):
            early = starts <= POINTS[point] + (150 if kind == "level" else 0)  # as far as its reading may be
            part = Events(whole.starts[early], whole.ends[early], whole.amounts[early], kind)
            known = on_grid(part, POINTS, 300)[: point + 1]
            np.testing.assert_allclose(known, on_grid(whole, POINTS, 300)[: point + 1])


def test_where_nothing_happened_it_is_nought():
    assert not on_grid(None, POINTS, 300).any()
