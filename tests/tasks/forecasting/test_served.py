"""A forecaster answers as it was evaluated, to each form of a request, and refuses by name what it cannot answer."""

import json
import math
import pickle
import re
import shutil
import sys
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import mlflow.pyfunc.scoring_server as server
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from safetensors.torch import load_file, save_file

from kd.evaluation.predict import by_example
from kd.tasks.forecasting.task import Forecasting
from tests.tasks import series
from tests.tasks.series import STEP, stamp

HISTORY, HORIZON = 12, 6
COVARIATES = {"covariates": "carbs,rate", "known_ahead": "carbs"}
QUANTILES = {"quantiles": "0.1,0.5,0.9"}
SERVED = {
    "persistence": ("persistence", {}),
    "dlinear, mmol/L": ("dlinear", {"units": "mmol/L"}),
    "gru, covariates": ("gru", {"covariates": "rate"}),
    "lstm, known ahead": ("lstm", COVARIATES),
    "persistence, known ahead": ("persistence", COVARIATES),
    "patchtst, quantiles": ("patchtst", QUANTILES),
    "time-llm, full prompt, mmol/L": ("time-llm", {"prompt": "full", "units": "mmol/L"}),
    "time-llm, short prompt, all": ("time-llm", {"prompt": "short", **COVARIATES, **QUANTILES}),
    "time-llm, no prompt": ("time-llm", {"prompt": "none"}),
    "time-llm, random": ("time-llm", {"backbone": "random"}),
    "time-llm, attention": ("time-llm", {"backbone": "attention", "prompt": "short"}),
    "time-llm, none, long gaps": ("time-llm", {"backbone": "none", "max_gap_minutes": 10.0}),
}
PATIENTS = {"a": series.rows(0, holes=0.15), "b": series.rows(1, holes=0.02)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Task, windows, records of the test windows as evaluated, and the service, by name; each made once."""
    kept, folder = {}, tmp_path_factory.mktemp("forecasters")
    words = series.language(folder / "words")

    def of(name):
        if name not in kept:
            kind, options = SERVED[name]
            unit = 18.016 if options.get("units") == "mmol/L" else 1.0
            path = series.written(folder / f"{len(kept)}.csv", PATIENTS, unit)
            task, splits = series.forecasting(path, **options)
            place = folder / str(len(kept))
            model, processor = series.saved(place, task, kind, words)
            features = task.encode(splits.test, processor)
            features = features.add_column("feature", list(range(len(features))))
            with torch.no_grad():
                said = task.answer(model, task.collate(processor)(list(features)))
            records = by_example(said, np.array(features["example"]))
            kept[name] = task, splits.test, records, series.service(place), place
        return kept[name]

    return of


every_model = pytest.mark.parametrize("name", SERVED)


def measured(task, windows):
    """For each window one series as it was measured, nulls where nothing was, in the unit of the data."""
    unit = 18.016 if task.options.units == "mmol/L" else 1.0
    found = []
    for patient, time in zip(windows["patient"], windows["time"], strict=True):
        end = (time - int(series.START)) // STEP + 1
        own = PATIENTS[patient][end - HISTORY : end]
        one = {name: [row[name] for row in own] for name in ("when", "glucose", *task.options.covariate_names)}
        one["glucose"] = [None if value is None else value / unit for value in one["glucose"]]
        for name in task.options.known_names:
            one[f"{name}_ahead"] = [row[name] for row in PATIENTS[patient][end : end + HORIZON]]
        found.append(one)
    return found


def values(answers):
    return np.array([answer["forecast"] for answer in answers])


def same(ours, theirs):
    np.testing.assert_allclose(values(ours), values(theirs), rtol=1e-4)
    assert [one | {"forecast": 0, "quantiles": 0} for one in ours] == [
        one | {"forecast": 0, "quantiles": 0} for one in theirs
    ]


@every_model
def test_what_is_served_of_the_measured_series_is_what_was_evaluated_on_their_windows(made, name):
    """Another filling, scaling or description than in evaluation would be another model than the one in the table."""
    task, windows, records, service, _ = made(name)
    answers = service.predict(None, measured(task, windows))
    assert [answer["filled"] for answer in answers] == windows["filled"][:]
    assert sum(windows["filled"]) > 0
    assert {answer["unit"] for answer in answers} == {task.options.units}
    evaluated, served = (task.predictions(windows, each) for each in (records, task.from_served(pd.DataFrame(answers))))
    assert list(evaluated.columns) == list(served.columns)
    numbers = evaluated.select_dtypes("number").columns
    pd.testing.assert_frame_equal(evaluated[numbers], served[numbers], rtol=1e-4)
    assert np.ptp(evaluated["step:forecast:1"]) > 0.1  # else windows could change places unseen
    if not name.startswith("persistence"):
        assert np.abs(evaluated["step:forecast:1"] - evaluated["last"]).max() > 0.01
    first = answers[0]
    assert set(first) == {"timestamps", "forecast", "unit", "filled", *(["quantiles"] if task.options.levels else [])}
    coming = (windows["time"][0] + STEP * np.arange(1, HORIZON + 1)).astype("datetime64[s]")
    assert first["timestamps"] == [str(one) for one in coming]
    if task.options.levels:
        assert first["quantiles"]["0.5"] == first["forecast"]


@every_model
def test_each_of_many_requests_is_answered_as_it_is_alone(made, name):
    """Prompts are padded to the longest of the batch, and a series must not learn of its neighbours."""
    task, windows, _, service, _ = made(name)
    requests = measured(task, windows)[:5] * 30  # more than a forward takes
    same(
        service.predict(None, requests)[-5:], [answer for one in requests[:5] for answer in service.predict(None, one)]
    )


# What a request may be


def rows_of(requests):
    """Rows of a table with the items s0, s1 and so on, of series without what is known ahead."""
    return [
        {"item_id": f"s{number}", **dict(zip(one, cells, strict=True))}
        for number, one in enumerate(requests)
        for cells in zip(*one.values(), strict=True)
    ]


def parsed(body):
    """What the server of MLflow makes of a request."""
    return server._parse_json_data(json.dumps(body), None, None).data


def columns_of(rows):
    return {name: [row[name] for row in rows] for name in rows[0]}


def split(table):
    return {"columns": list(table.columns), "data": table.astype(object).where(table.notna(), None).to_numpy().tolist()}


FORMS = {
    "records": lambda rows: rows,
    "a table": pd.DataFrame,
    "columns": columns_of,
    "columns of arrays": lambda rows: {name: np.array(values) for name, values in columns_of(rows).items()},
    "dataframe_split": lambda rows: parsed({"dataframe_split": split(pd.DataFrame(rows))}),
    "dataframe_records": lambda rows: parsed({"dataframe_records": rows}),
    "inputs, records": lambda rows: parsed({"inputs": rows}),
    "inputs, columns": lambda rows: parsed({"inputs": columns_of(rows)}),
    "instances": lambda rows: parsed({"instances": rows}),
}


@pytest.fixture
def gru(made):
    """A service of covariates, and some series."""
    task, windows, _, service, _ = made("gru, covariates")
    return service, measured(task, windows.select(range(4)))


@pytest.fixture
def ahead(made):
    """The same with a covariate that is known ahead."""
    task, windows, _, service, _ = made("lstm, known ahead")
    return service, measured(task, windows.select(range(4)))


@pytest.fixture
def plain(made):
    """A service of glucose alone, and a function that makes a series."""
    service = made("persistence")[3]

    def one(count=HISTORY, zone="", **more):
        return {"when": [stamp(i, zone) for i in range(count)], "glucose": [100.0 + i for i in range(count)]} | more

    return service, one


@pytest.mark.parametrize("form", FORMS)
def test_a_row_a_step_in_any_form_is_answered_as_the_series_of_its_item(gru, form):
    service, requests = gru
    wanted = [{"item": f"s{i}"} | one for i, one in enumerate(service.predict(None, requests))]
    same(service.predict(None, FORMS[form](rows_of(requests))), wanted)


@pytest.mark.parametrize("form", FORMS)
def test_a_series_a_row_in_any_form_is_answered_as_the_series_alone(ahead, form):
    service, requests = ahead
    wanted = [answer for one in requests for answer in service.predict(None, one)]
    named = [{"item_id": place, **one} for place, one in enumerate(requests)]
    same(service.predict(None, FORMS[form](requests)), wanted)
    same(service.predict(None, FORMS[form](named)), [{"item": place} | one for place, one in enumerate(wanted)])


@pytest.mark.parametrize(
    "body", [lambda one: one, lambda one: parsed({"inputs": one}), lambda one: pd.DataFrame([one])]
)
def test_one_object_is_one_series_whatever_the_lengths_of_its_lists(ahead, body):
    service, requests = ahead
    wanted = service.predict(None, requests[:1])
    same(service.predict(None, body(requests[0])), wanted)
    same(service.predict(None, body({"item_id": "x", "note": [1, 2, 3]} | requests[0])), [{"item": "x"} | wanted[0]])


def test_rows_of_one_series_need_no_item(gru):
    service, requests = gru
    table = pd.DataFrame(requests[0])
    same(service.predict(None, table), service.predict(None, requests[0]))
    same(service.predict(None, table.assign(item_id=7)), [{"item": 7} | service.predict(None, table)[0]])


def test_columns_that_were_not_trained_on_and_their_order_change_nothing(gru):
    service, requests = gru
    table = pd.DataFrame(rows_of(requests))
    more = table.assign(note="x", weight=np.nan, deep=[[1]] * len(table))[
        ["note", "rate", "deep", "glucose", "when", "weight", "item_id"]
    ]
    assert service.predict(None, more) == service.predict(None, table)
    lists = [{"other": 5, "more": [1, 2], **dict(reversed(one.items()))} for one in requests]
    assert service.predict(None, lists) == service.predict(None, requests)


def test_items_may_be_mixed_and_are_answered_in_the_order_of_their_first_row(gru):
    service, requests = gru
    rows = rows_of(requests)
    mixed = sorted(rows, key=lambda row: (row["when"][11:], row["item_id"]))
    found = {one["item"]: one for one in service.predict(None, mixed)}
    same([found[f"s{i}"] for i in range(4)], service.predict(None, rows))
    assert list(found) == list(dict.fromkeys(row["item_id"] for row in mixed))


def test_of_a_longer_history_the_newest_steps_count_alone(plain):
    service, one = plain
    long = one(40)
    long["glucose"][:28] = [None, "x", 1e400, *[5.0] * 25]
    long["when"][:20] = [stamp(17 * place - 4000) for place in range(20)]  # another rate, and a gap
    (answer,) = service.predict(None, long)
    assert answer["forecast"] == [139.0] * HORIZON
    assert answer["timestamps"][0] == stamp(40)
    assert answer["filled"] == 0


def test_a_step_that_is_left_out_counts_as_one_without_a_value(plain):
    service, one = plain
    nulls, absent = one(), one()
    for place in (3, 4, 9):
        nulls["glucose"][place] = None
    absent = {name: [v for place, v in enumerate(each) if place not in (3, 4, 9)] for name, each in absent.items()}
    missing = {**nulls, "glucose": [math.nan if value is None else value for value in nulls["glucose"]]}
    table = pd.DataFrame(missing).astype({"glucose": "Float64"})  # with pandas' own NA
    for request in (nulls, absent, missing, table):
        assert service.predict(None, request)[0]["filled"] == 3
    late = one()
    late["glucose"][-2:] = [None, None]
    (answer,) = service.predict(None, late)
    assert (answer["filled"], answer["forecast"], answer["timestamps"][0]) == (2, [109.0] * HORIZON, stamp(HISTORY))


def test_the_longest_gap_that_training_fills_is_filled_and_one_value_more_is_not(plain):
    service, one = plain
    for missing in (range(1, 7), range(6, 12)):
        request = one()
        request["glucose"] = [None if place in missing else value for place, value in enumerate(request["glucose"])]
        assert service.predict(None, request)[0]["filled"] == 6
    longer = one()
    longer["glucose"][4:11] = [None] * 7
    assert "7 values in a row are missing" in refusal(service, longer)


def test_readings_need_not_be_exactly_a_step_apart(plain):
    """Sensors drift by seconds, and begin anew at another second after a break."""
    service, one = plain
    drawn = np.random.default_rng(0).integers(-60, 60, HISTORY)
    for off in (drawn, 7 * np.arange(HISTORY), [0, 0, 0, 0, 0, *[130] * 7], [0, 0, 0, 0, 0, *[-130] * 7]):
        late = [series.START + STEP * place + off[place] for place in range(HISTORY)]
        (answer,) = service.predict(None, one(when=[str(np.datetime64(int(at), "s")) for at in late]))
        assert answer["filled"] <= 1
        assert answer["timestamps"][0] == str(np.datetime64(int(late[-1]) + STEP, "s"))


def test_of_two_readings_at_one_step_the_nearer_counts(plain):
    service, one = plain
    given = one()
    given["when"].insert(11, str(np.datetime64(int(series.START) + STEP * 11 - 30, "s")))
    given["glucose"].insert(11, 500.0)
    assert service.predict(None, given)[0]["forecast"] == [111.0] * HORIZON
    given["glucose"][-1] = None  # and the only one where the nearer has no value
    assert service.predict(None, given)[0] | {"forecast": 0} == service.predict(None, one())[0] | {"forecast": 0}
    assert service.predict(None, given)[0]["forecast"] == pytest.approx([500.0] * HORIZON)


# Times


@pytest.mark.parametrize(
    ("zone", "back"), [("", ""), ("Z", "Z"), ("+00:00", "+00:00"), ("+02:00", "+02:00"), ("-0330", "-03:30")]
)
def test_texts_come_back_with_the_zone_that_they_had_or_without_any(plain, zone, back):
    service, one = plain
    (answer,) = service.predict(None, one(zone=zone))
    assert answer["timestamps"] == [stamp(HISTORY + step) + back for step in range(HORIZON)]
    (answer,) = service.predict(None, one(when=[f" {text.replace('T', ' ')}" for text in one(zone=zone)["when"]]))
    assert answer["timestamps"] == [stamp(HISTORY + step) + back for step in range(HORIZON)]


BERLIN = ZoneInfo("Europe/Berlin")
KINDS = {
    "datetime": lambda at: at,
    "pandas": pd.Timestamp,
    "numpy": lambda at: np.datetime64(at.replace(tzinfo=None)) if at.tzinfo is None else pd.Timestamp(at),
    "text": lambda at: at.isoformat(),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("zone", [None, UTC, BERLIN, timezone(timedelta(hours=-3))], ids=str)
def test_times_that_are_no_texts_come_back_the_same_way(plain, kind, zone):
    service, one = plain
    first = datetime(2027, 5, 1, 8, 0, 30, tzinfo=zone)
    times = [first + timedelta(seconds=STEP * place) for place in range(HISTORY + HORIZON)]
    given = one(when=[KINDS[kind](at) for at in times[:HISTORY]])
    for request in (given, pd.DataFrame(given)):
        (answer,) = service.predict(None, request)
        assert answer["timestamps"] == [at.isoformat() for at in times[HISTORY:]]


@pytest.mark.parametrize("date", ["2027-03-28", "2027-10-31"])
def test_a_zone_that_changes_its_clock_within_the_history_or_the_horizon_is_no_gap(plain, date):
    service, one = plain
    for before in range(0, 25, 4):
        start = datetime.fromisoformat(f"{date}T01:00:00+00:00") - timedelta(seconds=STEP * before)
        times = [(start + timedelta(seconds=STEP * at)).astimezone(BERLIN) for at in range(HISTORY + HORIZON)]
        for kind in ("text", "datetime", "pandas"):
            (answer,) = service.predict(None, one(when=[KINDS[kind](at) for at in times[:HISTORY]]))
            assert answer["filled"] == 0
            coming = [datetime.fromisoformat(text).timestamp() for text in answer["timestamps"]]
            assert coming == [at.timestamp() for at in times[HISTORY:]]
            if kind != "text":  # which says an offset alone
                assert answer["timestamps"] == [at.isoformat() for at in times[HISTORY:]]


# Refusals


def without(one, *names):
    return {name: value for name, value in one.items() if name not in names}


def put(one, name, place, value):
    return {**one, name: [*one[name][:place], value, *one[name][place + 1 :]]}


def cut(one, *places):
    return {name: [v for at, v in enumerate(each) if at not in places] for name, each in one.items()}


def paced(one, seconds):
    return {**one, "when": [str(np.datetime64(int(series.START) + seconds * at, "s")) for at in range(HISTORY)]}


NUMBER = "a number is needed, got"
TIME = "a time such as 2027-05-01T08:05:00 is needed, got"
REFUSED = {
    "no object": (lambda one: "100", "a table is needed, or a list of objects"),
    "a text over HTTP": (lambda one: parsed({"inputs": "x"}), "a table is needed, or a list of objects"),
    "numbers over HTTP": (lambda one: parsed({"inputs": one["glucose"]}), "a table is needed, or a list of objects"),
    "numbers": (lambda one: one["glucose"], "a table is needed, or a list of objects"),
    "a list of lists": (lambda one: [one["glucose"]], "a table is needed, or a list of objects"),
    "nothing": (lambda one: [], "a table is needed, or a list of objects"),
    "an empty object": (lambda one: {}, "the column 'when' is missing; there is no column"),
    "an empty table": (lambda one: pd.DataFrame(one).iloc[:0], "there is no row"),
    "empty lists": (lambda one: {name: [] for name in one}, "there is no row"),
    "no time": (lambda one: without(one, "when"), "the column 'when' is missing; there is 'glucose'"),
    "no value": (lambda one: pd.DataFrame(one)[["when"]], "the column 'glucose' is missing; there is 'when'"),
    "another name": (
        lambda one: without(one, "glucose") | {"Glucose": one["glucose"]},
        "the column 'glucose' is missing; there is 'when', 'Glucose'",
    ),
    "a column twice": (
        lambda one: pd.DataFrame([one["when"], one["glucose"], one["glucose"]], ["when", "glucose", "glucose"]).T,
        "the column 'glucose' is there twice",
    ),
    "too few": (lambda one: cut(one, 0), "the last 12 values are needed, 5 minutes apart, .*; 11 are there"),
    "one value": (lambda one: {"when": stamp(0), "glucose": 100.0}, "the last 12 values are needed.*; 1 are there"),
    "fewer values than times": (
        lambda one: {**one, "glucose": one["glucose"][1:]},
        "'glucose' has 11 values, and there are 12 times",
    ),
    "a null first": (lambda one: put(one, "glucose", 0, None), "the first of them must be a measured one; 11 are"),
    "all null": (lambda one: {**one, "glucose": [None] * HISTORY}, "must be a measured one; 0 are there"),
    "a long gap": (lambda one: cut(one, *range(2, 9)), "7 values in a row are missing, and at most 6 .* 30 minutes"),
    "a long gap of nulls": (
        lambda one: {**one, "glucose": [100.0, *[None] * 7, *[100.0] * 4]},
        "7 values in a row are missing, and at most 6",
    ),
    "a long gap at the end": (
        lambda one: {**one, "glucose": [*[100.0] * 5, *[None] * 7]},
        "7 values in a row are missing, and at most 6",
    ),
    "a slower rate": (lambda one: paced(one, 900), "its times are 15 minutes apart, and in training .* 5 minutes"),
    "a rate of twice the step": (lambda one: paced(one, 600), "its times are 10 minutes apart"),
    "a faster rate": (lambda one: paced(one, 60), "its times are 1 minutes apart"),
    "milliseconds": (
        lambda one: {**one, "when": [f"2027-05-01T00:00:00.{at:03}" for at in range(HISTORY)]},
        "value 1 .* is not later than the one before",
    ),
    "no rate": (
        lambda one: {**one, "when": [stamp(at + 0.4 * (at % 2) * (at > 5)) for at in range(HISTORY)]},
        "its times are not evenly apart",
    ),
    "unordered": (lambda one: {**one, "when": one["when"][::-1]}, "value 1 .* is not later than the one before"),
    "double": (lambda one: put(one, "when", 6, stamp(5)), "'when', value 6 .* is not later than the one before"),
    "a zone for some": (lambda one: put(one, "when", 4, stamp(4, "Z")), "value 4 .* has a time zone, unlike the first"),
    "a zone for most": (
        lambda one: {**one, "when": [stamp(0), *(stamp(at, "+01:00") for at in range(1, HISTORY))]},
        "value 1 .* has a time zone, unlike the first",
    ),
    "no zone for the last": (
        lambda one: {**one, "when": [*(stamp(at, "Z") for at in range(11)), stamp(11)]},
        "value 11 .* has no time zone, unlike the first",
    ),
    "no time at all": (lambda one: put(one, "when", 3, "yesterday"), f"'when', value 3 .*: {TIME} 'yesterday'"),
    "day first": (lambda one: put(one, "when", 0, "01/05/2027 00:00"), f"'when', value 0 .*: {TIME}"),
    "the 31st of April": (lambda one: put(one, "when", 0, "2027-04-31T00:00:00"), f"value 0 .*: {TIME}"),
    "seconds since 1970": (lambda one: put(one, "when", 3, 1_800_000_000), f"'when', value 3 .*: {TIME}"),
    "a null time": (lambda one: put(one, "when", 3, None), f"'when', value 3 .*: {TIME} null"),
    "NaT": (lambda one: put(one, "when", 3, pd.NaT), f"'when', value 3 .*: {TIME} null"),
    "year 1": (lambda one: put(one, "when", 0, "0001-01-01"), f"'when', value 0 .*: {TIME}"),
    "year 9999": (lambda one: put(one, "when", 11, "9999-12-31T23:59:59"), f"'when', value 11 .*: {TIME}"),
    "text": (lambda one: put(one, "glucose", 3, "Low"), rf"'glucose', value 3 .*: {NUMBER} 'Low' \(str\)"),
    "a number as text": (lambda one: put(one, "glucose", 3, "120"), rf"'glucose', value 3 .*: {NUMBER} '120' \(str\)"),
    "a truth value": (lambda one: put(one, "glucose", 3, True), rf"'glucose', value 3 .*: {NUMBER} 'True'"),
    "infinity": (lambda one: put(one, "glucose", 3, math.inf), f"'glucose', value 3 .*: {NUMBER} 'inf'"),
    "a huge whole number": (lambda one: put(one, "glucose", 3, 10**400), f"'glucose', value 3 .*: {NUMBER} '1000"),
    "too large": (lambda one: put(one, "glucose", 11, 1e39), f"'glucose', value 11 .*: {NUMBER} '1e[+]39'"),
    "a list among values": (lambda one: put(one, "glucose", 3, [1.0]), f"'glucose', value 3 .*: {NUMBER} a list"),
    "another unit": (
        lambda one: {**one, "glucose": [5.5] * HISTORY},
        "'glucose' is 5.5 to 5.5, which is no glucose in mg/dL",
    ),
    "a scalar among lists": (
        lambda one: [one, {**one, "glucose": 100.0}],
        r"row 1, 'glucose': a list is needed, as each row is a series, got '100.0' \(float\)",
    ),
    "a row among series": (lambda one: [one, {"when": stamp(0), "glucose": 1.0}], "row 1, 'when': a list is needed"),
    "a null item": (lambda one: [{"item_id": "a", **one}, one], "row 1, 'item_id': a name is needed.* got null"),
    "an item that is a list": (lambda one: [{"item_id": ["a"], **one}], "'item_id': a name is needed.* got a list"),
    "items of other rows": (lambda one: {**one, "item_id": ["a"]}, "'item_id' has 1 values, and 'when' has 12"),
    "the second of two": (
        lambda one: [one, put(one, "glucose", 0, None)],
        "^row 1: the last 12 values are needed",
    ),
    "an item by name": (
        lambda one: pd.DataFrame(one).assign(item_id="patient 7").iloc[1:],
        "^item 'patient 7': the last 12 values are needed",
    ),
}  # fmt: skip


def refusal(service, request):
    with pytest.raises(MlflowException) as raised:
        service.predict(None, request)
    assert raised.value.get_http_status_code() == 400
    told = json.loads(raised.value.serialize_as_json())
    assert told["error_code"] == "INVALID_PARAMETER_VALUE"
    assert "\n" not in told["message"]
    assert len(told["message"]) < 300
    return told["message"]


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_answered_is_refused_in_one_sentence_that_names_it(plain, what):
    service, one = plain
    request, sentence = REFUSED[what]
    found = refusal(service, request(one()))
    assert re.search(sentence, found), found


COVARIATES_REFUSED = {
    "one missing": (lambda one: without(one, "rate"), "the column 'rate' is missing"),
    "one missing ahead": (lambda one: without(one, "carbs_ahead"), "the column 'carbs_ahead' is missing"),
    "null": (lambda one: put(one, "carbs", 4, None), "'carbs', value 4 .*: a number is needed, got null"),
    "NaN": (lambda one: put(one, "rate", 11, math.nan), "'rate', value 11 .*: a number is needed, got null"),
    "null ahead": (lambda one: put(one, "carbs_ahead", 2, None), f"value 2 .*: {NUMBER} null"),
    "text ahead": (lambda one: put(one, "carbs_ahead", 2, "9"), f"'carbs_ahead', value 2 .*: {NUMBER} '9'"),
    "few ahead": (lambda one: {**one, "carbs_ahead": [0.0] * 5}, "'carbs_ahead' has 5 values, and 6 are needed"),
    "many ahead": (lambda one: {**one, "carbs_ahead": [0.0] * 12}, "'carbs_ahead' has 12 values, and 6 are needed"),
    "few": (lambda one: {**one, "carbs": [0.0] * 6}, "'carbs' has 6 values, and there are 12 times"),
    "a step left out": (
        lambda one: {name: each if name == "carbs_ahead" else [*each[:5], *each[6:]] for name, each in one.items()},
        "'carbs' must be known at each of the last 12 steps: give a row for each",
    ),
    "a table": (lambda one: pd.DataFrame(without(one, "carbs_ahead")), "the column 'carbs_ahead' is missing"),
    "a table with it": (
        lambda one: pd.DataFrame(rows_of([without(one, "carbs_ahead")])).assign(carbs_ahead=1.0),
        "'carbs_ahead' is a list for each series: give one object a series",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", COVARIATES_REFUSED)
def test_a_covariate_that_is_not_known_is_refused_rather_than_taken_for_nothing(ahead, what):
    """No insulin is another thing than insulin that nobody has written down."""
    service, requests = ahead
    change, sentence = COVARIATES_REFUSED[what]
    whole = requests[0] | {"glucose": [100.0] * HISTORY}
    assert len(service.predict(None, whole)) == 1
    found = refusal(service, change(whole))
    assert re.search(sentence, found), found


def test_glucose_of_the_other_unit_is_refused_by_a_model_of_mmol_too(made, plain):
    service, one = made("dlinear, mmol/L")[3], plain[1]
    (answer,) = service.predict(None, one(glucose=[5.5] * HISTORY))
    assert answer["unit"] == "mmol/L"
    assert "no glucose in mmol/L" in refusal(service, one())


def test_values_with_too_many_digits_to_be_described_are_refused_by_name_and_not_by_an_index_error(made, tmp_path):
    folder = made("time-llm, full prompt, mmol/L")[4]
    shutil.copytree(folder, tmp_path / "model")
    for name, change in (("kd.json", {"units": "none"}), ("tokenizer_config.json", {"model_max_length": 140})):
        path = tmp_path / "model" / name
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    service = series.service(tmp_path / "model")
    given = {"when": [stamp(place) for place in range(HISTORY)], "glucose": [1e3] * HISTORY}
    assert len(service.predict(None, given)) == 1
    assert "too many digits" in refusal(service, {**given, "glucose": [1e17 * (1 + at) for at in range(HISTORY)]})


def test_a_forecast_that_is_no_number_is_refused_and_not_sent(made, tmp_path):
    folder = made("dlinear, mmol/L")[4]
    shutil.copytree(folder, tmp_path / "model")
    settings = json.loads((folder / "kd.json").read_text())
    (tmp_path / "model" / "kd.json").write_text(json.dumps(settings | {"units": "none"}))
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"trend.weight": weights["trend.weight"] * 1e20}, tmp_path / "model" / "model.safetensors")
    given = {"when": [stamp(place) for place in range(HISTORY)], "glucose": [1e20] * HISTORY}
    assert "the forecast is no finite number" in refusal(series.service(tmp_path / "model"), given)


# What a served model needs


def test_a_served_model_needs_nothing_of_this_project_but_its_folder(made, monkeypatch, tmp_path):
    task, windows, _, service, folder = made("time-llm, short prompt, all")
    requests = measured(task, windows.select(range(3)))
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "served.py").write_bytes(task.served.read_bytes())
    for name in [name for name in sys.modules if name.partition(".")[0] in ("kd", "tests")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "kd", None)
    monkeypatch.setitem(sys.modules, "tests", None)
    same(
        series.service(tmp_path / "model", tmp_path / "served.py").predict(None, requests),
        service.predict(None, requests),
    )


def test_models_of_two_releases_run_in_one_process_each_by_its_own_code(made, plain, tmp_path):
    first, one = plain[0], plain[1]()
    shutil.copytree(made("persistence")[4], tmp_path / "model")
    path = tmp_path / "model" / "forecast" / "simple.py"
    code = path.read_text()
    assert "last = self.weight * values[:, -1]" in code
    path.write_text(code.replace("last = self.weight * values[:, -1]", "last = self.weight * values[:, 0]"))
    second = series.service(tmp_path / "model")
    for _ in range(2):
        assert first.predict(None, one)[0]["forecast"] == [111.0] * HORIZON
        assert second.predict(None, one)[0]["forecast"] == pytest.approx([100.0] * HORIZON)


def test_loading_writes_nothing_beside_the_weights_where_compiled_code_would_be_refused_next_time(
    made, monkeypatch, tmp_path
):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    shutil.copytree(made("persistence")[4], tmp_path / "model")
    before = sorted(path for path in (tmp_path / "model").rglob("*"))
    series.service(tmp_path / "model")
    assert sorted(path for path in (tmp_path / "model").rglob("*")) == before
    assert not sys.dont_write_bytecode


def test_no_pickle_is_read_also_where_one_is_there(made, plain, monkeypatch, tmp_path):
    shutil.copytree(made("time-llm, short prompt, all")[4], tmp_path / "model")
    for name in ("pytorch_model.bin", "model.pt", "python_model.pkl", "training_args.bin"):
        (tmp_path / "model" / name).write_bytes(pickle.dumps(Bomb()))

    def refused(*_, **__):
        raise AssertionError("a pickle was read")

    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(module, name, refused)
    task, windows = made("time-llm, short prompt, all")[:2]
    assert series.service(tmp_path / "model").predict(None, measured(task, windows.select([0])))
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError):
        series.service(tmp_path / "model")


class Bomb:
    def __reduce__(self):
        return (print, ("a pickle was read",))


def test_the_file_names_no_module_of_this_project():
    text = Forecasting.served.fget(None).read_text(encoding="utf-8")
    assert "import kd" not in text
    assert "from kd" not in text
