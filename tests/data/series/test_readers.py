"""Readers: every published shape gives the values, times and units that its file means."""

import numpy as np
import pandas as pd
import pytest

from kd.base.types import UserError
from kd.config.series import SeriesOptions
from kd.data.series.read import recordings
from tests.data.series.made import START, day_first, iso, loaded, long, refusal, times, wave, xml


def read(path, files=None, **options):
    return recordings(str(path), SeriesOptions(**options), files or {})


def only(path, **options):
    (one,) = read(path, **options)
    return one


def test_the_published_csv_has_its_patient_and_its_split_in_its_name_and_the_day_first(tmp_path):
    when = times(3, start=np.datetime64("2027-05-01T00:00:00"))
    for name in ("570-ws-training", "570-ws-testing"):
        lines = [f"{day_first(time)},{value}" for time, value in zip(when, (100, 101, 102), strict=True)]
        (tmp_path / f"{name}.csv").write_text("_ts,_value\n" + "\n".join(lines))
    found = read(tmp_path)
    assert [(one.item, one.split) for one in found] == [("570", "test"), ("570", "train")]
    assert list(found[0].values) == [100, 101, 102]
    assert list(found[0].times) == list(when)


def test_whether_the_day_is_first_is_seen_of_each_patient_by_itself(tmp_path):
    when = np.array(["2027-04-11T00:00:00", "2027-05-01T00:00:00"], "datetime64[s]")
    path = long(tmp_path / "a.csv", {"x": (when, [100, 110]), "y": (when, [100, 110])}, written=day_first)
    assert [list(one.times) for one in read(path)] == [list(when)] * 2


def test_xml_gives_glucose_in_mgdl_and_its_day_first_times(tmp_path):
    one = only(xml(tmp_path / "570-ws-training.xml", "570", times(3), [100, 101, 102]), units="mmol/L")
    assert (one.item, one.split, one.unit) == ("570", "train", "mg/dL")
    assert list(one.times) == list(times(3))


def events(path, name, sections):
    when = times(40)
    return only(xml(path / "1.xml", "1", when, wave(40), sections), covariates=name).covariates[name]


def test_a_meal_is_an_amount_at_its_time(tmp_path):
    found = events(tmp_path, "carbs", '<meal><event ts="14-05-2027 00:12:00" type="Lunch" carbs="41"/></meal>')
    assert (found.kind, list(found.amounts)) == ("amount", [41])
    assert list(found.starts) == list(found.ends) == [np.datetime64("2027-05-14T00:12:00")]


def test_a_square_bolus_keeps_the_time_that_it_is_spread_over(tmp_path):
    found = events(
        tmp_path,
        "bolus",
        '<bolus><event ts_begin="14-05-2027 00:10:00" ts_end="14-05-2027 01:10:00" type="square" dose="6"/></bolus>',
    )
    assert found.ends[0] - found.starts[0] == np.timedelta64(3600, "s")


def test_a_temporary_basal_rate_goes_before_the_basal_rate_and_zero_is_no_missing_value(tmp_path):
    found = events(
        tmp_path,
        "basal",
        '<basal><event ts="14-05-2027 00:00:00" value="1.2"/><event ts="14-05-2027 01:00:00" value="0.6"/></basal>'
        '<temp_basal><event ts_begin="14-05-2027 00:30:00" ts_end="14-05-2027 01:30:00" value="0"/></temp_basal>',
    )
    assert found.kind == "rate"
    minutes = (found.starts - START).astype(int) / 60
    assert dict(zip(minutes, found.amounts, strict=True)) == {0: 1.2, 30: 0, 60: 0, 90: 0.6}


def test_sections_that_are_empty_or_missing_mean_that_nothing_happened(tmp_path):
    assert not len(events(tmp_path, "carbs", "<meal/>").starts)
    assert not len(events(tmp_path, "basal", "").starts)


