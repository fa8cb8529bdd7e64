"""A training that cannot write ends in one line and leaves nothing open; with room the same command does the rest."""

import resource
from dataclasses import replace

import pytest

from tests import tiny
from tests.integration.conftest import RECIPE

pytestmark = pytest.mark.integration

LIMIT = 2 * 2**20
"""Bytes that a file may have: more than the store's, and less than the weights'."""


@pytest.fixture
def own(project, tmp_path, make_store):
    """The project with a store and a home of its own, and weights of 4 MiB."""
    model = tiny.bert(layers=1, width=512)
    model.save_pretrained(tmp_path / "weights")
    tiny.tokenizer().save_pretrained(tmp_path / "weights")
    env = {"MLFLOW_TRACKING_URI": make_store(tmp_path), "KD_HOME": str(tmp_path / "home")}
    return replace(project, folder=tmp_path, env=project.env | env)


@pytest.mark.parametrize("every_s", ["0", "1000"], ids=["a checkpoint", "the model"])
def test_a_training_that_cannot_write_says_so_in_one_line_and_goes_on_with_room(project, own, every_s):
    words = ("--dataset", project.data, "--teacher", own.weights, *RECIPE, "--epochs", "1")
    words += ("--checkpoint_every_s", every_s)
    process = own.begin("teacher", *words)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (LIMIT, LIMIT))
    full = own.ended(process)
    assert full.code == 2, full.err[-2000:]
    said = full.lines[-1]
    assert said.startswith("error: ")
    assert "takes no file as large (File too large" in said or "iostream error" in said
    assert "Traceback" not in full.err
    (run,) = own.runs(stage="teacher")
    assert run.info.status == "FAILED"
    assert run.data.tags["kd.exit_reason"].startswith("disk full: ")
    done = own.run("teacher", *words)
    assert done.code == 0, done.err[-2000:]
    assert own.running() == []
    assert len(own.versions()) == 1
