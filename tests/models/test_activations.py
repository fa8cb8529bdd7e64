"""What is taken from within a model is what it computed, and the model is left as it was."""

import pytest
import torch
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    FNetConfig,
    FNetModel,
    FunnelConfig,
    FunnelModel,
)

from kd.base.types import UserError
from kd.models.activations import check, look_into, with_maps
from tests.tiny import bert

INPUTS = {
    "input_ids": torch.tensor([[2, 7, 9, 3, 0, 0], [2, 8, 9, 10, 11, 3]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]]),
}
LENGTH = INPUTS["input_ids"].shape[1]


def distilbert():
    torch.manual_seed(0)
    config = DistilBertConfig(vocab_size=200, dim=16, n_heads=2, n_layers=2, hidden_dim=32, num_labels=2)
    return DistilBertForSequenceClassification(config)


@pytest.mark.parametrize("make", [bert, distilbert])
def test_maps_in_training_are_those_before_dropout_for_its_zeros_would_be_infinitely_far(make):
    model = make()
    model.base_model.embeddings.dropout.p = 0.0  # it would change what the first layer sees
    model.set_attn_implementation("eager")
    with torch.no_grad():
        clean = model.eval()(**INPUTS, output_attentions=True).attentions[0]
        dropped = model.train()(**INPUTS, output_attentions=True).attentions[0]
        with with_maps(model):
            found = model(**INPUTS, output_attentions=True).attentions[0]
    assert (dropped[:, :, :4, :4] == 0).any()
    torch.testing.assert_close(found, clean)


def test_dropout_still_works_where_maps_are_given():
    model = bert(dropout=0.5).train()
    torch.manual_seed(1)
    with with_maps(model), torch.no_grad():
        one, other = (model(**INPUTS).logits for _ in range(2))
    assert not torch.equal(one, other)
    gentle = bert(dropout=0.0).train()
    with torch.no_grad():
        wanted = gentle(**INPUTS).logits
        with with_maps(gentle):
            found = gentle(**INPUTS).logits
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("former", ["sdpa", "eager"])
def test_attention_is_put_back_also_after_an_error(former):
    model = bert()
    model.set_attn_implementation(former)
    with pytest.raises(AssertionError), with_maps(model):
        assert model.config._attn_implementation == former
    assert model.config._attn_implementation == former


@pytest.mark.parametrize("make", [bert, distilbert])
def test_a_model_that_gives_all_passes_and_stays_as_it_was(make):
    model = make().train()
    check(model, INPUTS, LENGTH, ("hidden.1", "attention.0", "relation.1"), "student")
    assert model.training
    assert model.config._attn_implementation == "sdpa"
    assert not any(part._forward_hooks for name, part in model.named_modules() if name.endswith(("query", "q_lin")))


def fnet():
    config = FNetConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, intermediate_size=32)
    return FNetModel(config)


def funnel():
    return FunnelModel(FunnelConfig(vocab_size=50, d_model=16, n_head=2, d_head=8, d_inner=32, block_sizes=[1, 1]))


def silent():
    """A model that takes the question and gives no answer."""
    model = bert()
    forward = model.forward
    model.forward = lambda output_hidden_states, **given: forward(**given)
    return model


@pytest.mark.parametrize(
    ("model", "asked", "whose", "told"),
    [
        (silent, "hidden.1", "teacher", "it gives no hidden of layer 1"),
        (fnet, "attention.0", "teacher", "gives no attention"),
        (fnet, "relation.1", "student", "no queries, keys and values"),
        (funnel, "attention.0", "student", "before dropout"),
        (funnel, "hidden.1", "teacher", "gives hidden.1 of . tokens where a text has"),
    ],
)
def test_what_a_model_does_not_give_is_told_in_one_line_before_training(model, asked, whose, told):
    with pytest.raises(UserError, match=f"^{whose}: .*{told}.*another objective") as caught:
        check(model(), INPUTS, LENGTH, (asked,), whose)
    assert "\n" not in str(caught.value)


def test_heads_that_share_keys_are_refused_where_relations_are_wanted():
    model = bert()
    model.bert.encoder.layer[1].attention.self.key = torch.nn.Linear(16, 8)
    with pytest.raises(UserError, match="of one width"):
        look_into(model, ("relation.1",), "student")
