"""A student of a few layers says what its source says without the others, in every architecture, or is refused."""

import copy

import pytest
import torch
from torch import nn

from kd.base.types import UserError
from kd.models.layers import layer_stack
from kd.models.students import build_student, require_same
from tests.architectures import DEPTH, SHAPES, built

LENGTH = 14
REFUSED = {
    "ALBERT": ((0, 2), (1, 2)),  # all layers share their weights
    "ALBERT, a group a layer": ((0, 2), (1, 2)),
    "DeBERTa-v2 with convolution": ((1, 2),),  # the convolution follows layer 0
    "DiffLlama": ((0, 2), (1, 2)),  # a constant of each layer follows from its number
    "Funnel": ((0, 2), (1, 2)),  # layers are in blocks
    "GPT-2, scaled by layer": ((0, 2), (1, 2)),  # by a layer's number, which no setting knows
    "Jamba": ((0, 2), (1, 2)),  # kinds of layers take turns
    "ModernBERT": ((1, 2),),  # the first layer has no norm
    "T5": ((0, 2), (1, 2)),  # encoder and decoder
    "T5, deeper encoder": ((1, 2),),  # the first layer has the position bias
    "BART": ((0, 2), (1, 2)),
    "XLM": ((0, 2), (1, 2)),  # parts of layers are in lists of their own
}
"""architecture -> layers that cannot be cut out."""


class LeftOut(nn.Module):
    """A layer whose output is its input; what else it gives is kept."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def __getattr__(self, name):
        return super().__getattr__(name) if name == "layer" else getattr(self.layer, name)

    def forward(self, *given, **named):
        output = self.layer(*given, **named)
        states = given[0] if given else named["hidden_states"]
        return states if isinstance(output, torch.Tensor) else (states, *output[1:])


def said(model):
    ids = torch.randint(5, 60, (1, LENGTH), generator=torch.Generator().manual_seed(0))
    ids[:, -1] = model.config.eos_token_id or 3
    with torch.no_grad():
        return {"logits": model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits}


def without(source, kept):
    """What the source says without its other layers, by no code of this project."""
    model = copy.deepcopy(source)
    layers = model.get_submodule(layer_stack(model))
    for place in set(range(DEPTH)) - set(kept):
        layers[place] = LeftOut(layers[place])
    return said(model)["logits"]


def cut(source, layers):
    student = build_student(source, len(layers), layers, seed=0)
    require_same(source, student, layers, said)
    return student


@pytest.fixture(scope="module", params=SHAPES)
def source(request):
    return request.param, built(request.param)


@pytest.mark.parametrize("layers", [(0, 2), (1, 2)], ids=str)
def test_copied_layers_compute_what_they_did_or_are_refused_in_one_line(source, layers):
    name, model = source
    if layers in REFUSED.get(name, ()):
        with pytest.raises(UserError, match=r"^student_layers: ") as caught:
            cut(model, layers)
        assert "\n" not in str(caught.value)
        assert "whole model as student" in str(caught.value)
    else:
        torch.testing.assert_close(said(cut(model, layers))["logits"], without(model, layers), rtol=0, atol=1e-5)


def test_a_trained_student_can_be_loaded_again_and_says_the_same(source, tmp_path):
    """Its configuration was found out to be impossible when the training had ended."""
    name, model = source
    if (0, 2) in REFUSED.get(name, ()):
        return
    student = cut(model, (0, 2))
    student.save_pretrained(tmp_path)
    again = type(student).from_pretrained(tmp_path)
    torch.testing.assert_close(said(again)["logits"], said(student)["logits"], rtol=0, atol=1e-5)
