"""Times: never guessed wrongly."""

import numpy as np
import pyarrow as pa
import pytest

from kd.base.types import UserError
from kd.data.series.times import parse


def parsed(texts, **given):
    return [str(time) for time in parse(pa.array(texts), lambda place: f"a.csv: line {place + 2}", **given)]


def refused(texts, **given):
    with pytest.raises(UserError) as caught:
        parsed(texts, **given)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2027-05-01 00:05:00", "2027-05-01T00:05:00"),
        ("2027-05-01T00:05", "2027-05-01T00:05:00"),
        ("2027-05-01", "2027-05-01T00:00:00"),
        ("2027/05/01 7:05:09.25", "2027-05-01T07:05:09"),
        ("2027-05-01T02:05:00+02:00", "2027-05-01T00:05:00"),
        ("2027-05-01T00:05:00Z", "2027-05-01T00:05:00"),
        ("31-05-2027 23:55:00", "2027-05-31T23:55:00"),
        ("05/31/2027 11:55 PM", "2027-05-31T23:55:00"),
        ("05/31/2027 12:05 AM", "2027-05-31T00:05:00"),
        ("29.02.2028 00:00", "2028-02-29T00:00:00"),
    ],
)
def test_a_time_is_read_as_its_writer_meant_it(text, time):
    assert parsed([text]) == [time]


def test_a_day_that_may_be_a_month_is_decided_by_another_line_of_the_file():
    assert parsed(["01-05-2027 00:00:00", "13-05-2027 00:00:00"])[0] == "2027-05-01T00:00:00"
    assert parsed(["01-05-2027 00:00:00", "01-13-2027 00:00:00"])[0] == "2027-01-05T00:00:00"


def test_a_day_that_may_be_a_month_is_decided_by_the_only_rising_order():
    assert parsed(["30-04-2027 00:00:00"] * 0 + ["11-04-2027 00:00:00", "01-05-2027 00:00:00"])[0][:10] == "2027-04-11"


def test_times_that_rise_with_day_first_and_with_month_first_are_refused_and_not_read_as_months():
    said = refused([f"0{day}-05-2027 00:00:00" for day in (1, 2, 3)])
    assert "a.csv: line 2" in said
    assert "write times as 2027-01-31" in said


def test_the_order_of_times_counts_within_a_patient_alone():
    texts = ["11-04-2027 00:00:00", "01-05-2027 00:00:00"] * 2
    assert parsed(texts, items=["a", "a", "b", "b"])[0][:10] == "2027-04-11"
    assert "may have the day or the month first" in refused(texts)


def test_a_format_that_is_known_to_write_the_day_first_needs_no_guess():
    assert parsed(["01-05-2027 00:00:00"], day_first=True) == ["2027-05-01T00:00:00"]
    assert "line 2: '05-31-2027" in refused(["05-31-2027 00:00:00"], day_first=True)


@pytest.mark.parametrize("wrong", ["2027-02-30 00:00:00", "2027-05-01 25:00:00", "2027-05-01 00:61:00", "soon", "1e5"])
def test_what_is_no_time_is_named_with_its_line(wrong):
    said = refused(["2027-05-01 00:00:00", wrong])
    assert "line 3" in said
    assert wrong in said


def test_a_missing_time_and_a_lone_offset_are_named_with_their_lines():
    assert "line 3 has no time" in refused(["2027-05-01 00:00:00", None])
    assert "line 3" in refused(["2027-05-01 00:00:00", "2027-05-01T00:05:00Z"])


def test_times_of_parquet_are_those_it_holds_in_utc_where_it_has_a_zone():
    moment = np.datetime64("2027-05-01T00:05:00")
    for kind in (pa.timestamp("ns"), pa.timestamp("ms", "Europe/Berlin")):
        assert list(parse(pa.array([moment]).cast(kind), str)) == [moment]
    with pytest.raises(UserError, match="is no time"):
        parse(pa.array([1.5]), str)
