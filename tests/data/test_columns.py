"""A column holds what its role needs, whatever it was read from: nothing is learned of how Python writes a list."""

import datetime
import json
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from kd.base.types import UserError
from kd.config import RowOptions
from kd.data import hub
from kd.data.columns import near_classes, plain
from kd.data.sources import load

DAY = datetime.date(2026, 1, 2)
HOLDS = {"text": "text", "label": "class"}


def rows(**columns):
    known = {"text": [f"text {i}" for i in range(20)], "label": ["a", "b"] * 10, "doc": [f"d{i}" for i in range(20)]}
    return pa.table({**known, **columns})


def read(path, **options):
    return load(RowOptions(dataset=str(path), **options), ("text",), "label", HOLDS)


def parquet(folder, **columns):
    pq.write_table(rows(**columns), folder / "d.parquet")
    return folder / "d.parquet"


def jsonl(folder, **columns):
    lines = rows(**columns).to_pylist()
    (folder / "d.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "d.jsonl"


def saved(folder, **columns):
    Dataset(rows(**columns)).save_to_disk(str(folder / "saved"))
    return folder / "saved"


ODD = {
    "lists": [["a", "b"]] * 20,
    "objects": [{"a": 1}] * 20,
    "bytes that are not UTF-8": [b"ok", b"\xff"] * 10,
    "fractions": [1.0, 2.5] * 10,
    "dates": [DAY] * 20,
}


@pytest.mark.parametrize("source", [parquet, jsonl, saved])
@pytest.mark.parametrize("column", ["text", "label", "doc", "extra"])
@pytest.mark.parametrize("what", ODD)
def test_no_column_is_learned_grouped_or_sliced_by_as_python_writes_it(tmp_path, source, column, what):
    if source is jsonl and what in ("bytes that are not UTF-8", "dates"):
        pytest.skip("JSON has none")
    if (what == "dates" and column in ("doc", "extra")) or (what, column) == ("fractions", "extra"):
        pytest.skip("allowed there")
    options = {"slice_columns": "extra"} if column == "extra" else {"group_column": "doc"}
    with pytest.raises(UserError) as caught:
        read(source(tmp_path, **{column: ODD[what]}), **options)
    said, row = str(caught.value), int(what.startswith("bytes") or (what == "fractions" and column != "text"))
    assert f"column '{column}' of" in said
    assert f"holds {what}, first in row {row} (counted from 0): " in said
    assert "\n" not in said


@pytest.mark.parametrize("values", [[1, 2] * 10, [True, False] * 10])
def test_text_that_is_no_text_is_refused_rather_than_learned_as_digits(tmp_path, values):
    with pytest.raises(
        UserError, match=r"column 'text' of 'd.jsonl' holds (whole numbers|true and false), first in row 0"
    ):
        read(jsonl(tmp_path, text=values))


def test_what_the_hub_gives_is_checked_too(monkeypatch):
    data = Dataset.from_dict({"text": [["a"]] * 20, "label": [0, 1] * 10},
                             Features(text=List(Value("string")), label=ClassLabel(names=["no", "yes"])))  # fmt: skip
    monkeypatch.setattr(hub, "load", lambda identifier: DatasetDict(train=data))
    with pytest.raises(UserError, match="column 'text' of 'train' holds lists, first in row 0"):
        read("owner/name")


@pytest.mark.parametrize("column", ["text", "label", "doc"])
@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(2), pa.binary_view()])
def test_bytes_that_are_text_are_read_as_that_with_a_word(tmp_path, column, kind):
    numbers = [0, 1] * 10 if column == "label" else range(20)
    splits = read(parquet(tmp_path, **{column: pa.array([f"{i:02}".encode() for i in numbers], kind)}),
                  group_column="doc" if column == "doc" else "")  # fmt: skip
    assert set(splits.train[column]) <= {f"{i:02}" for i in numbers}
    assert any(f"Column '{column}' of 'd.parquet': its bytes were read as UTF-8 text" in note for note in splits.notes)


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())])
def test_every_way_of_storing_text_is_the_same_text(tmp_path, kind):
    texts = pa.array([f"text {i}" for i in range(20)])
    texts = texts.dictionary_encode() if pa.types.is_dictionary(kind) else texts.cast(kind)
    splits = read(
        parquet(
            tmp_path,
            text=texts,
            label=pa.array(["a", "b"] * 10, kind if kind in (pa.large_string(), pa.string_view()) else pa.string()),
        )
    )
    assert splits.notes == read(parquet(tmp_path)).notes
    assert splits.train.to_dict() == read(parquet(tmp_path)).train.to_dict()


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64(), pa.decimal128(5, 1)])
def test_whole_numbers_that_a_tool_wrote_as_fractions_are_the_same_classes_and_groups(tmp_path, kind):
    values = pa.array([Decimal(i) for i in [1, 2] * 10]).cast(kind)
    splits = read(parquet(tmp_path, label=values, doc=pa.array(range(20)).cast(pa.float64())), group_column="doc")
    assert set(splits.train["label"]) == {1, 2}
    assert set(splits.train["group"]) <= set(map(str, range(20)))
    assert sum("written as 1.0, were read as 1" in note for note in splits.notes) == 2


