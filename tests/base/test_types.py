"""What crosses folders: a layer's text form has one reader, and an arm's label is a tag, not a title."""

import pytest

from kd.base.types import LayerContent, RunRecord


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


def test_a_renamed_run_keeps_its_label_because_titles_are_for_people():
    renamed = RunRecord("id", "my favourite · seed 7", tags={"kd.label": "distill soft · 2 layers"})
    assert renamed.label == "distill soft · 2 layers"


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("distill soft T=2 · 2 layers · 500 labels · seed 3", "distill soft T=2 · 2 layers · 500 labels"),
        ("student · 2 layers · onnx-int8 · seed 10", "student · 2 layers · onnx-int8"),
        ("baseline majority class", "baseline majority class"),
    ],
)
def test_a_run_of_an_older_store_is_called_by_its_title_without_the_seed(name, label):
    assert RunRecord("id", name).label == label
