"""Answers come back in the examples' order, each with the features of its own example, and the model as it was."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import DataCollatorWithPadding

from kd.base.types import Batch
from kd.evaluation.predict import answers
from tests.tiny import bert, tokenizer

TEXTS = ["good", "the film was very bad", "a fine story", "poor plot", "it was not good", "very very very good book"]


def encoded():
    made = dict(tokenizer()(TEXTS))
    made["labels"] = [0] * len(TEXTS)
    made["feature"] = made["example"] = list(range(len(TEXTS)))
    made["length"] = [len(ids) for ids in made["input_ids"]]
    return Dataset.from_dict(made)


@pytest.fixture(scope="module")
def rows():
    return encoded()


@pytest.fixture
def model():
    return bert(dropout=0.5)


INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def collate(features):
    kept = [{name: one[name] for name in INPUTS if name in one} for one in features]
    labels = torch.tensor([one["labels"] for one in features])
    numbers = np.array([one["feature"] for one in features])
    return Batch(dict(DataCollatorWithPadding(tokenizer())(kept)), {"labels": labels}, numbers)


def answer(model, batch):
    return [{"logits": row} for row in model(**batch.inputs).logits.float().cpu().numpy()]


def logits(model, features, collate, batch_size, autocast=None):
    """The answers of a task whose examples have one feature each, `(features, ...)`."""
    found = answers(model, features, collate, answer, batch_size, autocast)
    return np.stack([own["logits"] for (own,) in found])


def one_by_one(model, rows):
    model = model.eval()
    with torch.no_grad():
        return np.concatenate(
            [model(**{key: torch.tensor([row[key]]) for key in INPUTS if key in row}).logits.numpy() for row in rows]
        )


@pytest.mark.parametrize("batch_size", [1, 2, 4, 6, 64])
def test_outputs_are_in_the_rows_order_whatever_the_batch_size(model, rows, batch_size):
    got = logits(model, rows, collate, batch_size)
    assert got.shape == (len(TEXTS), 2)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, one_by_one(model, rows), atol=1e-5)


def test_the_order_of_the_rows_is_the_order_of_the_outputs(model, rows):
    order = [3, 0, 5, 1, 4, 2]
    moved = rows.select(order).remove_columns("example").add_column("example", list(range(len(order))))
    np.testing.assert_allclose(logits(model, moved, collate, 2), logits(model, rows, collate, 2)[order], atol=1e-5)


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
    assert not seen & {"labels", "feature", "example", "length"}


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


@pytest.mark.parametrize("batch_size", [1, 2, 64])
@pytest.mark.parametrize("owners", [[0, 0, 0, 1, 2, 2], [0, 1, 0, 2, 1, 0], [0, 2, 2, 0, 2, 2]], ids=str)
def test_an_example_gets_the_answers_of_its_own_features_in_their_order(model, rows, batch_size, owners):
    """They are answered longest first: one that lands with another example answers for that one.

    An example without a feature keeps its place.
    """
    features = rows.remove_columns("example").add_column("example", owners)

    def numbered(model, batch):
        return [
            {"feature": int(number), **own} for number, own in zip(batch.features, answer(model, batch), strict=True)
        ]

    found = answers(model, features, collate, numbered, batch_size)
    own = [[place for place, owner in enumerate(owners) if owner == example] for example in range(3)]
    assert [[record["feature"] for record in each] for each in found] == own
    alone = one_by_one(model, rows)
    for each in found:
        for record in each:
            np.testing.assert_allclose(record["logits"], alone[record["feature"]], atol=1e-5)


def test_a_task_that_answers_too_few_features_of_a_batch_is_an_error(model, rows):
    with pytest.raises(ValueError, match="zip"):
        answers(model, rows, collate, lambda model, batch: answer(model, batch)[1:], 4)
