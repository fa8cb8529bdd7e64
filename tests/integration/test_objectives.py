"""All objectives at once through the command line, between a wide teacher and a narrow student."""

from pathlib import Path

import pytest
from mlflow.artifacts import download_artifacts
from safetensors.torch import load_file

from kd.objectives import OBJECTIVES
from kd.tasks import options_of
from tests import tiny
from tests.integration.conftest import RECIPE, write_rows

pytestmark = pytest.mark.integration
ALL = [name for name in OBJECTIVES if name != "none" and name in options_of("classification").objectives]


@pytest.fixture(scope="module")
def distilled(project, compared):
    """The run of a student that is half as wide as its teacher, and its control's."""
    folder = project.folder / "narrow"
    tiny.bert(layers=2, width=8).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    data = str(write_rows(project.folder / "objectives.csv", 60, 3))
    words = ("--dataset", data, "--teacher", project.weights, "--student", str(folder), "--seed", "7", *RECIPE)
    control = project.run("student", *words)
    assert control.code == 0, control.err[-2000:]
    done = project.run("distill", *words, "--objective", ",".join(reversed(ALL)), "--alpha", "0.4")
    assert done.code == 0, done.err[-2000:]
    return project.runs(stage="distill", seed="7")[-1], project.runs(stage="student", seed="7")[-1]


def test_every_term_is_logged_and_the_objective_is_spelt_in_its_one_way(distilled):
    run, control = distilled
    assert run.data.params["objective"] == ",".join(ALL)
    assert all(run.data.metrics[f"train/loss_{name}"] > 0 for name in [*ALL, "task"])
    assert run.data.tags["kd.control_arm"] == control.data.tags["kd.arm"] != run.data.tags["kd.arm"]
    assert run.data.metrics["model/parameters"] == control.data.metrics["model/parameters"]


def test_what_is_served_has_no_trace_of_projections(project, distilled, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", project.env["MLFLOW_TRACKING_URI"])
    found = []
    for run in distilled:
        (model,) = project.client.search_logged_models(
            [run.info.experiment_id], filter_string=f"source_run_id = '{run.info.run_id}'"
        )
        folder = download_artifacts(artifact_uri=model.artifact_location, dst_path=str(tmp_path / run.info.run_id))
        (weights,) = Path(folder).rglob("*.safetensors")
        found.append(load_file(weights))
    assert found[0].keys() == found[1].keys()
    assert {name: value.shape for name, value in found[0].items()} == {
        name: value.shape for name, value in found[1].items()
    }