def test_d1namo_is_in_mmol_and_fingersticks_are_no_readings_of_the_sensor(tmp_path):
    (tmp_path / "007").mkdir()
    rows = [("00:00:00", 8.5, "cgm"), ("00:02:00", 20, "manual"), ("00:05:00", 8.6, "cgm")]
    lines = [f"2014-10-01,{clock},{value},{kind}," for clock, value, kind in rows]
    (tmp_path / "007" / "glucose.csv").write_text("date,time,glucose,type,comments\n" + "\n".join(lines))
    one = only(tmp_path)
    assert (one.item, one.unit, list(one.values)) == ("007", "mmol/L", [8.5, 8.6])
    assert only(tmp_path / "007" / "glucose.csv").item == "007"


CLARITY = (
    "Index,Timestamp (YYYY-MM-DDThh:mm:ss),Event Type,Event Subtype,Patient Info,Device Info,Source Device ID,"
    "Glucose Value (mg/dL),Insulin Value (u),Carb Value (grams),Duration (hh:mm:ss),"
    "Glucose Rate of Change (mg/dL/min),Transmitter Time (Long Integer),Transmitter ID\n"
    "1,,FirstName,,Ann,,,,,,,,,\n"
    "2,,Alert,Low,,,iOS G7,65,,,,,,\n"
    "3,2027-05-14T00:00:02,EGV,,,,iOS G7,Low,,,,,1,X\n"
    "4,2027-05-14 0:05:01,EGV,,,,iOS G7,181,,,,,2,X\n"
    "5,2027-05-14T00:07:00,Insulin,Fast-Acting,,,iOS G7,,3.5,,,,,\n"
    "5,2027-05-14T00:07:30,Insulin,Long-Acting,,,iOS G7,,14,,,,,\n"
    ",,,,,,,,,,,,,\n"
    "6,2027-05-14T00:08:00,Carbs,,,,iOS G7,,,30,,,,\n"
    "7,2027-05-14T00:09:00,Calibration,,,,iOS G7,150,,,,,,\n"
    "8,2027-05-14T00:10:02,EGV,,,,iOS G7,High,,,,,3,X\n"
)


def test_clarity_alerts_and_calibrations_are_no_readings_and_low_and_high_are_said(tmp_path):
    (tmp_path / "ann.csv").write_text(CLARITY)
    one = only(tmp_path / "ann.csv", covariates="carbs,bolus")
    assert (one.item, one.unit, list(one.values)) == ("ann", "mg/dL", [40, 181, 400])
    assert list(one.covariates["carbs"].amounts) == [30]
    assert list(one.covariates["bolus"].amounts) == [3.5]
    assert len(one.notes) == 2
    assert "'Low' is kept as 40 mg/dL, the sensor's limit (readings: 1)" in one.notes[0]
    assert "'High' is kept as 400 mg/dL" in one.notes[1]


def test_clarity_in_mmol_with_semicolons_and_decimal_commas(tmp_path):
    text = CLARITY.replace(",", ";").replace("mg/dL", "mmol/L").replace(";181;", ";10,1;")
    (tmp_path / "ann.csv").write_text(text)
    one = only(tmp_path / "ann.csv")
    assert one.unit == "mmol/L"
    assert list(one.values) == pytest.approx([40 / 18.016, 10.1, 400 / 18.016], rel=1e-4)


LIBRE = (
    "Glucose Data,Generated on,14-05-2027 10:40 UTC,Generated by,Ann\n"
    "Device,Serial Number,Device Timestamp,Record Type,Historic Glucose mg/dL,Scan Glucose mg/dL,"
    "Non-numeric Rapid-Acting Insulin,Rapid-Acting Insulin (units),Non-numeric Food,Carbohydrates (grams)\n"
    "Libre,A,14-05-2027 00:30,0,HI,,,,,\n"
    "Libre,A,14-05-2027 00:15,0,120,,,,,\n"
    "Libre,A,14-05-2027 00:20,1,,131,,,,\n"
    "Libre,A,14-05-2027 00:21,5,,,,,,45\n"
    "Libre,A,14-05-2027 00:22,4,,,,2.5,,\n"
    "Libre,A,,6,,,,,a note without a time,\n"
    'Libre,A,14-05-2027 00:23,6,,,,,"a note,\nof two lines"\n'
    "Libre,A,14-05-2027 00:00,0,110\n"
)


