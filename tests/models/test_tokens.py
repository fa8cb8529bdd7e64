"""A batch of tokens: what is the model's, what is not, and that moving it to a device loses nothing."""

import numpy as np
import pytest
import torch

from kd.base.types import Batch
from kd.models.tokens import padded, token_fill
from tests.tiny import tokenizer

FILL = {"input_ids": 0, "attention_mask": 0, "tags": -100}
FEATURES = [
    {"input_ids": np.array(ids), "attention_mask": np.ones(len(ids), dtype=int), "tags": np.array(ids) % 3,
     "start": len(ids), "feature": 40 + place, "example": place, "length": len(ids)}
    for place, ids in enumerate([[7, 8, 9], [5], [6, 4]])
]  # fmt: skip


def made(left=False):
    return padded(FEATURES, FILL, left, truth=("tags", "start"))


def test_the_truth_is_apart_from_what_the_model_is_fed_and_padded_beside_it():
    batch = made()
    assert batch.inputs["input_ids"].tolist() == [[7, 8, 9], [5, 0, 0], [6, 4, 0]]
    assert batch.truth["tags"].tolist() == [[1, 2, 0], [2, -100, -100], [0, 1, -100]]
    assert batch.truth["start"].tolist() == [3, 1, 2]
    assert {*batch.inputs} == {"input_ids", "attention_mask"}
    assert {*batch.truth} == {"tags", "start"}


def test_on_the_left_all_columns_of_tokens_are_filled_up_alike():
    batch = made(left=True)
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1], [0, 1, 1]]
    assert batch.truth["tags"].tolist() == [[1, 2, 0], [-100, -100, 2], [-100, 0, 1]]
    assert batch.truth["start"].tolist() == [3, 1, 2]


def test_the_numbers_of_the_features_are_kept_in_their_order_and_reach_no_model():
    batch = made()
    assert batch.features.tolist() == [40, 41, 42]
    assert len(batch) == 3
    assert not {"feature", "example", "length"} & {*batch.inputs, *batch.truth}


def test_a_batch_on_another_device_has_inputs_and_truth_there_and_the_features_numbers_here():
    """Numbers on a device have the loop wait for it at every step; truth left behind is an error in the loss."""
    batch = made()
    moved = batch.to(torch.device("meta"), non_blocking=True)
    assert {value.device.type for part in (moved.inputs, moved.truth) for value in part.values()} == {"meta"}
    assert isinstance(moved.features, np.ndarray)
    assert moved.features.tolist() == [40, 41, 42]
    assert {value.device.type for part in (batch.inputs, batch.truth) for value in part.values()} == {"cpu"}


def test_the_same_device_changes_no_value():
    batch = made()
    same = batch.to("cpu")
    for ours, theirs in ((batch.inputs, same.inputs), (batch.truth, same.truth)):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_library_that_places_batches_takes_it_as_one():
    """`accelerate` calls `to` of what has it; it would otherwise leave a batch of another kind on the CPU."""
    from accelerate.utils import send_to_device

    moved = send_to_device(made(), torch.device("meta"))
    assert isinstance(moved, Batch)
    assert moved.inputs["input_ids"].device.type == "meta"
    assert moved.features.tolist() == [40, 41, 42]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_pinned_batch_is_the_same_batch():
    pinned = made().pin_memory()
    assert all(value.is_pinned() for part in (pinned.inputs, pinned.truth) for value in part.values())
    assert pinned.features.tolist() == [40, 41, 42]


def test_each_column_of_a_tokenizer_is_filled_with_its_own():
    words = tokenizer()
    fill = token_fill(words)
    assert fill["input_ids"] == words.pad_token_id
    assert fill["attention_mask"] == 0
