"""Small CSV, TSV, JSONL and Parquet files, mutated in their values, types, columns and bytes."""

import csv
import datetime
import io
import json
import random
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict
from datasets.utils.logging import disable_progress_bar

from benchmarks.fuzz.trial import some
from kd.config import RowOptions
from kd.run.data import load_rows
from kd.tasks.classification.options import ClassificationOptions

Row = dict[str, Any]
WORDS = ("good", "bad", "film", "plot", "a", "the", "story", "naïve", "日本", "🎬", "was")
TEXTS: tuple[Any, ...] = (
    *("", " ", "\x00", "a\x00", "a\tb", 'so "it" is', '"', "a\nb", "a\r\nb", "\ufeff", "\u2028", "NA", "null", "None"),
    *(
        "-1",
        "1e400",
        "007",
        "x" * 5000,
        "e\u0301",
        "\u202e",
        "=1+1",
        "['a']",
        "\ud800",
        "\udfff\ud800",
        "good ",
        "GOOD",
    ),
)
VALUES: tuple[Any, ...] = (
    *TEXTS,
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400, 0.5, 1.0, -0.0),
    *(float("nan"), float("inf"), [], ["a"], ["a", "b"], [[1]], {}, {"a": 1}, {"a": {"b": None}}, [None], [{"a": []}]),
)
DAY = datetime.date(2026, 1, 2)
ARROW: tuple[Callable[[int], pa.Array], ...] = (
    lambda n: pa.array([f"t{i}".encode() for i in range(n)]),
    lambda n: pa.array([b"\xff\xfe"] * n),
    lambda n: pa.array([f"t{i}" for i in range(n)], pa.large_string()),
    lambda n: pa.array([f"t{i}" for i in range(n)], pa.string_view()),
    lambda n: pa.array([f"t{i % 2}" for i in range(n)]).dictionary_encode(),
    lambda n: pa.array([i % 2 for i in range(n)], pa.uint64()),
    lambda n: pa.array([i % 2 for i in range(n)], pa.int8()),
    lambda n: pa.array([float(i % 2) for i in range(n)], pa.float32()),
    lambda n: pa.array([i / 3 for i in range(n)]),
    lambda n: pa.array([i % 2 == 0 for i in range(n)]),
    lambda n: pa.array([DAY] * n),
    lambda n: pa.array([datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)] * n),
    lambda n: pa.array([datetime.timedelta(1)] * n),
    lambda n: pa.array([datetime.time(1)] * n),
    lambda n: pa.array([Decimal(i) for i in range(n)]),
    lambda n: pa.nulls(n),
    lambda n: pa.array([[f"t{i}"] for i in range(n)]),
    lambda n: pa.array([{"a": i} for i in range(n)]),
    lambda n: pa.array([[("a", i)] for i in range(n)], pa.map_(pa.string(), pa.int64())),
    lambda n: pa.array([b"ab"] * n, pa.binary(2)),
)
METADATA: tuple[dict[bytes, bytes], ...] = (
    {b"huggingface": b"{"},
    {b"huggingface": b"3"},
    {b"huggingface": b'{"info": {"features": {"text": {"_type": "Nothing"}}}}'},
    {b"huggingface": b'{"info": {"features": {"text": {"dtype": "int64", "_type": "Value"}}}}'},
    {b"huggingface": b'{"info": {"features": {"label": {"names": ["a"], "_type": "ClassLabel"}}}}'},
    {b"huggingface": b'{"info": {"features": []}}'},
    {b"pandas": b"\xff"},
    {b"pandas": b'{"index_columns": ["label"], "columns": []}'},
)
BYTES = (
    *(b"\x00", b"\xff", b"\n", b"\r", b'"', b",", b"\t", b"{", b"}", b"[", b"\\", b"\xef\xbb\xbf", b"\\ud800"),
    *(b"1" * 5000, b"[" * 100_000),
)


disable_progress_bar()


def read(chance: random.Random, folder: Path) -> list[str]:
    """Make a file, a folder of files or a saved data set, read it as a training would, and return the notes."""
    suffix = chance.choice((".csv", ".tsv", ".jsonl", ".parquet", "saved"))
    rows = _mutated(chance, _rows(chance, chance.randint(20, 60)))
    dataset, meant = (_saved if suffix == "saved" else _files)(chance, rows, folder, suffix)
    columns, options = _options(chance, f"train{suffix}")
    task = ClassificationOptions(**columns)
    data = load_rows(RowOptions(dataset=str(dataset), task_options=task, **options))
    for part in (data.train, data.splits.validation, data.splits.test):
        for row in part:
            text = meant.get(row["example_id"], row)[columns["text_column"]]
            assert row[columns["text_column"]] == (text.decode() if isinstance(text, bytes) else text)
    assert all(isinstance(label, str) for label in data.task.labels)
    return list(data.splits.notes)


def _files(chance: random.Random, rows: list[Row], folder: Path, suffix: str) -> tuple[Path, dict[str, Row]]:
    """Write one file or three; returns what to give as data set, and the rows of files that are whole, by id."""
    names, meant = chance.choice((["train"], ["train"], ["train", "test", "dev"])), {}
    for name in names:
        written, own = _written(chance, rows if name == "train" else _rows(chance, 20), suffix)
        torn = _bytes(chance, written)
        (folder / f"{name}{suffix}").write_bytes(torn)
        if torn == written:
            meant |= {f"{name}{suffix}:{place}": row for place, row in enumerate(own)}
    return folder if len(names) > 1 or chance.random() < 0.2 else folder / f"train{suffix}", meant