def test_libreview_takes_the_sensors_own_readings_in_the_order_of_time(tmp_path):
    (tmp_path / "ann.csv").write_text(LIBRE)
    one = only(tmp_path / "ann.csv", covariates="carbs,bolus")
    assert (one.unit, list(one.values)) == ("mg/dL", [110, 120, 500])
    assert list(one.covariates["carbs"].amounts) == [45]
    assert list(one.covariates["bolus"].amounts) == [2.5]
    assert any("sorted by time" in note for note in one.notes)
    assert any("'High' is kept as 500 mg/dL, the sensor's limit (readings: 1)" in note for note in one.notes)


def test_a_long_table_holds_many_patients_and_a_wide_one_columns_that_are_covariates(tmp_path):
    found = read(long(tmp_path / "a.csv", {"x": (times(3), wave(3)), "y": (times(3), wave(3, 1))}))
    assert [one.item for one in found] == ["x", "y"]
    (tmp_path / "w.csv").write_text("date,a,OT\n2016-07-01 00:00:00,1,30.5\n2016-07-01 01:00:00,2,27.8\n")
    one = only(tmp_path / "w.csv", time_column="date", target_column="OT", covariates="a", units="none")
    assert (one.item, one.covariates["a"].kind, list(one.covariates["a"].amounts)) == ("w", "level", [1, 2])


def test_parquet_gives_what_the_same_csv_gives(tmp_path):
    table = pd.DataFrame({"item_id": [7] * 4, "timestamp": times(4), "target": [100, 110, np.nan, 120]})
    table.to_parquet(tmp_path / "a.parquet")
    table.to_csv(tmp_path / "a.csv", index=False)
    one, other = only(tmp_path / "a.parquet"), only(tmp_path / "a.csv")
    assert one.item == other.item == "7"
    assert list(one.times) == list(other.times)
    assert list(one.values) == list(other.values) == [100, 110, 120]


def test_parquet_of_pandas_categories_has_their_names(tmp_path):
    columns = {"item_id": pd.Categorical(["x", "y"] * 3), "timestamp": np.repeat(times(3), 2), "target": wave(6)}
    pd.DataFrame(columns).to_parquet(tmp_path / "a.parquet")
    found = read(tmp_path / "a.parquet")
    assert [(one.item, list(one.values)) for one in found] == [("x", list(wave(6)[::2])), ("y", list(wave(6)[1::2]))]


def test_one_file_a_patient_is_named_by_the_file(tmp_path):
    for item in ("ann", "bob"):
        long(tmp_path / f"{item}.csv", {item: (times(3), wave(3))}, header="who,timestamp,target")
    assert [one.item for one in read(tmp_path)] == ["ann", "bob"]


def test_files_named_by_options_go_before_those_of_the_folder(tmp_path):
    for name in ("570-ws-training", "570-ws-testing", "later"):
        long(tmp_path / f"{name}.csv", {"570": (times(3), wave(3))})
    found = read(tmp_path, {"test": "later.csv"})
    assert [(one.source.rpartition("/")[2], one.split) for one in found] == [
        ("570-ws-testing.csv", "test"),
        ("570-ws-training.csv", "train"),
        ("later.csv", "test"),
    ]


