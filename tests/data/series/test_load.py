"""What a task is given: columns, patients, splits and what is said of them."""

from pathlib import Path

import numpy as np
import pytest

from kd.base.types import UserError
from kd.config.series import SeriesOptions
from kd.data.series.load import items, load, load_inputs
from kd.data.series.read import BUILTINS
from kd.data.series.recording import Events, Recording
from tests.data.series.made import column, loaded, long, refusal, times, wave, xml

REAL = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture
def three(tmp_path):
    """A folder of three patients, each with a training and a test file."""
    folder = tmp_path / "three"
    folder.mkdir()
    when = times(1800)
    for seed, item in enumerate(("570", "584", "591")):
        values = wave(1800, seed)
        for name, part in (("training", slice(0, 1300)), ("testing", slice(1300, 1800))):
            path = folder / f"{item}-ws-{name}.csv"
            long(path, {item: (when[part], values[part])})
    return folder


def test_every_column_is_there_with_its_type_and_meaning(three):
    splits = loaded(three, patients="570")
    row = splits.test[0]
    assert row["example_id"] == "570/2027-05-18T13:15:00"
    assert row["group"] == "570 2027-05-18"
    assert row["patient"] == "570"
    assert np.datetime64(row["time"], "s") == np.datetime64("2027-05-18T13:15:00")
    assert row["step"] == 300
    values = wave(1800, 0)
    assert row["history"] == list(values[1300:1312])
    assert row["target"] == list(values[1312:1318])
    assert (row["ahead"], row["filled"]) == ([], 0)
    kinds = {name: str(feature) for name, feature in splits.train.features.items()}
    assert "float32" in kinds["history"]
    assert "float32" in kinds["target"]
    assert "float32" in kinds["ahead"]


def test_ids_are_unique_over_all_splits_and_rows_are_in_the_order_of_patients_and_time(three):
    splits = loaded(three)
    names = [name for rows in (splits.train, splits.validation, splits.test) for name in rows["example_id"][:]]
    assert len(set(names)) == len(names)
    for rows in (splits.train, splits.validation, splits.test):
        assert list(dict.fromkeys(rows["patient"][:])) == ["570", "584", "591"]
        assert rows["example_id"][:] == sorted(rows["example_id"][:])


def test_a_group_is_one_day_of_one_patient(three):
    rows = loaded(three).test
    assert len(set(rows["group"][:])) == 3 * 3
    days = column(rows, "time").astype("M8[s]").astype("M8[D]")
    assert rows["group"][:] == [f"{item} {day}" for item, day in zip(rows["patient"][:], days, strict=True)]


def test_the_stride_is_of_training_windows_alone(three):
    one, other = loaded(three), loaded(three, window_stride=5)
    assert len(one.train) / 5 == pytest.approx(len(other.train), rel=0.01)
    assert one.test[:] == other.test[:]
    assert one.validation[:] == other.validation[:]


def test_notes_say_windows_and_filled_values_of_each_split_once_for_all_patients(three):
    notes = loaded(three).notes
    assert [note.partition(":")[0] for note in notes] == ["Train", "Validation", "Test"]
    assert "windows of 3 patients; 0.0% of the windows were dropped at gaps, and 0 values" in notes[0]
    assert "by the value before" in notes[2]


def test_the_one_that_is_left_out_is_in_the_test_alone_and_alone_in_it(three):
    splits = loaded(three, models="left-out", patients="584")
    assert set(splits.train["patient"][:]) == set(splits.validation["patient"][:]) == {"570", "591"}
    assert splits.test[:] == loaded(three, patients="584").test[:]
    assert set(load_inputs(str(three), SeriesOptions(models="left-out", patients="584"))["patient"][:]) == {
        "570",
        "591",
    }


def test_leaving_out_is_of_one_patient_of_several(three):
    assert "leaves out one patient of several" in refusal(three, models="left-out")
    assert items(str(three), SeriesOptions(), {}) == ("570", "584", "591")
    assert items(str(three), SeriesOptions(patients="591,570"), {}) == ("570", "591")


def test_a_patient_without_a_test_file_is_refused_beside_those_who_have_one(three):
    (three / "584-ws-testing.csv").unlink()
    assert "patient 584 has no test file, unlike 570, 591: give one, or leave the patient out" in refusal(three)
    assert len(loaded(three, patients="570,591").test)