@pytest.mark.parametrize("column", ["label", "doc"])
def test_a_class_or_group_with_a_nul_is_refused_because_arrays_of_text_drop_it(tmp_path, column):
    with pytest.raises(UserError, match=rf"'{column}' of 'd.jsonl' holds a NUL character, first in row 1 .*'b\\x00'"):
        read(jsonl(tmp_path, **{column: ["a", "b\0"] * 10}), group_column="doc")


def test_a_class_number_without_a_name_is_refused_rather_than_failing_later():
    data = Dataset.from_dict({"label": [0, 1]}).cast_column("label", ClassLabel(names=["no", "yes"]))
    damaged = Dataset(pa.table({"label": [0, 7]}), info=data.info)
    with pytest.raises(UserError, match="holds a number beyond its 2 class names, first in row 1"):
        plain(damaged, "label", "class", "train")


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64()])
def test_a_parquet_class_number_without_a_name_is_refused_before_it_is_cast(tmp_path, kind):
    names = b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": ["a", "b"]}}}}'
    top = 7 if kind == pa.int8() else 2**63
    table = rows(label=pa.array([0, top] * 10, kind)).replace_schema_metadata({b"huggingface": names})
    pq.write_table(table, tmp_path / "d.parquet")
    with pytest.raises(UserError, match="holds a number beyond its 2 class names, first in row 1"):
        read(tmp_path / "d.parquet")


def test_columns_that_nobody_asked_for_are_not_read(tmp_path):
    odd = pa.array([[("a", 1)]] * 20, pa.map_(pa.string(), pa.int64()))
    assert set(read(parquet(tmp_path, other=odd)).train.column_names) == {"text", "label", "example_id", "group"}
    path = jsonl(tmp_path)
    path.write_text("".join(f'{line[:-1]}, "other": {other}}}\n' for line, other in zip(
        path.read_text().splitlines(), ['"a"', "1", "[1]", str(2**70)] * 5, strict=True)))  # fmt: skip
    assert len(read(path).train) == 16


def test_an_asked_for_column_of_a_type_that_nothing_can_use_is_refused_by_name(tmp_path):
    odd = pa.array([[("a", 1)]] * 20, pa.map_(pa.string(), pa.int64()))
    with pytest.raises(UserError, match=r"column 'text' of 'd.parquet' holds objects, first in row 0"):
        read(parquet(tmp_path, text=odd))


@pytest.mark.parametrize(
    "metadata", [b"{", b"3", b'{"info": {"features": {"label": {"_type": "ClassLabel"}}}}', b"\xff"]
)
def test_damaged_metadata_is_refused_because_it_may_have_named_the_classes(tmp_path, metadata):
    table = rows(label=[0, 1] * 10).replace_schema_metadata({b"huggingface": metadata})
    pq.write_table(table, tmp_path / "d.parquet")
    with pytest.raises(UserError, match="its metadata 'huggingface' is damaged"):
        read(tmp_path / "d.parquet")


def test_metadata_of_other_tools_and_of_columns_that_are_not_there_does_no_harm(tmp_path):
    features = b'{"info": {"features": {"gone": {"_type": "Nothing"}, "text": {"_type": "Value", "dtype": "int64"}}}}'
    table = rows().replace_schema_metadata({b"huggingface": features, b"pandas": b"\xff"})
    pq.write_table(table, tmp_path / "d.parquet")
    assert len(read(tmp_path / "d.parquet").train) == 16


def test_classes_that_differ_by_blanks_or_case_are_named_in_pairs():
    assert near_classes(["good", "bad", "Bad", "good", None], "label") != []
    (note,) = near_classes(["good ", "bad", "good", "so  so", "So so", 1], "label")
    assert "'good' and 'good '" in note
    assert "'So so' and 'so  so'" in note
    assert "bad" not in note
    assert near_classes(["a", "b", 1, True], "label") == []
