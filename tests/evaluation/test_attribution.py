"""Attributions are the integrated gradients of the embeddings, of content tokens alone, and add up."""

import numpy as np
import pytest
import torch

from kd.base.types import Batch, Content
from kd.evaluation.attribution import Explanation, agreement, completeness_error, explain
from tests.tiny import bert, tokenizer

TEXT = "the film was very bad and not good"


def evidence(outputs, decided):
    return outputs.logits.log_softmax(-1).gather(-1, decided[:, None])[:, 0]


def ready(text=TEXT, pad=0):
    """A row, padded, and its content."""
    encoded = tokenizer()([text], padding="max_length", max_length=12 + pad, return_tensors="pt")
    special = torch.isin(encoded["input_ids"], torch.tensor(tokenizer().all_special_ids))
    batch = Batch(dict(encoded), {"labels": torch.tensor([0])}, np.array([0]))
    return batch, Content("input_ids", ~special, tokenizer().pad_token_id)


@pytest.fixture
def model():
    made = bert().eval()
    with torch.no_grad():  # random weights hardly look at the words
        for weight in made.parameters():
            weight.mul_(10 if weight.dim() > 1 else 1)
    return made


def explained(model, text=TEXT, pad=0, decided=1):
    batch, content = ready(text, pad)
    return explain(model, batch, content, torch.tensor([decided]), evidence)


def test_values_are_the_riemann_sum_of_gradients_along_the_straight_line(model):
    batch, content = ready()
    embed = model.get_input_embeddings()
    mask, kept = content.mask[0], batch.inputs["attention_mask"]
    end = embed(batch.inputs["input_ids"]).detach()
    start = torch.where(mask[None, :, None], embed(torch.tensor(content.blank)).detach(), end)
    total = torch.zeros_like(end)
    steps = 400
    for step in range(steps):
        point = (start + (step + 0.5) / steps * (end - start)).requires_grad_()
        evidence(model(inputs_embeds=point, attention_mask=kept), torch.tensor([1])).sum().backward()
        total += point.grad / steps
    expected = (total * (end - start)).sum(-1)[0][mask]
    got = explained(model).values
    assert len(got) == int(mask.sum())
    np.testing.assert_allclose(got, expected.numpy(), atol=1e-3 * np.abs(got).max())


def test_values_add_up_to_what_the_words_change(model):
    got = explained(model)
    assert abs(got.change) > 1e-2
    assert got.error < 0.05 * abs(got.change)
    assert got.values.sum() == pytest.approx(got.change, abs=got.error + 1e-6)  # special tokens add nothing


def test_padding_changes_no_value(model):
    np.testing.assert_allclose(explained(model, pad=5).values, explained(model).values, atol=1e-5)


def test_another_decision_has_other_reasons(model):
    one, other = explained(model, decided=0), explained(model, decided=1)
    assert np.abs(one.values - other.values).max() > 1e-3


def test_explaining_leaves_no_gradient_and_no_change_behind(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, again = explained(model), explained(model)
    np.testing.assert_array_equal(first.values, again.values)
    assert all(weight.grad is None for weight in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def said(*values):
    return [Explanation(np.array(value, dtype=float), 1.0, 0.1) for value in values]


def test_agreement_by_hand():
    ours = said([5, 1, 2, 0, 1, -6, 0, 0, 1, 1], [1, 2, 3, 4, 5])
    theirs = said([5, 1, 2, 0, 1, 6, 0, 0, 1, 1], [5, 4, 3, 2, 1])
    got = agreement(ours, theirs)
    first = np.corrcoef(ours[0].values, theirs[0].values)[0, 1]
    assert got["pearson"] == pytest.approx((first - 1) / 2)
    assert got["top20"] == pytest.approx((1 + 0) / 2)  # two of ten by size, whatever the sign; one of five


def test_who_explains_alike_up_to_a_scale_agrees_wholly():
    ours = said([1, 2, 3, 4, 5, 7])
    assert agreement(ours, said([2, 4, 6, 8, 10, 14])) == {"pearson": pytest.approx(1), "top20": 1.0}


def test_a_model_that_finds_all_tokens_alike_has_no_correlation_rather_than_nan():
    flat, other = said([0, 0, 0, 0, 0]), said([1, 2, 3, 4, 5])
    assert "pearson" not in agreement(flat, other)
    assert agreement(flat + other, other + other)["pearson"] == pytest.approx(1)
    assert agreement([], []) == {}


def test_the_completeness_error_is_a_share_of_all_change():
    assert completeness_error(said([1], [2])) == pytest.approx(0.1)
    assert completeness_error([Explanation(np.ones(5), 0.0, 0.0)]) is None
