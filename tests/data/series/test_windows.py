"""Windows: none crosses a long gap, is trained on and tested on, or shows a model what comes later."""

import numpy as np
import pytest

from kd.config.series import SeriesOptions
from kd.data.series.grid import Grid
from kd.data.series.parts import Stretch, parts
from kd.data.series.scenarios import CHANGES, Severity, inputs
from kd.data.series.windows import Shape, cut
from tests.data.series.made import column, loaded, long, refusal, times, wave

SHAPE = Shape(history=6, horizon=3, longest=2)


def grid(values, covariates=None, item="570", split=""):
    values = np.asarray(values, float)
    beside = np.empty((len(values), 0)) if covariates is None else covariates
    return Grid(item, split, "a.csv", 0, 300, values, beside)


def gappy(count, seed):
    """Values with gaps of every length."""
    rng = np.random.default_rng(seed)
    values = rng.normal(100, 20, count)
    for start in rng.integers(0, count, count // 8):
        values[start : start + rng.integers(1, 5)] = np.nan
    return values


def cuts(values, future, stride=1, shape=SHAPE, targets=True, shown=None, covariates=None):
    one = grid(values, covariates)
    stretch = Stretch(one, 0, len(one.values))
    return cut(stretch, one.values if shown is None else shown, shape, stride, future, targets)


def plainly(values, future, stride, shape=SHAPE):
    """The same windows by a loop over them: (start, history, target, filled)."""
    found = []
    for start in range(0, len(values) - shape.window + 1, stride):
        history = values[start : start + shape.history]
        target = values[start + shape.history : start + shape.window]
        there = np.flatnonzero(~np.isnan(history))
        if np.isnan(target).any() or np.isnan(history[0]):
            continue
        edges = np.append(there, len(history))
        if (np.diff(edges) - 1 > shape.longest).any():
            continue
        filled = history.copy()
        for place in np.flatnonzero(np.isnan(history)):
            before, after = there[there < place][-1], there[there > place][:1]
            filled[place] = history[before]
            if future and len(after):
                share = (place - before) / (after[0] - before)
                filled[place] += share * (history[after[0]] - history[before])
        found.append((start, filled, target, int(np.isnan(history).sum())))
    return found


@pytest.mark.parametrize("future", [True, False])
@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("seed", range(8))
def test_windows_by_numpy_are_those_of_a_plain_loop(seed, stride, future):
    values = gappy(300, seed)
    table, wanted = cuts(values, future, stride).table, plainly(values, future, stride)
    assert len(wanted) > 10
    assert [(time - 300 * 5) // 300 for time in table["time"].to_pylist()] == [start for start, *_ in wanted]
    np.testing.assert_allclose(table["history"].to_pylist(), [history for _, history, *_ in wanted], rtol=1e-6)
    np.testing.assert_allclose(table["target"].to_pylist(), [target for _, _, target, _ in wanted], rtol=1e-6)
    assert table["filled"].to_pylist() == [filled for *_, filled in wanted]


def test_candidates_and_filled_points_are_counted_once_each():
    values = np.arange(20.0)
    values[[4, 12]] = np.nan
    one = cuts(values, future=False)
    assert one.candidates == 12
    assert one.filled == len({point for start, *_ in plainly(values, False, 1) for point in (4, 12)
                              if start <= point < start + 6})  # fmt: skip


def test_a_gap_in_training_is_filled_on_a_line_and_in_a_test_by_the_value_before():
    values = np.array([10, np.nan, np.nan, 40, 50, 60, 70, 80, 90.0])
    assert cuts(values, future=True).table["history"].to_pylist() == [[10, 20, 30, 40, 50, 60]]
    assert cuts(values, future=False).table["history"].to_pylist() == [[10, 10, 10, 40, 50, 60]]


def test_a_gap_at_the_end_of_a_training_history_is_not_filled_from_its_target():
    values = np.array([10, 20, 30, 40, 50, np.nan, 70, 80, 90.0])
    assert cuts(values, future=True).table["history"].to_pylist() == [[10, 20, 30, 40, 50, 50]]


def test_no_value_after_a_history_changes_it():
    values = gappy(200, 1)
    for future in (True, False):
        for cutoff in (60, 120):
            other = values.copy()
            other[cutoff:] += 1000
            whole, changed = (cuts(each, future).table for each in (values, other))
            ended = np.array(whole["time"]) < cutoff * 300
            assert ended.sum() > 10
            np.testing.assert_array_equal(whole["history"].to_numpy()[ended].tolist(),
                                          changed["history"].to_numpy()[ended].tolist())  # fmt: skip


@pytest.mark.parametrize("scenario", CHANGES)
def test_no_later_value_changes_what_a_scenario_shows(scenario):
    values = gappy(200, 2)
    other = np.where(np.arange(200) >= 90, values + 500, values)
    shown = [inputs(grid(each), scenario, Severity(10, 0.2, 2, 0)) for each in (values, other)]
    np.testing.assert_array_equal(shown[0][:90], shown[1][:90])


def test_windows_without_truth_are_kept_where_targets_are_not_asked_for():
    values = np.arange(12.0)
    values[7:] = np.nan
    assert not cuts(values, future=False).table.num_rows
    table = cuts(values, future=False, targets=False).table
    assert "target" not in table.column_names
    assert table["history"].to_pylist() == [
        [0, 1, 2, 3, 4, 5],
        [1, 2, 3, 4, 5, 6],
        [2, 3, 4, 5, 6, 6],
        [3, 4, 5, 6, 6, 6],
    ]


def test_covariates_are_beside_the_value_point_by_point_and_those_known_ahead_over_the_horizon():
    values, beside = np.arange(9.0), np.stack([np.arange(9.0) * 10, np.arange(9.0) * 100], axis=1)
    table = cuts(values, False, shape=Shape(6, 3, 2, (1,)), covariates=beside).table
    assert table["history"].to_pylist()[0][:6] == [0, 0, 0, 1, 10, 100]
    assert table["ahead"].to_pylist() == [[600, 700, 800]]


def test_a_window_whose_covariate_is_not_known_yet_is_dropped_and_not_shown_nan():
    values, beside = np.arange(12.0), np.zeros((12, 1))
    beside[1] = np.nan
    table = cuts(values, False, covariates=beside).table
    assert [time // 300 for time in table["time"].to_pylist()] == [7, 8]


def spans(rows, options):
    last = column(rows, "time")
    return last - (options.history - 1) * 300, last + options.horizon * 300


@pytest.mark.parametrize(
    "options", [{}, {"history": 24, "horizon": 12}, {"time_split": "0.4,0.3,0.3", "window_stride": 5}]
)
@pytest.mark.parametrize("tested", [True, False])
def test_no_window_of_validation_or_test_shares_a_moment_with_a_training_window(tmp_path, options, tested):
    when, values = times(2000), wave(2000)
    if tested:
        long(tmp_path / "570-ws-training.csv", {"570": (when[:1500], values[:1500])})
        long(tmp_path / "570-ws-testing.csv", {"570": (when[1500:], values[1500:])})
    path = tmp_path if tested else long(tmp_path / "a.csv", {"570": (when, values)})
    splits, given = loaded(path, **options), SeriesOptions(**options)
    ends = [spans(rows, given)[1].max() for rows in (splits.train, splits.validation)]
    begins = [spans(rows, given)[0].min() for rows in (splits.validation, splits.test)]
    window = (given.history + given.horizon) * 300
    assert begins[0] - ends[0] >= window
    assert begins[1] - ends[1] >= (0 if tested else window)


def test_parts_have_the_shares_that_are_asked_for():
    found = parts([grid(np.zeros(1000))], (0.7, 0.1, 0.2), 18)
    assert [(found[s].first, found[s].last) for s in ("train", "validation", "test")] == [
        (0, 700), (718, 800), (818, 1000)]  # fmt: skip
    later = Grid("570", "test", "b.csv", 800 * 300, 300, np.zeros(90), np.empty((90, 0)))
    found = parts([grid(np.zeros(800), split="train"), later], (0.7, 0.1, 0.2), 18)
    assert [(found[s].first, found[s].last) for s in ("train", "validation", "test")] == [
        (0, 700), (718, 800), (0, 90)]  # fmt: skip


def test_fewer_days_are_the_last_of_the_training_time_and_the_test_stays(tmp_path):
    path = long(tmp_path / "a.csv", {"a": (times(4000), wave(4000))})
    whole, few = loaded(path), loaded(path, train_days=1.0)
    assert column(few.train, "time").max() == column(whole.train, "time").max()
    assert spans(few.train, SeriesOptions())[0].min() == spans(whole.train, SeriesOptions())[1].max() - 287 * 300
    assert few.test[:] == whole.test[:]
    assert few.validation[:] == whole.validation[:]


@pytest.mark.parametrize("scenario", ["noisy", "denoised", "missing", "missing-blocks"])
def test_a_scenario_changes_inputs_and_no_target(tmp_path, scenario):
    path = long(tmp_path / "a.csv", {"a": (times(3000), wave(3000))})
    clean, changed = loaded(path), loaded(path, test_scenario=scenario)
    truth, same = (dict(zip(s.test["example_id"][:], s.test["target"][:], strict=True)) for s in (clean, changed))
    assert same == {name: truth[name] for name in same}
    assert changed.test["history"][:] != clean.test["history"][:]
    assert changed.train[:] == clean.train[:]


def test_noise_is_of_the_seed_and_the_patient_whatever_else_is_chosen(tmp_path):
    data = {"a": (times(3000), wave(3000)), "b": (times(3000), wave(3000))}
    path = long(tmp_path / "a.csv", data)

    def shown(**options):
        rows = loaded(path, test_scenario="noisy", **options).test
        return {name: history[-1] for name, history in zip(rows["example_id"][:], rows["history"][:], strict=True)}

    base = shown()
    for other in (shown(patients="b"), shown(history=24), shown(time_split="0.6,0.1,0.3", train_scenario="missing")):
        both = base.keys() & other.keys()
        assert len(both) > 400
        assert all(base[name] == other[name] for name in both)
    assert base != shown(scenario_seed=1)
    assert base["a/2027-05-24T00:00:00"] != base["b/2027-05-24T00:00:00"]


def test_noise_has_the_deviation_that_is_asked_for_in_the_unit_of_the_values(tmp_path):
    path = long(tmp_path / "a.csv", {"a": (times(6000), wave(6000) / 18.016)})
    given = {"units": "mmol/L", "noise_sd": 0.5}
    noisy, clean = (column(loaded(path, train_scenario=s, **given).train, "history")[:, -1] for s in ("noisy", "clean"))
    assert (noisy - clean).std() == pytest.approx(0.5 * 18.016, rel=0.05)


@pytest.mark.parametrize("scenario", ["missing", "missing-blocks"])
def test_the_share_of_values_that_is_asked_for_is_removed(scenario):
    for share in (0.1, 0.4):
        shown = inputs(grid(np.ones(20_000)), scenario, Severity(10, share, 6, 0))
        assert np.isnan(shown).mean() == pytest.approx(share, abs=0.02)


def test_removed_blocks_are_no_longer_than_what_is_filled():
    shown = inputs(grid(np.ones(5000)), "missing-blocks", Severity(10, 0.3, 6, 0))
    edges = np.flatnonzero(~np.isnan(shown))
    lengths = np.diff(edges) - 1
    assert lengths.max() == 6


def test_a_series_without_room_is_refused_by_patient(tmp_path):
    data = {"570": (times(600), wave(600)), "584": (times(15), wave(15))}
    assert "patient 584 has 15 steps, fewer than one window of 12 + 6" in refusal(long(tmp_path / "a.csv", data))
    path = long(tmp_path / "b.csv", {"570": (times(100), wave(100))})
    assert "patient 570 has no window in validation: its part of the time is 0 steps" in refusal(path)


def test_a_series_of_gaps_alone_is_refused_by_patient(tmp_path):
    when = times(4000)
    when = when[np.arange(4000) % 30 < 10]
    said = refusal(long(tmp_path / "a.csv", {"570": (when, wave(len(when)))}))
    assert "patient 570 has no window in train: all" in said
    assert "max_gap_minutes=30" in said


def test_a_training_window_crosses_a_gap_of_30_minutes_and_none_of_35(tmp_path):
    def windows(missing):
        values = wave(400)
        keep = np.ones(400, bool)
        keep[100 : 100 + missing] = False
        path = long(tmp_path / "a.csv", {"a": (times(400)[keep], values[keep])})
        return loaded(path, history=24, time_split="0.5,0.25,0.25").train

    assert max(windows(6)["filled"][:]) == 6
    assert max(windows(7)["filled"][:]) == 0


@pytest.mark.parametrize("scenario", ["noisy", "denoised", "missing", "missing-blocks"])
def test_a_scenario_of_the_test_changes_no_window_and_no_target_so_that_models_can_be_compared(scenario, tmp_path):
    path = long(tmp_path / "a.csv", {"570": (times(600), wave(600))})
    plain, other = loaded(path), loaded(path, test_scenario=scenario, missing_share=0.5)
    for split in ("validation", "test"):
        ours, theirs = getattr(other, split), getattr(plain, split)
        assert ours["example_id"][:] == theirs["example_id"][:]
        assert ours["target"][:] == theirs["target"][:]
        assert ours["history"][:] != theirs["history"][:]
    assert other.train["history"][:] == plain.train["history"][:]
