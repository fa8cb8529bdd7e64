"""Batches are, value for value, those of transformers' own collator, whichever way a tokenizer pads."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import DataCollatorWithPadding

from kd.base.types import Splits
from kd.data.encoded import encoded
from kd.models.tokens import NUMBERS, padded
from kd.tasks.classification.task import Classification
from tests.tiny import WORDS, tokenizer


def rows(count, longest):
    generator = np.random.default_rng(0)

    def texts():
        return [" ".join(generator.choice(WORDS, generator.integers(1, longest))) for _ in range(count)]

    return Dataset.from_dict({"text": texts(), "second": texts(), "label": ["a", "b"] * (count // 2)})


def made(side="right", token_types=True, pad=None, pad_type=0):
    result = tokenizer()
    result.padding_side = side
    result._pad_token_type_id = pad_type
    if not token_types:
        result.model_input_names = ["input_ids", "attention_mask"]
    if pad:
        result.pad_token = pad
    return result


TOKENIZERS = {
    "right": made(),
    "left": made("left"),
    "no token types": made(token_types=False),
    "left, no token types": made("left", token_types=False),
    "another token to pad with": made(pad="[MASK]"),
    "another type to pad with": made("left", pad_type=3),
}


@pytest.mark.parametrize("second", ["", "second"], ids=["texts", "pairs"])
@pytest.mark.parametrize("how", TOKENIZERS.values(), ids=TOKENIZERS)
@pytest.mark.parametrize("longest", [2, 30], ids=["all alike", "ragged"])
def test_a_batch_is_what_the_library_makes_of_the_same_rows(how, second, longest):
    data = rows(32, longest)
    task = Classification("text", second, "label", 24).fitted(Splits(data, data, data, ()))
    plain = task.encode(data, how)
    assert ("token_type_ids" in plain.column_names) == ("token_type_ids" in how.model_input_names)
    stored = encoded(data, lambda part: task.encode(part, how), {"how": "x"}, {})
    order = np.random.default_rng(1).permutation(32)[:20].tolist()
    lists = [{name: value for name, value in plain[place].items() if name not in NUMBERS} for place in order]
    expected = dict(DataCollatorWithPadding(how)(lists))
    for given in (stored.__getitems__(order), [{**plain[place], "feature": place} for place in order]):
        got = task.collate(how)(given)
        assert got.features.tolist() == order
        assert set(got.truth) == {"labels"}  # which the model must not see
        assert not set(got.truth) & set(got.inputs)
        assert {*got.inputs, *got.truth} == set(expected)
        for name, values in expected.items():
            made_here = {**got.inputs, **got.truth}[name]
            assert made_here.dtype == values.dtype == torch.int64
            assert torch.equal(made_here, values), name


def test_what_is_collated_may_be_written_to_without_touching_what_is_stored():
    data = rows(4, 10)
    task = Classification("text", "", "label", 24).fitted(Splits(data, data, data, ()))
    stored = encoded(data, lambda part: task.encode(part, tokenizer()), {"how": "y"}, {})
    first = task.collate(tokenizer())(stored.__getitems__([0]))
    kept = first.inputs["input_ids"].clone()
    first.inputs["input_ids"].zero_()
    assert kept.any()
    assert torch.equal(task.collate(tokenizer())(stored.__getitems__([0])).inputs["input_ids"], kept)


def test_features_of_one_example_keep_their_own_numbers_and_the_truth_of_every_token():
    """Several features may belong to one example, and a task may have its truth at each token."""
    features = [
        {"ids": np.array([5, 6, 7]), "tags": np.array([1, 0, 2]), "example": 4, "feature": 8, "length": 3},
        {"ids": np.array([8]), "tags": np.array([1]), "example": 4, "feature": 9, "length": 1},
    ]
    for left, expected in ((False, [[1, 0, 2], [1, -100, -100]]), (True, [[1, 0, 2], [-100, -100, 1]])):
        got = padded(features, {"ids": 0, "tags": -100}, left, truth=("tags",))
        assert got.features.tolist() == [8, 9]
        assert got.truth["tags"].tolist() == expected
        assert list(got.inputs) == ["ids"]


def test_a_batch_goes_to_a_device_whole_and_its_numbers_stay_where_they_are_read():
    """`meta` is a device that every machine has."""
    data = rows(4, 10)
    task = Classification("text", "second", "label", 24).fitted(Splits(data, data, data, ()))
    stored = encoded(data, lambda part: task.encode(part, tokenizer()), {"how": "z"}, {})
    batch = task.collate(tokenizer())(stored.__getitems__([2, 0, 3]))
    moved = batch.to("meta")
    assert {value.device.type for part in (moved.inputs, moved.truth) for value in part.values()} == {"meta"}
    assert [list(part) for part in (moved.inputs, moved.truth)] == [list(part) for part in (batch.inputs, batch.truth)]
    assert isinstance(moved.features, np.ndarray)
    assert moved.features.tolist() == [2, 0, 3]
    assert {value.device.type for part in (batch.inputs, batch.truth) for value in part.values()} == {"cpu"}
    assert len(moved) == len(batch) == 3
