"""An exported version is another arm than the one it came from, by what code reads and not by what people read."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from kd.base.types import RunRecord
from kd.config import ExportConfig
from kd.registry.exported import Source, described

TAGS = {"kd.seed": "3", "kd.arm": "a" * 32, "kd.task": "classification"}


@pytest.mark.parametrize(
    ("name", "tags"),
    [
        ("distill soft · 2 layers · seed 3", TAGS),
        ("renamed in the UI", {**TAGS, "kd.label": "distill soft · 2 layers"}),
    ],
)
def test_an_export_is_labelled_as_its_source_with_the_format_whatever_the_source_was_renamed_to(name, tags):
    source = Source("kd-m", "models:/kd-m/1", Path(), RunRecord("run", name, tags=tags))
    title, given = described(
        ExportConfig(model="models:/kd-m/1", format="onnx"), source, SimpleNamespace(validation_digest="v")
    )
    assert given["kd.label"] == "distill soft · 2 layers · onnx"
    assert title == "distill soft · 2 layers · onnx · seed 3"
    assert given["kd.arm"] != tags["kd.arm"]
