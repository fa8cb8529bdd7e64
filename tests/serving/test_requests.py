"""What is no text is refused with a sentence and 400, whatever MLflow makes of it on the way to the model."""

import json
import os

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.scoring_server import invocations

from tests.serving.models import TASKS
from tests.serving.models import served as saved
from tests.tiny import tokenizer

LONG = "it was a very good film and a very fine story"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    return {name: saved(task, tmp_path_factory.mktemp(name)) for name, task in TASKS.items()}


def asked(model, body, kind="application/json"):
    """The status and what the server says: its predictions, or the sentence of an error."""
    data = body if isinstance(body, bytes | str) else json.dumps(body)
    try:
        given = invocations(data, kind, model, model.metadata.get_input_schema())
    except MlflowException as error:
        said = json.loads(error.serialize_as_json())
        assert "stack_trace" not in said
        return error.get_http_status_code(), said["message"]
    return given.status, json.loads(given.response)["predictions"]


ANSWERED = {
    "a list": {"inputs": ["bad film", "good"]},
    "instances": {"instances": ["bad film", "good"]},
    "objects": {"inputs": [{"text": "bad film"}, {"text": "good"}]},
    "objects of another name": {"inputs": [{"review": "bad film"}, {"review": "good"}]},
    "objects with more": {"inputs": [{"id": 1, "text": "bad film"}, {"text": "good", "more": [None]}]},
    "instances with more": {"instances": [{"id": 1, "text": "bad film"}, {"id": 2, "text": "good"}]},
    "columns": {"inputs": {"id": [1, 2], "text": ["bad film", "good"]}},
    "split": {"dataframe_split": {"columns": ["text"], "data": [["bad film"], ["good"]]}},
    "split without names": {"dataframe_split": {"data": [["bad film"], ["good"]]}},
    "split with more": {"dataframe_split": {"columns": ["id", "text"], "data": [["a", "bad film"], ["b", "good"]]}},
    "records with more": {"dataframe_records": [{"n": None, "text": "bad film"}, {"n": 2, "text": "good"}]},
}


@pytest.mark.parametrize("form", ANSWERED)
def test_every_payload_is_answered_by_its_text_column_whatever_stands_beside_it(served, form):
    assert asked(served["text"], ANSWERED[form]) == (200, served["text"].predict(["bad film", "good"]))


def test_csv_is_answered_by_its_text_column(served):
    wanted = served["text"].predict(["bad film", "good"])
    for table in ("text\nbad film\ngood\n", "id,text\n1,bad film\n2,good\n"):
        assert asked(served["text"], table, "text/csv") == (200, wanted)


@pytest.mark.parametrize(
    "request_",
    [
        ["bad film"],
        "bad film",
        ("bad film",),
        np.array(["bad film"]),
        np.array("bad film"),
        np.array(["bad film"], dtype=object),
        pd.Series(["bad film"], name="review"),
        pd.DataFrame({"review": ["bad film"]}),
        pd.DataFrame({"id": ["good"], "text": ["bad film"]}),
        {"text": ["bad film"]},
    ],
    ids=lambda one: type(one).__name__,
)
def test_in_python_a_string_a_list_an_array_a_series_and_a_table_are_the_same(served, request_):
    assert served["text"].predict(request_) == served["text"].predict(["bad film"])


REFUSED = [
    ({"inputs": ["good", None]}, "row 1: a text is needed, got null"),
    ({"inputs": [1, 2]}, "row 0: a text is needed, got '1'"),
    ({"inputs": ["good", 5]}, "row 1: '5' was sent as a number"),
    ({"inputs": [LONG, 5]}, "row 1: '5' was sent as a number"),
    ({"inputs": [LONG, 2.5]}, "row 1: '2.5' was sent as a number"),
    ({"inputs": ["good", True]}, "row 1: 'True' was sent as a number"),
    ({"inputs": [["good", "bad"]]}, "row 0: a text is needed, got a list"),
    ({"inputs": [["good"]]}, "row 0: a text is needed, got a list"),
    ({"inputs": [["good"], "bad"]}, "inhomogeneous"),
    ({"inputs": []}, "there is no row"),
    ({"inputs": None}, "row 0: a text is needed, got null"),
    ({"inputs": [{"text": "good"}, {"text": 5}]}, "row 1: a text is needed, got '5' (int)"),
    ({"inputs": [{"text": "good"}, {"id": 5}]}, "row 1: a text is needed, got null"),
    ({"inputs": [{"text": ["good"]}]}, "row 0: a text is needed, got a list"),
    ({"inputs": ["good", {"text": "good"}]}, "row 1: a text is needed, got an object"),
    ({"inputs": [{"a": "good", "b": "bad"}]}, "a table needs the column 'text' once; it has 'a', 'b'"),
    ({"inputs": {"text": [LONG, 5]}}, "row 1: '5' was sent as a number"),
    ({"inputs": ["good", "\ud800"]}, "row 1: half a surrogate pair"),
    ({"instances": ["good", None]}, "row 1: a text is needed, got null"),
    ({"instances": [{"text": LONG}, {"text": 5}]}, "row 1: '5' was sent as a number"),
    ({"instances": [{"text": "good"}, {"text": None}]}, "row 1: a text is needed, got null"),
    ({"dataframe_split": {"columns": ["text"], "data": [["good"], [None]]}}, "row 1: a text is needed, got null"),
    ({"dataframe_split": {"columns": ["text"], "data": [["good"], [5]]}}, "row 1: a text is needed, got '5' (int)"),
    ({"dataframe_split": {"columns": ["text", "text"], "data": [["a", "b"]]}}, "it has 'text', 'text'"),
    ({"dataframe_records": [{"text": "good"}, {"text": True}]}, "row 1: a text is needed, got 'True' (bool)"),
]


