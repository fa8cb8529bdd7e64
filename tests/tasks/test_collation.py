"""Batches are, value for value, those of transformers' own collator, whichever way a tokenizer pads."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import DataCollatorWithPadding

from kd.base.types import Splits
from kd.data.encoded import encoded
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
    task = Classification("text", second, "label").fitted(Splits(data, data, data, ()))
    plain = task.encode(data, how, 24)
    assert ("token_type_ids" in plain.column_names) == ("token_type_ids" in how.model_input_names)
    stored = encoded(data, lambda part: task.encode(part, how, 24), {"how": "x"}, {})
    order = np.random.default_rng(1).permutation(32)[:20].tolist()
    lists = [{name: value for name, value in plain[place].items() if name != "length"} for place in order]
    expected = dict(DataCollatorWithPadding(how)(lists))
    for given in (stored.__getitems__(order), plain.__getitems__(order)):
        got = task.collate(how)(given)
        assert set(got) == set(expected)
        for name, values in expected.items():
            assert got[name].dtype == values.dtype == torch.int64
            assert torch.equal(got[name], values), name


def test_what_is_collated_may_be_written_to_without_touching_what_is_stored():
    data = rows(4, 10)
    task = Classification("text", "", "label").fitted(Splits(data, data, data, ()))
    stored = encoded(data, lambda part: task.encode(part, tokenizer(), 24), {"how": "y"}, {})
    first = task.collate(tokenizer())(stored.__getitems__([0]))
    kept = first["input_ids"].clone()
    first["input_ids"].zero_()
    assert kept.any()
    assert torch.equal(task.collate(tokenizer())(stored.__getitems__([0]))["input_ids"], kept)
