"""Tasks without labels, text or logits go through every command: nothing outside a task's folder knows what is learned.

Three toys of `tests/toys`: windows of floats, tags of words in overlapping windows, and answers by generation.
"""

import json
from dataclasses import dataclass

import mlflow
import numpy as np
import pandas as pd
import pytest

from tests.toys import material

pytestmark = pytest.mark.integration

OBJECTIVE = {"series": "mse,hidden", "tags": "soft,hidden", "echo": "soft,hidden"}
USELESS = {"series": "soft", "tags": "mse", "echo": "attention"}
METRIC = {"series": "rmse", "tags": "right", "echo": "exact"}
SPACE = "weight_decay: {type: float, low: 0.001, high: 0.1, log: true}\n"


@dataclass(frozen=True)
class Toy:
    """A task, its project, and the options that all its commands share."""

    task: str
    project: object
    shared: tuple[str, ...]

    @property
    def experiment(self) -> str:
        """Of its own."""
        return f"toy-{self.task}"

    def run(self, stage: str, *words: str, experiment: str = ""):
        """Run a command that trains."""
        return self.project.run(stage, *self.shared, "--experiment", experiment or self.experiment, *words)

    def last(self, **tags: str):
        """The newest run with these tags."""
        return self.project.runs(task=self.task, **tags)[-1]

    def name(self, teacher: bool = False) -> str:
        """Of its registered students, or teachers."""
        found = {name for name, _ in self.project.versions() if name.startswith(f"kd-{self.task}-")}
        return next(name for name in found if name.endswith("-teacher") == teacher)

    def predictions(self, run) -> pd.DataFrame:
        """What a run has logged on test."""
        client = self.project.client
        return pd.read_parquet(client.download_artifacts(run.info.run_id, "predictions_test.parquet"))


@pytest.fixture(scope="module", params=OBJECTIVE)
def toy(request, project) -> Toy:
    """A toy with a finished teacher, student and distilled student."""
    folder = project.folder / "toys" / request.param
    rows, weights = material.rows(request.param, folder / "rows"), material.weights(request.param, folder / "weights")
    group = ("--group_column", "series") if request.param == "series" else ()
    recipe = ("--learning_rate", "0.005", "--epochs", "2", "--batch_size", "8")
    made = Toy(request.param, project, ("--dataset", rows, "--task", request.param, *group, *recipe))
    given = {
        "teacher": ("--teacher", weights),
        "student": (),
        "distill": ("--objective", OBJECTIVE[request.param], "--cache", "on"),
    }
    for stage, words in given.items():
        done = made.run(stage, *words)
        assert done.code == 0, done.err[-3000:]
    return made


def metrics(run, prefix):
    return {name: value for name, value in run.data.metrics.items() if name.startswith(prefix)}


def test_a_student_learns_the_same_from_the_cache_as_from_the_teacher_itself(toy):
    cached = toy.last(stage="distill")
    done = toy.run(
        "distill", "--objective", OBJECTIVE[toy.task], "--cache", "off", experiment=f"{toy.experiment}-online"
    )
    assert done.code == 0, done.err[-3000:]
    online = toy.last(stage="distill")
    assert online.info.run_id != cached.info.run_id
    assert "cost/teacher_s" in cached.data.metrics
    assert "cost/teacher_s" not in online.data.metrics
    assert "runs on every batch" in done.err
    for prefix in ("val/", "test/", "fidelity/"):
        assert metrics(cached, prefix) == pytest.approx(metrics(online, prefix), abs=1e-5), prefix
    assert {f"train/loss_{name}" for name in OBJECTIVE[toy.task].split(",")} < cached.data.metrics.keys()


def test_predictions_have_one_line_an_example_whatever_the_features_and_all_runs_the_same(toy):
    tables = [toy.predictions(toy.last(stage=stage)) for stage in ("teacher", "student", "distill")]
    ids = tables[0]["example_id"]
    assert ids.is_unique
    assert all(table["example_id"].equals(ids) for table in tables)


def test_memory_and_fidelity_are_measured_and_what_a_task_has_not_is_absent(toy):
    found = toy.last(stage="distill").data.metrics
    assert found["cost/ram_peak_mib"] > 0
    assert "fidelity/cka" in found
    assert not [name for name in found if name.startswith("calibration/") or name == "fidelity/agreement"]


def test_an_objective_that_means_nothing_for_the_task_is_refused_by_name_before_any_work(toy):
    before = len(toy.project.runs(task=toy.task))
    done = toy.run("distill", "--objective", USELESS[toy.task])
    assert done.code == 2
    assert len(done.lines) == 1
    assert USELESS[toy.task] in done.lines[0]
    assert toy.task in done.lines[0]
    assert len(toy.project.runs(task=toy.task)) == before