def _saved(chance: random.Random, rows: list[Row], folder: Path, _: str) -> tuple[Path, dict[str, Row]]:
    """Let `datasets` write a folder, and tear a file of it at times."""
    table = pq.read_table(pa.BufferReader(_parquet(chance, rows, list(rows[0]))[0])).replace_schema_metadata(None)
    kept = [name for name in table.column_names if not pa.types.is_map(table[name].type)]
    data = Dataset(table.select(kept))
    (DatasetDict(train=data) if chance.random() < 0.5 else data).save_to_disk(str(folder / "saved"))
    torn = False
    for file in some(chance, sorted(path for path in folder.rglob("*") if path.is_file()), 1):
        before = file.read_bytes()
        file.write_bytes(_bytes(chance, before))
        torn |= before != file.read_bytes()
    return folder / "saved", {} if torn else {f"train:{place}": row for place, row in enumerate(data.to_list())}


def _rows(chance: random.Random, count: int) -> list[Row]:
    return [
        {
            "text": " ".join(chance.choices(WORDS, k=5)) + f" {chance.random()}",
            "label": chance.choice("abc"),
            "doc": f"d{place // 4}",
            "other": place,
        }
        for place in range(count)
    ]


def _mutated(chance: random.Random, rows: list[Row]) -> list[Row]:
    """Put odd values into some cells or a whole column, and change keys."""
    for _ in range(chance.choice((0, 1, 1, 2, 4))):
        column = chance.choice(("text", "label", "doc", "other"))
        values = some(chance, VALUES, 2) or [None]
        every = chance.random() < 0.15
        for row in rows if every else [chance.choice(rows)]:
            row[column] = chance.choice(values)
    for row in some(chance, rows, 2) if chance.random() < 0.1 else []:
        name = chance.choice(list(row))
        row[chance.choice(("", "text", "group", "example_id", "\ud800", "a\nb", "labels"))] = row.pop(name)
    return rows


def _written(chance: random.Random, rows: list[Row], suffix: str) -> tuple[bytes, list[Row]]:
    """Return a file, and the rows that were meant by it."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    if suffix == ".jsonl":
        return "\n".join(json.dumps(row, ensure_ascii=chance.random() < 0.9) for row in rows).encode(
            errors="backslashreplace"
        ), rows
    if suffix == ".parquet":
        return _parquet(chance, rows, names)
    texts = [{name: _storable(_text(row.get(name))) for name in names} for row in rows]
    out = io.StringIO()
    quoting = chance.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    writer = csv.writer(out, delimiter="\t" if suffix == ".tsv" else ",", quoting=quoting)
    writer.writerows([map(_storable, names), *(row.values() for row in texts)])
    return out.getvalue().encode(chance.choice(("utf-8",) * 8 + ("utf-8-sig", "utf-16"))), texts


def _text(value: Any) -> str:
    return "9" * 5000 if isinstance(value, int) and abs(value) > 10**300 else "" if value is None else str(value)


def _storable(text: str) -> str:
    return text.encode(errors="replace").decode()


def _parquet(chance: random.Random, rows: list[Row], names: list[str]) -> tuple[bytes, list[Row]]:
    """Write columns as Arrow takes them; those that it does not take, and some others, are of an odd type."""
    columns = {}
    for name in names:
        try:
            columns[_storable(name)] = pa.array([row.get(name) for row in rows])
        except (pa.ArrowException, OverflowError, UnicodeEncodeError):
            columns[_storable(name)] = chance.choice(ARROW)(len(rows))
    for name in some(chance, columns, 2) if chance.random() < 0.5 else []:
        columns[name] = chance.choice(ARROW)(len(rows))
    table = pa.table(columns)
    if chance.random() < 0.2:
        table = table.replace_schema_metadata(chance.choice(METADATA))
    sink = pa.BufferOutputStream()
    try:
        pq.write_table(table, sink, store_schema=chance.random() < 0.8)
    except pa.ArrowException:
        pq.write_table(table.select([]), sink)
    return bytes(sink.getvalue()), table.to_pylist()


def _bytes(chance: random.Random, data: bytes) -> bytes:
    """Insert, delete, repeat or change some bytes; most files stay whole."""
    for _ in range(chance.choice((0, 0, 0, 0, 0, 1, 2))):
        at = chance.randint(0, len(data))
        to = min(len(data), at + chance.choice((0, 1, 20, len(data))))
        put = chance.choice((b"", data[at:to] * 2, chance.choice(BYTES), chance.randbytes(3)))
        data = data[:at] + put + data[to:]
    return data


def _options(chance: random.Random, train: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Return columns, mostly the right ones, and further options: a part of the rows, or a file named twice."""
    columns = {"text_column": "text", "label_column": "label", "text_pair_column": ""}
    if chance.random() < 0.15:
        columns[chance.choice(list(columns))] = chance.choice(("doc", "other", "lable", "a\nb", "\ud800", "example_id"))
    given: dict[str, Any] = {"max_train": 12, "labelled": 9, "group_column": "doc", "slice_columns": "other,doc"}
    given |= {"split_seed": 7} if chance.random() < 0.7 else {"validation_file": train, "test_file": "gone.csv"}
    return columns, {name: given[name] for name in some(chance, given, 2)} if chance.random() < 0.5 else {}