def test_a_patient_with_a_test_file_alone_is_refused(three):
    (three / "584-ws-training.csv").unlink()
    assert "patient 584 has only a test file" in refusal(three)


def test_a_test_file_that_begins_before_the_training_ends_is_refused(three):
    text = (three / "584-ws-training.csv").read_text().splitlines()
    (three / "584-ws-testing.csv").write_text("\n".join([text[0], *text[-400:]]))
    assert "584-ws-testing.csv (test) begins before" in refusal(three)


def test_a_file_that_gives_a_time_of_another_again_is_refused(three):
    (three / "584.csv").write_text((three / "584-ws-training.csv").read_text())
    (three / "more-ws-training.csv").write_text((three / "584-ws-training.csv").read_text())
    assert "give each time once" in refusal(three)


def test_xml_with_all_covariates_gives_finite_histories(tmp_path):
    sections = (
        '<basal><event ts="14-05-2027 00:00:00" value="1.2"/></basal><meal><event ts="14-05-2027 10:02:00" carbs="40"/>'
        '</meal><bolus><event ts_begin="14-05-2027 10:00:00" ts_end="14-05-2027 11:00:00" dose="6"/></bolus>'
    )
    path = xml(tmp_path / "570.xml", "570", times(1000), wave(1000), sections)
    options = SeriesOptions(covariates="carbs,bolus,basal", known_ahead="basal,carbs")
    splits = load(str(path), options, {})
    histories = column(splits.train, "history").reshape(-1, 12, 4)
    assert np.isfinite(histories).all()
    ends = list(splits.train["time"][:])
    row = ends.index(int(np.datetime64("2027-05-14T10:25:00").astype(int)))
    assert list(histories[row, :, 1]) == [0] * 7 + [40] + [0] * 4
    assert list(histories[row, :, 2]) == pytest.approx([0] * 7 + [0.5] * 5)
    assert list(histories[row, :, 3]) == pytest.approx([0.1] * 12)
    assert column(splits.train, "ahead").shape == (len(splits.train), 12)
    assert splits.train["ahead"][row] == pytest.approx([0.1, 0] * 6)


def test_the_basal_rate_of_the_training_file_holds_into_the_test_file(tmp_path):
    when, values = times(1500), wave(1500)
    basal = '<basal><event ts="14-05-2027 00:00:00" value="1.2"/></basal>'
    xml(tmp_path / "570-ws-training.xml", "570", when[:1000], values[:1000], basal)
    xml(tmp_path / "570-ws-testing.xml", "570", when[1000:], values[1000:])
    assert loaded(tmp_path, covariates="basal").test[0]["history"][1] == pytest.approx(0.1)


def test_what_the_patients_file_says_is_beside_each_window(three, tmp_path):
    file = tmp_path / "who.csv"
    file.write_text("id,age,pump\n570,40,a\n584,,b\n591,20,a\n")
    splits = load(str(three), SeriesOptions(patients_file=str(file)), {}, ("age", "patient"))
    seen = set(zip(*(splits.test[name][:] for name in ("patient", "age", "pump")), strict=True))
    assert seen == {("570", "40", "a"), ("584", "", "b"), ("591", "20", "a")}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,age\n570,4\n", "has no column 'id', only name, age"),
        ("id,age\n570,4\n584,4\n", "has no '591', only 570, 584"),
        ("id,age\n570,4\n570,5\n", "line 3: has '570' a second time"),
        ("id,target\n570,4\n", "the column 'target' has a name of our own"),
        ("", "is empty"),
    ],
)
def test_a_patients_file_that_does_not_fit_is_refused(three, tmp_path, text, said):
    (tmp_path / "who.csv").write_text(text)
    assert said in refusal(three, patients_file=str(tmp_path / "who.csv"))


def test_a_column_that_is_nowhere_is_refused(three, tmp_path):
    (tmp_path / "who.csv").write_text("id,age\n570,1\n584,2\n591,3\n")
    with pytest.raises(UserError, match=r"no column 'aeg' .*did you mean age\?"):
        load(str(three), SeriesOptions(patients_file=str(tmp_path / "who.csv")), {}, ("aeg",))
    assert "is no file of CSV" in refusal(three, patients_file="none.csv")


def test_windows_without_truth_are_of_the_training_time_of_all_patients(three):
    rows = load_inputs(str(three), SeriesOptions(patients="570", train_days=1.0))
    splits = loaded(three)
    assert "target" not in rows.column_names
    assert set(rows["patient"][:]) == {"570", "584", "591"}
    assert set(rows["example_id"][:]) == set(splits.train["example_id"][:])
    assert not set(rows["example_id"][:]) & {*splits.validation["example_id"][:], *splits.test["example_id"][:]}


