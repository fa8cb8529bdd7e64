"""Mutated requests to a served model, as MLflow's server hands them on: answered, or refused with 400 and a sentence.

A request that is not torn is checked: it is answered if and only if each row has a text, and then as these texts are.
"""

import io
import json
import math
import random
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.scoring_server import invocations

from benchmarks.fuzz.trial import some
from kd.base.types import UserError
from tests.serving.models import TASKS, served

TEXTS = (
    *(
        "good film",
        "the plot was bad",
        "",
        " ",
        "5",
        "-2.5",
        "True",
        "nan",
        "007",
        "1e5",
        "null",
        "中文",
        "e\u0301",
        "🙂",
    ),
    *("a\x00b", "[SEP]", "not good " * 3000, "x" * 20_000, " " * 30_000 + "bad", "one\ntwo", '"quoted", and more'),
)
OTHERS = (
    *(None, 5, -1, 2.5, True, False, math.nan, math.inf, 10**30, 10**400, "\ud800", "a\udfff", b"bytes"),
    *([], ["good"], ["good", "bad"], {}, {"text": "good"}, [[["good"]]]),
)
JSON_FORMS = ("list", "objects", "columns", "instances", "instance objects", "split", "records")
FORMS = (*JSON_FORMS, "csv", "parquet", "python list", "series", "table", "array")
BYTES = (b"\x00", b"\xff", b'"', b"{", b"}", b"[", b",", b"\\ud800", b"null", b"NaN", b"\xef\xbb\xbf")
AMBIGUOUS = "cannot be told from one in a list"


@cache
def _model() -> tuple[Any, tempfile.TemporaryDirectory[str]]:
    folder = tempfile.TemporaryDirectory()  # goes with the process
    return served(TASKS["text"], Path(folder.name)), folder


@cache
def _alone(text: str) -> str:
    """Return the answer to one text, which no conversion comes near."""
    return str(_model()[0].predict([{"text": text}])[0]["label"])


def ask(chance: random.Random, folder: Path) -> list[str]:
    """Make a request, keep it in the folder, and ask; a refusal is a UserError, as in commands."""
    form = chance.choice(FORMS)
    values = [chance.choice(TEXTS) for _ in range(chance.choice((0, 1, 1, 2, 3, 5, 130)))]
    for place in some(chance, range(len(values)), 2) if chance.random() < 0.5 else []:
        values[place] = chance.choice(OTHERS)
    column = chance.choice(("text", "text", "text", "review"))
    others = some(chance, ("id", "n", "more"), 2) if column == "text" else []
    if form in ("python list", "series", "table", "array"):
        given = _python(form, values, column, others)
        (folder / "request.txt").write_text(repr(given)[:100_000], encoding="utf-8", errors="backslashreplace")
        answers = _refused_or(lambda: _model()[0].predict(given))
    else:
        body, kind = _body(chance, form, values, column, others)
        torn = _torn(chance, body)
        (folder / "request").write_bytes(torn)
        answers = _refused_or(lambda: _served(torn, kind))
        if torn != body:
            return []
    _check(form, values, answers)
    return []


def _refused_or(call: Any) -> list[dict[str, Any]] | str:
    """Return the answers, or the words of a refusal with 400."""
    try:
        answers: list[dict[str, Any]] = call()
        return answers
    except MlflowException as error:
        refused = error
    said = json.loads(refused.serialize_as_json())
    ours = type(refused).__name__ == "Refused"
    assert refused.get_http_status_code() == 400, said
    assert not ours or said.keys() == {"error_code", "message"}
    return str(said["message"]) if ours else f"MLflow: {said['message'].splitlines()[0][:500]}"


def _check(form: str, values: list[Any], answers: list[dict[str, Any]] | str) -> None:
    if values and all(isinstance(value, dict) for value in values):
        return  # objects in place of texts are a table
    meant = bool(values) and all(_is_text(value) for value in values)
    if isinstance(answers, str):
        excused = AMBIGUOUS in answers or form == "csv"  # pandas reads digits as numbers and NA as missing
        assert not meant or excused, f"{form}: all rows are texts, but it said {answers}"
        raise UserError(answers)
    assert meant or form == "csv", f"{form}: answered {values!r:.500}"
    assert [one["label"] for one in answers] == [_alone(str(value)) for value in values] or form == "csv"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.encode(errors="replace").decode() == value


def _served(body: bytes, kind: str) -> Any:
    model = _model()[0]
    given = invocations(body, kind, model, model.metadata.get_input_schema())
    assert given.status in (200, 415)
    if given.status == 415:
        raise UserError(given.response.splitlines()[0])
    found = json.loads(given.response)
    return found["predictions"] if isinstance(found, dict) else found


def _body(chance: random.Random, form: str, values: list[Any], column: str, others: list[str]) -> tuple[bytes, str]:
    values[:] = ["bytes" if isinstance(value, bytes) else value for value in values]
    rows = [{**{name: place for name in others}, column: value} for place, value in enumerate(values)]
    names = [*others, column]
    if form in ("csv", "parquet"):
        return _file(form, values, rows, names)
    filled: dict[str, Any] = {
        "list": {"inputs": values},
        "instances": {"instances": values},
        "objects": {"inputs": rows},
        "instance objects": {"instances": rows},
        "columns": {"inputs": {name: [row[name] for row in rows] for name in names}},
        "split": {"dataframe_split": {"columns": names, "data": [[row[name] for name in names] for row in rows]}},
        "records": {"dataframe_records": rows},
    }[form]
    if chance.random() < 0.1:
        filled["params"] = {"temperature": 2}
    return json.dumps(filled, ensure_ascii=chance.random() < 0.5).encode(errors="surrogatepass"), chance.choice(
        ("application/json",) * 4 + ("application/json; charset=utf-8",)
    )


def _file(form: str, values: list[Any], rows: list[dict[str, Any]], names: list[str]) -> tuple[bytes, str]:
    for row, place in zip(rows, range(len(values)), strict=True):
        values[place] = row[names[-1]] = value if _is_text(value := values[place]) else None
    table, out = pd.DataFrame(rows, columns=names), io.BytesIO()
    if form == "csv":
        return table.to_csv(index=False).encode(), "text/csv"
    table.to_parquet(out)
    return out.getvalue(), "application/vnd.apache.parquet"


def _python(form: str, values: list[Any], column: str, others: list[str]) -> Any:
    if form == "python list":
        return values
    if form == "array":
        made = np.empty(len(values), dtype=object)
        made[:] = values
        return made
    series = pd.Series(values, name=column, dtype=object)
    return series if form == "series" else pd.DataFrame({**dict.fromkeys(others, 1), column: series})


def _torn(chance: random.Random, body: bytes) -> bytes:
    """Insert, delete or repeat some bytes of one request in four."""
    for _ in range(chance.choice((0,) * 6 + (1, 3))):
        at = chance.randint(0, len(body))
        to = min(len(body), at + chance.choice((0, 1, 20, len(body))))
        body = body[:at] + chance.choice((b"", body[at:to] * 2, *BYTES)) + body[to:]
    return body