def test_comparing_goes_by_the_tasks_first_metric_and_direction_and_shows_only_its_own_figures(toy):
    done = toy.project.run("compare", "--experiments", toy.experiment, "--output", "json")
    assert done.code == 0, done.err[-3000:]
    (table,) = json.loads(done.out)["tables"]
    assert table["task"] == toy.task
    assert table["metric"] == METRIC[toy.task]
    assert table["higher_is_better"] == (toy.task != "series")
    assert {arm["role"] for arm in table["arms"]} == {"teacher", "student", "distilled", "trivial"}
    shown = toy.project.run("compare", "--experiments", toy.experiment).out
    assert "agreement" not in shown
    assert "ECE" not in shown


def test_a_search_of_two_trials_finds_retrains_and_registers(toy):
    space = toy.project.folder / "toys" / "space.yaml"
    space.write_text(SPACE, encoding="utf-8")
    words = ("--n_trials", "2", "--top_k", "1", "--space", str(space), "--sampler", "random")
    done = toy.run("hpo", *words, "--objective", OBJECTIVE[toy.task], experiment=f"{toy.experiment}-hpo")
    assert done.code == 0, done.err[-3000:]
    parent = toy.last(stage="hpo")
    assert parent.data.metrics["hpo/distill/complete"] + parent.data.metrics.get("hpo/distill/pruned", 0) == 2
    assert f"test/{METRIC[toy.task]}" in toy.last(stage="distill").data.metrics


def test_a_study_of_two_cells_reports_every_arm(toy):
    design = toy.project.folder / "toys" / f"{toy.task}.yaml"
    design.write_text(f"axes: {{objective: ['{OBJECTIVE[toy.task]}'], seed: [1]}}\n", encoding="utf-8")
    teacher = f"models:/{toy.name(teacher=True)}/1"
    done = toy.run("study", "--design", str(design), "--teacher", teacher, experiment=f"{toy.experiment}-study")
    assert done.code == 0, done.err[-3000:]
    parent = toy.last(stage="study")
    assert parent.data.metrics["study/cells"] == 2
    assert parent.data.metrics["study/failed"] == 0


def test_promotion_asks_the_gates_that_the_task_has_and_says_which_do_not_apply(toy):
    threshold = "1000" if toy.task == "series" else "0"
    gates = ("--min_metric", threshold, "--min_agreement", "0.5", "--max_ece", "0.1")
    done = toy.project.run("promote", "--model", toy.name(), "--candidate", "2", *gates)
    assert done.code == 0, done.err[-3000:]
    assert str(toy.project.client.get_model_version_by_alias(toy.name(), "champion").version) == "2"
    tags = toy.project.client.get_model_version(toy.name(), "2").tags
    assert tags["kd.gate.min_metric"].startswith("pass")
    for gate in ("min_agreement", "max_ece"):
        assert "does not apply" in tags[f"kd.gate.{gate}"]
    worse = "-1" if toy.task == "series" else "2"
    refused = toy.project.run("promote", "--model", toy.name(), "--candidate", "1", "--min_metric", worse)
    assert refused.code == 3


def test_the_served_model_answers_as_the_run_has_predicted(toy):
    mlflow.set_tracking_uri(toy.project.env["MLFLOW_TRACKING_URI"])
    run = toy.last(stage="distill", role="distilled", seed="0")
    model = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model")
    requests = pd.read_parquet(toy.project.client.download_artifacts(run.info.run_id, "requests.parquet"))
    answers = model.predict(requests)
    expected = json.loads(mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/answers.json"))
    for one, other in zip(answers, expected, strict=False):
        for name, value in other.items():
            if isinstance(value, str):
                assert one[name] == value
            else:
                np.testing.assert_allclose(one[name], value, rtol=1e-4, atol=1e-5)


def test_a_format_that_the_task_has_not_is_refused_and_the_plain_folder_is_written(toy, tmp_path):
    model = f"models:/{toy.name()}/2"
    refused = toy.project.run("export", "--model", model, "--format", "onnx")
    assert refused.code == 2
    assert len(refused.lines) == 1
    assert "onnx" in refused.lines[0]
    assert "safetensors" in refused.lines[0]
    done = toy.project.run("export", "--model", model, "--format", "safetensors", "--output", str(tmp_path / "out"))
    assert done.code == 0, done.err[-3000:]
    assert list((tmp_path / "out").glob("*.safetensors"))
