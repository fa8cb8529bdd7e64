"""Outputs come back in the rows' order, and the model as it was."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import DataCollatorWithPadding

from kd.evaluation.predict import logits
from tests.tiny import bert, tokenizer

TEXTS = ["good", "the film was very bad", "a fine story", "poor plot", "it was not good", "very very very good book"]


def encoded():
    made = dict(tokenizer()(TEXTS))
    made["labels"] = [0] * len(TEXTS)
    made["row"] = list(range(len(TEXTS)))
    made["length"] = [len(ids) for ids in made["input_ids"]]
    return Dataset.from_dict(made)


@pytest.fixture(scope="module")
def rows():
    return encoded()


@pytest.fixture
def model():
    return bert(dropout=0.5)


def collate(batch):
    pad = DataCollatorWithPadding(tokenizer())
    return dict(pad([{key: value for key, value in row.items() if key != "length"} for row in batch]))


def one_by_one(model, rows):
    model = model.eval()
    keys = ("input_ids", "attention_mask", "token_type_ids")
    with torch.no_grad():
        return np.concatenate(
            [model(**{key: torch.tensor([row[key]]) for key in keys if key in row}).logits.numpy() for row in rows]
        )


@pytest.mark.parametrize("batch_size", [1, 2, 4, 6, 64])
def test_outputs_are_in_the_rows_order_whatever_the_batch_size(model, rows, batch_size):
    got = logits(model, rows, collate, batch_size)
    assert got.shape == (len(TEXTS), 2)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, one_by_one(model, rows), atol=1e-5)


def test_the_order_of_the_rows_is_the_order_of_the_outputs(model, rows):
    order = [3, 0, 5, 1, 4, 2]
    np.testing.assert_allclose(
        logits(model, rows.select(order), collate, 2), logits(model, rows, collate, 2)[order], atol=1e-5
    )


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_and_the_mode_is_put_back(model, rows, training):
    model.train(training)
    first, second = logits(model, rows, collate, 2), logits(model, rows, collate, 2)
    np.testing.assert_array_equal(first, second)
    assert model.training is training


def test_no_gradient_is_kept(model, rows):
    logits(model, rows, collate, 2)
    assert all(weight.grad is None for weight in model.parameters())


def test_the_model_sees_neither_labels_nor_positions(model, rows):
    seen = set()
    model.register_forward_pre_hook(lambda _, __, given: seen.update(given), with_kwargs=True)
    logits(model, rows, collate, 2)
    assert {"input_ids", "attention_mask"} <= seen
    assert not seen & {"labels", "row", "length"}


def test_lower_precision_is_near_and_still_comes_back_in_float32(model, rows):
    half = logits(model, rows, collate, 2, torch.bfloat16)
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, logits(model, rows, collate, 2), atol=0.05)


def test_outputs_with_more_axes_keep_them(rows):
    class Wide(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))

        def forward(self, input_ids, **_):
            first = input_ids[:, 1].float()
            return type("Output", (), {"logits": self.weight * first[:, None, None].expand(-1, 2, 3)})

    got = logits(Wide(), rows, collate, 4)
    assert got.shape == (len(TEXTS), 2, 3)
    assert got[:, 0, 0].tolist() == [ids[1] for ids in rows["input_ids"]]