@pytest.mark.parametrize(("body", "said"), REFUSED)
def test_what_is_no_text_is_refused_though_mlflow_makes_texts_of_numbers(served, body, said):
    status, message = asked(served["text"], body)
    assert status == 400
    assert said in message
    assert "\n" not in message
    assert "Failed to predict" not in message  # MLflow would repeat the whole request


def test_a_text_of_digits_is_answered_wherever_it_can_be_told_from_a_number(served):
    for body in ({"inputs": ["5", "good"]}, {"inputs": [{"text": "5"}, {"text": LONG}]}, {"inputs": [LONG, "007"]}):
        assert asked(served["text"], body)[0] == 200


def test_pairs_are_answered_by_name_and_never_by_their_first_text_alone(served):
    rows = [{"two": "bad", "id": 3, "one": "good"}, {"two": LONG, "id": 4, "one": "film"}]
    wanted = served["pair"].predict(pd.DataFrame(rows))
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    for body in ({"inputs": rows}, {"inputs": columns}, {"dataframe_records": rows}, {"instances": rows}):
        assert asked(served["pair"], body) == (200, wanted)
    for body, said in (
        ({"inputs": ["good"]}, "a table with the columns 'one' and 'two' is needed"),
        ({"inputs": [["good", "bad"]]}, "a text is needed, got a list"),
        ({"inputs": [{"one": "good"}]}, "a table needs the column 'two' once; it has 'one'"),
        ({"dataframe_records": [{"one": "good", "two": None}]}, "row 0, column 'two': a text is needed, got null"),
        ({"inputs": {"one": ["good"], "two": ["a", "b"]}}, "the columns 'one' and 'two' have 1, 2 rows"),
    ):
        status, message = asked(served["pair"], body)
        assert status == 400
        assert said in message


@pytest.mark.parametrize(
    ("form", "side"),
    [
        ("safetensors", "left"),
        ("safetensors", "right"),
        pytest.param("onnx", "left", marks=pytest.mark.integration),
        pytest.param("onnx-int8", "right", marks=pytest.mark.integration),
    ],
)
def test_a_row_without_a_token_is_refused_alone_and_in_company_as_in_training(tmp_path, form, side):
    words = tokenizer()
    words.backend_tokenizer.post_processor = None  # no [CLS] and [SEP]: an empty text has no token
    words.padding_side = side
    model = saved(TASKS["text"], tmp_path, form, words)
    for texts, row in ((["good", ""], 1), ([""], 0), (["good"] * 130 + ["  "], 130)):
        assert asked(model, {"inputs": texts}) == (
            400,
            f"row {row}: the text has no token: the tokenizer knows no word of it",
        )


def test_long_texts_are_answered_as_whole_ones_are(served, monkeypatch):
    model = served["text"].unwrap_python_model()
    texts = [f"{LONG} " * 300, "good", " " * 5000 + LONG, LONG]
    cut = served["text"].predict(texts)
    seen = max(map(len, model._shortened(model.texts(texts))[0]))
    monkeypatch.setattr(model, "_shortened", lambda columns: columns)
    assert cut == served["text"].predict(texts)
    assert seen < 10_000


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o007])
def test_the_stored_model_has_the_mode_of_every_new_file(tmp_path, mask):
    before = os.umask(mask)
    try:
        saved(TASKS["text"], tmp_path / "model")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "model").rglob("*") if path.is_file()}
    assert {"served.py", "model.safetensors"} <= modes.keys()
    assert set(modes.values()) == {0o666 & ~mask}