def test_the_table_of_patients_in_the_folder_is_no_series(tmp_path):
    long(tmp_path / "a.csv", {"a": (times(3), wave(3))})
    (tmp_path / "who.csv").write_text("id,age\na,40\n")
    assert len(read(tmp_path, patients_file=str(tmp_path / "who.csv"))) == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"target_column": "targte"}, "did you mean target_column=target?"),
        ({"time_column": "when"}, "no column 'when' (time_column), only item_id, timestamp, target"),
        ({"item_column": "item"}, "did you mean item_column=item_id?"),
        ({"covariates": "carbs"}, "has no 'carbs', only item_id, timestamp, target"),
    ],
)
def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path, given, said):
    assert said in refusal(long(tmp_path / "a.csv", {"a": (times(3), wave(3))}), **given)


def test_a_covariate_that_a_format_does_not_have_is_refused(tmp_path):
    assert "only carbs, bolus, basal" in refusal(xml(tmp_path / "1.xml", "1", times(3), wave(3)), covariates="sleep")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("item_id,timestamp,target\n", "has no rows"),
        ("item_id,timestamp,target\na,2027-05-14 00:00:00\n", "line 2 has 2 fields, the header has 3"),
        ("item_id,timestamp,target\na,2027-05-14 00:00:00,high\n", "line 2: column 'target' holds 'high', no number"),
        ("item_id,timestamp,target\na,2027-05-14 00:00:00,inf\n", "line 2: column 'target' holds 'inf', no number"),
        ("item_id,timestamp,target\na,2027-05-14 00:00:00,1e300\n", "line 2: column 'target' holds 1e+300"),
        ("item_id,timestamp,target\n,2027-05-14 00:00:00,100\n", "line 2: column 'item_id' is empty"),
        ("item_id,timestamp,target\na,,100\n", "line 2 has no time"),
        ('item_id,timestamp,target\na,2027-05-14 00:00:00,"100\n', "line 2 is malformed"),
        ("item_id,timestamp,target,target\na,2027-05-14 00:00:00,1,2\n", "names column 'target' twice"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_with_file_and_line(tmp_path, text, said):
    path = tmp_path / "a.csv"
    path.write_text(text)
    assert said in refusal(path)
    assert str(path) in refusal(path)


def test_the_line_of_a_fault_counts_line_breaks_within_quotes(tmp_path):
    (tmp_path / "a.csv").write_text(
        'item_id,timestamp,target,said\na,2027-05-14 00:00:00,1,"x\ny"\na,2027-05-14 00:05:00,zero,\n'
    )
    assert "line 4: column 'target'" in refusal(tmp_path / "a.csv")


BOMB = (
    '<?xml version="1.0"?>\n<!DOCTYPE patient [\n<!ENTITY a "ha">\n<!ENTITY b "&a;&a;&a;&a;">\n]>\n'
    '<patient id="1"><glucose_level><event ts="14-05-2027 00:00:00" value="&b;"/></glucose_level></patient>'
)
OUTSIDE = '<?xml version="1.0"?>\n<!DOCTYPE patient [<!ENTITY a SYSTEM "file:///etc/hostname">]>\n<patient id="&a;"/>'


@pytest.mark.parametrize("text", [BOMB, OUTSIDE])
def test_xml_that_declares_entities_is_refused_with_its_line_and_not_expanded(tmp_path, text):
    (tmp_path / "1.xml").write_text(text)
    assert f"{tmp_path / '1.xml'}: line 2 declares a document type or an entity" in refusal(tmp_path / "1.xml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1 is malformed (no element found)"),
        ('<patient id="1">\n<glucose_level>\n', "line 3 is malformed"),
        ('<patient id="1">\n<glucose_level></patient>', "line 2 is malformed (mismatched tag)"),
        ("<html/>", "is not <patient>"),
        ("<patient><glucose_level/></patient>", "has no id"),
        ('<patient id="1"><glucose_level/></patient>', "has no <glucose_level> with events"),
        ('<patient id="1"><glucose_level>\n<event value="1"/></glucose_level></patient>', "line 2 has no time"),
        (
            '<patient id="1"><glucose_level>\n<event ts="14-05-2027 00:00:00" value="x"/></glucose_level></patient>',
            "line 2: value='x' is no number",
        ),
        (
            '<patient id="1"><glucose_level>\n<event ts="14-05-2027 00:00:00" value="-1"/></glucose_level></patient>',
            "line 2: value='-1' is out of range",
        ),
    ],
)
def test_malformed_xml_is_refused_with_its_line(tmp_path, text, said):
    (tmp_path / "1.xml").write_text(text)
    assert said in refusal(tmp_path / "1.xml")


