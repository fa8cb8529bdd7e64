"""The text form of a layer's content is read and written in one place."""

import pytest

from kd.base.types import LayerContent


@pytest.mark.parametrize("text", ["hidden.0", "attention.3", "relation.11"])
def test_a_layers_content_is_written_as_it_is_read(text):
    found = LayerContent.parse(text)
    assert found is not None
    assert str(found) == text
    assert (found.kind, found.layer) == (text.split(".")[0], int(text.split(".")[1]))


@pytest.mark.parametrize("text", ["logits", "logits.tail", "", "3", "hid.3", "hiddens.3"])
def test_other_contents_are_taken_for_no_layer(text):
    assert LayerContent.parse(text) is None


@pytest.mark.parametrize(
    "text", ["hidden", "hidden.", "hidden.-1", "hidden.x", "hidden.1.2", "hidden. 1", "hidden.\u0661"]
)
def test_a_layer_that_cannot_be_is_refused_rather_than_taken_for_another(text):
    with pytest.raises(ValueError, match="names no layer"):
        LayerContent.parse(text)
