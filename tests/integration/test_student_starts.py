"""Ways to start a student, from the command line to the run. Last by name: it registers versions."""

import math

import pytest

from tests.integration.conftest import RECIPE

pytestmark = pytest.mark.integration


def test_a_student_of_its_own_shape_is_trained_explained_and_told_as_such(project, compared):
    shape = project.folder / "shape.json"
    shape.write_text('{"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 12}')
    words = (
        "--dataset",
        project.data,
        "--teacher",
        f"models:/{compared.teacher_name}/1",
        *RECIPE,
        "--experiment",
        "again",
    )
    done = project.run("distill", *words, "--student_config", str(shape), "--attribution_examples", "2")
    assert done.code == 0, done.err[-3000:]
    assert "random weights, 1 layers x 8" in done.out
    (experiment,) = project.client.search_experiments(filter_string="name = 'again'")
    run = next(iter(project.client.search_runs([experiment.experiment_id], "tags.`kd.role` = 'distilled'")))
    assert run.data.params["layers"] == "random 1"
    found = {name.rpartition("_")[2] for name in run.data.metrics if name.startswith("fidelity/attribution_")}
    assert {"pearson", "top20", "floor", "error", "examples"} == found
    assert all(math.isfinite(value) for value in run.data.metrics.values())


def test_importance_starts_arm_and_control_from_the_same_layers(project, compared):
    words = (
        "--dataset",
        project.data,
        "--teacher",
        f"models:/{compared.teacher_name}/1",
        *RECIPE,
        "--experiment",
        "again",
    )
    done = [
        project.run(stage, *words, "--student_layers", "2", "--initialisation", "importance")
        for stage in ("student", "distill")
    ]
    assert [one.code for one in done] == [0, 0], done[-1].err[-3000:]
    assert "loss without it" in done[0].out
    assert "still to be trained" not in done[1].out  # the control was found
