"""Rows without a target: what gives validation or test away is left out, and nothing but inputs comes along."""

import json

import pytest
from datasets import ClassLabel, Dataset

from kd.base.types import UserError
from kd.data.digests import digest
from kd.data.sources import load, load_inputs
from kd.data.unlabelled import joined, without_shared
from tests.data.test_splits import request, save, some


def inputs_of(folder, **options):
    wanted, inputs, _, holds = request(folder, **options)
    return wanted, inputs, holds


def rows(texts, start=0, groups=None, **more) -> Dataset:
    ids = [f"r:{i}" for i in range(start, start + len(texts))]
    return Dataset.from_dict({"text": texts, "example_id": ids, "group": groups or ids, **more})


def test_a_row_with_the_text_of_a_held_out_row_is_left_out_wherever_it_came_from():
    held_out = rows(["a", "b"]), rows(["c"], 5)
    kept = without_shared(rows(["x", "a", "y", "c", "c"], 9), held_out, ("text",))
    assert list(kept["text"]) == ["x", "y"]


def test_a_text_is_held_out_whatever_its_case_and_white_space():
    held_out = rows(["Wo ist\tdie Straße?"])
    kept = without_shared(rows([" wo IST die  STRASSE?\n", "wo ist die Strasse", "Wo ist?"], 9), (held_out,), ("text",))
    assert list(kept["text"]) == ["wo ist die Strasse", "Wo ist?"]


def test_a_row_of_a_held_out_group_is_left_out_and_ids_are_no_groups():
    held_out = rows(["a", "b"], groups=["g", "h"])
    kept = without_shared(rows(["x", "y", "z"], groups=["g", "i", "r:2"]), (held_out,), ("text",))
    assert list(kept["text"]) == ["y", "z"]
    assert len(without_shared(rows(["x"]), (rows(["a"]),), ("text",))) == 1  # both are r:0


@pytest.mark.parametrize("label", [["no", "yes"], [0, 1]])
def test_joined_rows_keep_the_features_of_those_with_labels_and_have_none_themselves(label):
    known = rows(["a", "b"], label=label, other=[1, 2])
    if label == [0, 1]:
        known = known.cast_column("label", ClassLabel(names=["no", "yes"]))
    whole = joined(known, rows(["c", "d", "e"], 2), ("text",), "label")
    assert list(whole["text"]) == ["a", "b", "c", "d", "e"]
    assert list(whole["label"]) == [*label, None, None, None]
    assert whole.features["label"] == known.features["label"]
    assert digest(whole.select(range(2)), ["text", "label"]) == digest(known, ["text", "label"])
    assert digest(whole, ["text", "label"]) != digest(known, ["text", "label"])


def test_a_column_of_another_kind_is_refused():
    known = rows(["a", "b"], label=[0, 1])
    with pytest.raises(UserError, match="column 'text' is number or date there but text in the data set"):
        joined(known, rows([1, 2, 3]), ("text",), "label")


def test_of_a_source_the_inputs_of_its_training_rows_are_read_and_nothing_else(tmp_path):
    save(tmp_path / "train.jsonl", [{**row, "label": None, "secret": 1} for row in some(5)])
    for split in ("validation", "test"):
        save(tmp_path / f"{split}.jsonl", some(3, 90))
    found = load_inputs(*inputs_of(tmp_path))
    assert set(found.column_names) == {"text", "example_id", "group"}
    assert list(found["text"]) == [f"row {i}" for i in range(5)]
    assert list(found["group"]) == list(found["example_id"])
    assert not {*found["example_id"]} & {*load(*request(tmp_path, target="")).train["example_id"]}


def test_groups_of_a_source_are_read_where_it_has_them(tmp_path):
    save(tmp_path / "with.jsonl", some(9))
    save(tmp_path / "without.jsonl", [{"text": row["text"]} for row in some(9)])
    assert list(load_inputs(*inputs_of(tmp_path / "with.jsonl", group="doc"))["group"])[6:8] == ["d0", "d1"]
    plain = load_inputs(*inputs_of(tmp_path / "without.jsonl", group="doc"))
    assert list(plain["group"]) == list(plain["example_id"])


@pytest.mark.parametrize(
    ("rows", "said"),
    [([], "no rows"), ([{"txt": "a"}], "did you mean"), ([{"text": "a"}, {"text": None}], "no value in 1 of 2 rows")],
    ids=["empty", "another column", "missing text"],
)
def test_a_source_that_cannot_be_learned_from_is_refused(tmp_path, rows, said):
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=said):
        load_inputs(*inputs_of(path))
