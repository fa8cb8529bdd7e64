"""Digests name the rows themselves: not their storage, and not a sample of them."""

import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, concatenate_datasets

from kd.data.digests import digest, row_keys


def rows(count: int = 3000) -> Dataset:
    return Dataset.from_dict(
        {"example_id": [f"f:{i}" for i in range(count)], "text": [f"t{i}" for i in range(count)], "label": [0] * count}
    )


def test_chunking_and_index_mappings_do_not_change_the_digest():
    whole = rows()
    chunked = concatenate_datasets(
        [whole.select(range(7)), whole.select(range(7, 2000)), whole.select(range(2000, 3000))]
    )
    mapped = whole.select([*reversed(range(3000))]).select([*reversed(range(3000))])
    assert digest(chunked, ["text", "label"]) == digest(mapped, ["text", "label"]) == digest(whole, ["text", "label"])


@pytest.mark.parametrize("row", [0, 999, 1000, 2999])
@pytest.mark.parametrize(("column", "value"), [("text", "other"), ("label", 1), ("example_id", "g:1")])
def test_a_change_in_any_row_changes_the_digest(row, column, value):
    whole = rows()
    values = list(whole[column])
    values[row] = value
    changed = whole.remove_columns([column]).add_column(column, values)
    assert digest(changed, ["text", "label"]) != digest(whole, ["text", "label"])


def test_row_order_changes_the_digest():
    whole = rows(10)
    assert digest(whole.select([1, 0, *range(2, 10)]), ["text"]) != digest(whole, ["text"])


def test_columns_left_out_do_not_change_the_digest():
    assert digest(rows(10).add_column("x", list(range(10))), ["text"]) == digest(rows(10), ["text"])


def test_values_that_run_together_are_told_apart():
    data = Dataset.from_dict({"a": ["x", "xy", '", "'], "b": ["yz", "z", ""]})
    assert len(set(row_keys(data, ["a", "b"]))) == 3


def test_missing_empty_and_spelled_out_null_are_told_apart():
    data = Dataset.from_dict({"a": [None, "", "null", "None"]})
    assert len(set(row_keys(data, ["a"]))) == 4


def test_lists_bytes_labels_and_dictionary_encoding_are_readable():
    table = pa.table({"l": [["a", "b"], []], "b": [b"\xff", b"\x00"], "d": pa.array(["x", "y"]).dictionary_encode()})
    data = Dataset(table).add_column("c", [0, 1]).cast_column("c", ClassLabel(names=["no", "yes"]))
    plain = Dataset.from_dict({"l": [["a", "b"], []], "b": [b"\xff", b"\x00"], "d": ["x", "y"], "c": [0, 1]})
    assert list(row_keys(data, ["l", "b", "d", "c"])) == list(row_keys(plain, ["l", "b", "d", "c"]))


def test_digest_is_32_hexadecimal_digits_and_stays_the_same_across_releases():
    value = digest(Dataset.from_dict({"example_id": ["f:0"], "text": ["é"]}), ["text"])
    assert len(value) == 32
    assert int(value, 16) >= 0
    assert value == "2f400701c73f76a001a73e90b498ed3c"


def test_the_names_behind_class_labels_count_else_good_and_bad_could_be_swapped():
    plain = rows(4)
    one, two = (plain.cast_column("label", ClassLabel(names=names)) for names in (["good", "bad"], ["bad", "good"]))
    assert digest(one, ["text", "label"]) != digest(two, ["text", "label"])