def test_a_test_file_given_by_option_is_the_test(tmp_path):
    when, values = times(1500), wave(1500)
    long(tmp_path / "a.csv", {"a": (when[:1000], values[:1000])})
    long(tmp_path / "later.csv", {"a": (when[1000:], values[1000:])})
    splits = loaded(tmp_path / "a.csv", {"test": "later.csv"})
    assert len(splits.test) == 500 - 17
    splits = loaded(tmp_path / "a.csv", {"validation": "later.csv"})
    assert len(splits.validation) == 500 - 17


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"test": "none.csv"}, "--test_file=none.csv: no file"),
        ({"train": "a.csv"}, "is a file already"),
        ({"test": "a.csv"}, "these are the rows of --dataset"),
        ({"test": "b.csv", "validation": "b.csv"}, "is the test file too"),
    ],
)
def test_files_of_splits_that_cannot_be_are_refused(tmp_path, files, said):
    for name in ("a", "b"):
        long(tmp_path / f"{name}.csv", {"a": (times(1000), wave(1000))})
    assert said in refusal(tmp_path / "a.csv", files)


def test_windows_without_truth_may_be_of_people_whom_the_patients_file_does_not_know(three, tmp_path):
    (tmp_path / "who.csv").write_text("id,age\n570,40\n")
    rows = load_inputs(str(three), SeriesOptions(patients_file=str(tmp_path / "who.csv"), patients="570"))
    assert set(zip(rows["patient"][:], rows["age"][:], strict=True)) == {("570", "40"), ("584", ""), ("591", "")}


def test_a_builtin_is_cut_as_files_are_and_has_its_own_splits(monkeypatch):
    when, values = times(1500), wave(1500)
    carbs = Events(when[::100], when[::100], np.full(15, 30.0), "amount")
    parts = (("train", slice(0, 1000)), ("test", slice(1000, 1500)))
    made = [
        Recording("p1", split, "builtin:made", when[part], values[part], "mg/dL", {"carbs": carbs})
        for split, part in parts
    ]
    monkeypatch.setitem(BUILTINS, "made", lambda options: made)
    plain, beside = loaded("builtin:made"), loaded("builtin:made", covariates="carbs")
    assert beside.test["example_id"][:] == plain.test["example_id"][:]
    assert beside.test["history"][0][1] == 30
    assert "has no 'meal', only carbs" in refusal("builtin:made", covariates="meal")
    assert "has its own splits" in refusal("builtin:made", {"test": "a.csv"})


@pytest.mark.realdata
@pytest.mark.parametrize("kind", ["csv", "xml"])
def test_simulated_people_give_the_same_windows_from_both_shapes(kind):
    if not (REAL / "glucose").is_dir():
        pytest.skip(f"{REAL / 'glucose'} is not there")
    splits = loaded(REAL / "glucose" / kind)
    assert [len(rows) for rows in (splits.train, splits.validation, splits.test)] == [13076, 1807, 3240]
    assert set(splits.test["patient"][:]) == {"9001", "9002", "9003", "9004"}


@pytest.mark.realdata
def test_a_wide_table_of_hours_gives_windows_of_its_columns():
    if not (REAL / "ett").is_dir():
        pytest.skip(f"{REAL / 'ett'} is not there")
    options = {"time_column": "date", "target_column": "OT", "units": "none", "covariates": "HUFL,HULL"}
    splits = loaded(REAL / "ett" / "ETTh1.csv", history=24, max_gap_minutes=120.0, **options)
    assert column(splits.train, "history").shape[1] == 72
    assert splits.train[0]["step"] == 3600
    assert len(splits.train) == round(17420 * 0.7) - 29


def test_simulated_people_are_called_so_whichever_of_them_are_chosen():
    for patients in ("sim-01", "sim-02", "sim-02,sim-03"):
        notes = loaded("builtin:glucose-sim", patients=patients, window_stride=50).notes
        assert sum("is simulated" in note for note in notes) == 1


def test_a_column_to_slice_by_that_is_not_there_is_refused_by_the_option(three):
    with pytest.raises(UserError, match=r"^slice_columns: there is no column 'age'"):
        load(str(three), SeriesOptions(models="pooled"), {}, ("age",))
