"""Rows of forecasting: what is scored together is of one unit, who is left out is left out of everything."""

import numpy as np
import pytest

from kd.base.types import UserError
from kd.config import RowOptions
from kd.config.series import MG_PER_MMOL
from kd.run.data import load_rows, model_name, parts_of, short_name
from kd.tasks.forecasting.options import ForecastingOptions
from tests.data.series.made import long, times, wave
from tests.tasks import series


def options(path, **more):
    return RowOptions(task="forecasting", dataset=str(path), task_options=ForecastingOptions(**more))


@pytest.fixture
def three(tmp_path):
    """A table of three patients, two days each."""
    return long(tmp_path / "three.csv", {item: (times(600), wave(600, seed)) for seed, item in enumerate("abc")})


def test_errors_in_mmol_are_never_in_one_table_with_errors_in_mg_where_they_would_win_by_their_unit():
    """A builtin says its own unit, so that its values are the same whatever is reported."""
    rows = [
        load_rows(options("builtin:glucose-sim", patients="sim-01", window_stride=8, units=unit))
        for unit in ("mg/dL", "mmol/L")
    ]
    assert rows[0].splits.test["target"][:] == rows[1].splits.test["target"][:]
    assert rows[0].test_digest != rows[1].test_digest
    assert rows[0].validation_digest != rows[1].validation_digest
    found = [dict(one.task.baselines(one.splits))["persistence"]["test"] for one in rows]
    in_mg, in_mmol = (one.task.quality(table)["rmse"] for one, table in zip(rows, found, strict=True))
    assert in_mg == pytest.approx(in_mmol * MG_PER_MMOL)


def test_a_student_learns_nothing_from_the_one_left_out_by_way_of_its_transfer_rows(three):
    config = options(three, patients="b", models="left-out")
    rows = load_rows(config)
    assert set(rows.task.read_inputs(config)["patient"][:]) == {"a", "c"}
    others = options(three, patients="b")
    assert set(load_rows(others).task.read_inputs(others)["patient"][:]) == {"a", "b", "c"}


@pytest.mark.parametrize("name", ["all", "Doe, Jane"])
def test_a_patient_who_cannot_be_named_never_gets_the_model_of_all(tmp_path, name):
    path = tmp_path / "odd.csv"
    lines = ["item_id,timestamp,target"]
    for seed, item in enumerate((name, "b")):
        lines += [f'"{item}",{t},{v:g}' for t, v in zip(times(300), wave(300, seed), strict=True)]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=rf"^models=each: a patient called '{name}' cannot be named by itself: rename"):
        parts_of(options(path))
    assert len(parts_of(options(path, models="pooled"))) == 1


@pytest.mark.parametrize("name", ["last", "horizon", "range", "squared_error", "step:truth:1", "unit"])
def test_a_column_of_the_patients_file_never_takes_the_place_of_what_is_scored(three, tmp_path, name):
    table = tmp_path / "about" / "patients.csv"
    table.parent.mkdir()
    table.write_text(f"id,{name}\n" + "".join(f"{item},7\n" for item in "abc"))
    with pytest.raises(UserError, match=f"^patients_file=.*'{name}'.*rename it$"):
        load_rows(options(three, patients="a", patients_file=str(table)))


def test_a_model_of_a_patient_with_a_long_name_can_be_registered_after_its_training():
    config = options(f"{'d' * 300}.csv", patients="p" * 300)
    assert len(f"{model_name(config, '0' * 32)}-teacher") < 256
    assert short_name("日本") == "data"


def test_no_training_input_scale_or_baseline_weight_changes_with_what_comes_after_training(tmp_path):
    values, when = wave(900), times(900)
    poisoned = np.where(np.arange(900) < 640, values, values[::-1] + 90)  # 70 % of the time is for training
    found = []
    for name, measured in (("clean", values), ("poisoned", poisoned)):
        path = long(tmp_path / f"{name}.csv", {"a": (when, measured)})
        rows = load_rows(options(path, patients="a", train_scenario="denoised", test_scenario="denoised"))
        linear = dict(rows.task.baselines(rows.splits))["linear"]["test"]
        found.append((rows, linear["squared_error"].mean()))
    (one, error), (other, worse) = found
    assert one.train_digest == other.train_digest
    assert (one.task.center, one.task.spreads) == (other.task.center, other.task.spreads)
    assert one.test_digest != other.test_digest
    assert worse > error


@pytest.mark.parametrize(("trained", "asked"), [("carbs", "rate"), ("carbs,rate", "rate,carbs"), ("", "carbs")])
def test_a_teacher_never_reads_insulin_where_it_learned_of_meals(tmp_path, trained, asked):
    path = series.written(tmp_path / "one.csv", {"a": series.rows()})
    theirs, _ = series.forecasting(path, covariates=trained)
    ours, _ = series.forecasting(path, covariates=asked)
    theirs.make("dlinear")[0].save_pretrained(tmp_path / "teacher")
    theirs.load(tmp_path / "teacher", "teacher", finished=True)
    with pytest.raises(UserError, match=rf"trained with covariates='{trained}', and here covariates='{asked}': use a"):
        ours.load(tmp_path / "teacher", "teacher", finished=True)


def test_a_teacher_of_another_rate_is_refused_for_its_steps_would_be_other_times(tmp_path):
    quick = series.written(tmp_path / "quick.csv", {"a": series.rows()})
    slow = series.written(tmp_path / "slow.csv", {"a": series.rows(count=1200)[::3]})
    theirs, _ = series.forecasting(slow)
    ours, _ = series.forecasting(quick)
    theirs.make("dlinear")[0].save_pretrained(tmp_path / "teacher")
    with pytest.raises(UserError, match=r"trained with step_s=900, and here step_s=300: use a"):
        ours.load(tmp_path / "teacher", "teacher", finished=True)