def test_an_unknown_patient_is_refused_with_those_there_are(tmp_path):
    path = long(tmp_path / "a.csv", {"570": (times(300), wave(300)), "584": (times(300), wave(300, 1))})
    assert "there is no '571', only 570, 584; did you mean 570?" in refusal(path, patients="571")


def test_what_is_not_there_is_named(tmp_path):
    assert "not found" in refusal(tmp_path / "none.csv")
    assert "has no file of series" in refusal(tmp_path)
    assert "no such builtin" in refusal("builtin:nothing")
    (tmp_path / "a.docx").write_text("x")
    assert "unknown extension '.docx'" in refusal(tmp_path / "a.docx")


def test_a_byte_order_mark_and_windows_line_ends_change_nothing(tmp_path):
    path = long(tmp_path / "a.csv", {"a": (times(600), wave(600))})
    plain = loaded(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert loaded(path).test["history"][:] == plain.test["history"][:]


def faults(rng, data):
    """Yield what a file may have become."""
    yield data.decode().encode("utf-16")
    yield data.replace(b",", b";")
    yield data.replace(b"\n", b"\r")
    for word in (b"NaN", b"inf", b"-5", b"1e300", b"", b"\x00", b'"', b"\xff\xfe", b"9" * 400):
        place = int(rng.integers(0, len(data) - 3))
        yield data[:place] + word + data[place + 3 :]
    for _ in range(25):
        yield data[: int(rng.integers(0, len(data)))]
        noise = bytearray(data)
        for place in rng.integers(0, len(data), 5):
            noise[place] = int(rng.integers(0, 256))
        yield bytes(noise)
    yield rng.bytes(500)


@pytest.mark.parametrize("name", ["a.csv", "ann.csv", "libre.csv", "1.xml", "a.parquet"])
def test_a_damaged_file_is_read_or_refused_on_one_line_and_never_a_crash(tmp_path, name):
    path = tmp_path / name
    made = {
        "a.csv": lambda: long(path, {"a": (times(40), wave(40))}),
        "ann.csv": lambda: path.write_text(CLARITY),
        "libre.csv": lambda: path.write_text(LIBRE),
        "1.xml": lambda: xml(
            path, "1", times(40), wave(40), '<meal><event ts="14-05-2027 00:12:00" carbs="4"/></meal>'
        ),
        "a.parquet": lambda: pd.DataFrame({"timestamp": times(40), "target": wave(40)}).to_parquet(path),
    }
    made[name]()
    data = path.read_bytes()
    rng = np.random.default_rng(7)
    changed = faults(rng, data) if name != "a.parquet" else (bytes(data[:cut]) for cut in range(0, len(data), 97))
    covariates = {} if name in ("a.csv", "a.parquet") else {"covariates": "carbs"}
    for content in changed:
        path.write_bytes(content)
        said = ""
        try:
            loaded(path, history=2, horizon=1, **covariates)
        except UserError as error:
            said = str(error)
        assert "\n" not in said


def test_iso_and_day_first_files_of_one_moment_agree(tmp_path):
    data = {"a": (times(300), wave(300))}
    one, other = (
        only(long(tmp_path / f"{written.__name__}.csv", data, written=written)) for written in (iso, day_first)
    )
    assert list(one.times) == list(other.times)
