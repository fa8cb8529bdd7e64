"""What a table calls an arm is a tag; only runs older than the tag are called by their title."""

import pytest

from kd.base.types import RunRecord


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
