"""`mlflow run .`: the whole comparison ends in an answer, everything is where it should be, and a second run redoes
nothing."""

import math
import re
from pathlib import Path

import pandas as pd
import pytest

from tests.integration.conftest import RECIPE, main_words

pytestmark = pytest.mark.integration

METRIC = re.compile(r"(train|val|test|fidelity|calibration|profile|model|cost|system)/\w+")
QUALITY = {f"{split}/{name}" for split in ("val", "test") for name in ("accuracy", "macro_f1", "loss")}
PROFILE = {
    *("profile/latency_ms_p50", "profile/latency_ms_p95", "profile/throughput_per_s", "profile/ram_peak_mib"),
    *("profile/ram_model_mib", "model/parameters", "model/size_mib", "model/gflops"),
}
FIDELITY = {
    *("fidelity/agreement", "fidelity/kl", "fidelity/cka"),
    *("fidelity/right_where_teacher_wrong", "fidelity/wrong_where_teacher_right"),
}
TAGS = {
    *("kd.stage", "kd.role", "kd.task", "kd.dataset", "kd.dataset_digest", "kd.test_digest", "kd.seed", "kd.arm"),
    *("kd.cache_key", "kd.exit_reason", "kd.test_scored"),
}


@pytest.fixture(params=["teacher", "student", "distilled"])
def trained(request, project, compared):
    return request.param, project.client.get_run(getattr(compared, request.param))


def test_it_ends_with_the_table_the_answer_the_registered_version_and_a_line_for_the_ui(compared):
    out = compared.first.out
    assert "Did distillation help?" in out
    assert "too few seeds to say" in out
    for row in ("majority class", "bag of words", "teacher weights", "student · 2 layers", "distill soft T=2 a=0.5"):
        assert row in out
    last = out[out.index("Did distillation help?") :]
    assert f"Registered {compared.student_name} version 1, alias challenger" in last
    assert "Do not promote it yet: " in last  # after so few steps it is no better than a bag of words
    assert "mlflow ui" in last
    assert "Traceback" not in out + compared.first.err


def test_no_run_is_left_running_and_all_are_nested_in_the_run_that_mlflow_run_made(project, compared):
    assert project.running() == []
    parent = project.client.get_run(compared.parent)
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["mlflow.project.entryPoint"] == "main"
    children = [*project.runs(role="trivial"), *(project.client.get_run(getattr(compared, role)) for role in ROLES)]
    assert len(children) == 5
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {compared.parent}


ROLES = ("teacher", "student", "distilled")


def test_a_second_run_reuses_everything_and_says_so(project, compared):
    assert compared.second.code == 0, compared.second.err[-3000:]
    assert "reused" in compared.second.out
    assert "2 of 2 students reused" in compared.second.out
    assert len(project.runs(stage="main")) == 2
    for tag in ({"role": "teacher"}, {"stage": "student"}, {"stage": "distill"}):
        assert len(project.runs(**tag)) == 1
    assert len(project.runs(role="trivial")) == 2
    assert sorted(project.versions()) == [(compared.student_name, "1"), (compared.teacher_name, "1")]


def test_metric_names_are_the_projects_and_every_value_is_a_number(trained):
    role, run = trained
    metrics = run.data.metrics
    assert {name for name in metrics if not METRIC.fullmatch(name)} == set()
    wanted = QUALITY | PROFILE | {"train/loss", "train/loss_task", "calibration/ece", "calibration/brier"}
    wanted |= {"cost/train_s", "cost/examples_per_s"}
    wanted |= {"train/loss_soft"} if role == "distilled" else set()
    wanted |= FIDELITY if role != "teacher" else set()
    assert not [name for name in metrics if name.startswith("fidelity/attribution")]  # it was not asked for
    assert wanted - metrics.keys() == set()
    assert all(math.isfinite(value) for value in metrics.values())
    assert "train/loss_soft" not in metrics or role == "distilled"
    assert all(metrics[name] > 0 for name in PROFILE)
    assert metrics["profile/latency_ms_p50"] <= metrics["profile/latency_ms_p95"]


def test_gpu_figures_are_absent_not_zero_where_there_is_no_gpu(trained):
    if __import__("torch").cuda.is_available():
        pytest.skip("there is a GPU here")
    assert [name for name in trained[1].data.metrics if name.startswith("profile/gpu")] == []


def test_tags_and_parameters_are_the_projects(trained, compared):
    role, run = trained
    tags = run.data.tags
    assert TAGS - tags.keys() == set()
    assert tags["kd.role"] == role
    assert tags["kd.stage"] == {"distilled": "distill"}.get(role, role)
    assert tags["kd.exit_reason"] == "finished"
    assert tags["kd.test_scored"] == "true"
    assert all(re.fullmatch(r"[0-9a-f]{32}", tags[f"kd.{name}"]) for name in ("dataset_digest", "test_digest", "arm"))
    if role != "teacher":
        assert tags["kd.teacher"] == f"models:/{compared.teacher_name}/1"
    wanted = {"dataset", "task", "seed", "epochs", "batch_size", "learning_rate", "max_length", "precision", "teacher"}
    wanted |= {"alpha", "temperature", "objective"} if role == "distilled" else set()
    assert wanted - run.data.params.keys() == set()
    assert run.data.params["epochs"] == "2"


def test_the_distilled_student_names_the_arm_of_its_control(project, compared):
    student, distilled = (project.client.get_run(run_id).data.tags for run_id in (compared.student, compared.distilled))
    assert distilled["kd.control_arm"] == student["kd.arm"] != distilled["kd.arm"]
    assert "kd.control_arm" not in student
    for shared in ("kd.seed", "kd.dataset_digest", "kd.test_digest", "kd.teacher"):
        assert distilled[shared] == student[shared]


def test_data_sets_are_inputs_with_the_digests_of_the_tags(trained):
    _, run = trained
    found = {one.tags[0].value: one.dataset.digest for one in run.inputs.dataset_inputs}
    assert found.keys() == {"training", "validation", "test"}
    assert found["training"] == run.data.tags["kd.dataset_digest"]
    assert found["test"] == run.data.tags["kd.test_digest"]


def test_predictions_of_every_run_have_the_same_ids_and_the_columns_that_comparisons_need(project, compared, tmp_path):
    roles = [project.client.get_run(getattr(compared, role)) for role in ROLES]
    ids = []
    for run in [*roles, *project.runs(role="trivial")]:
        for split in ("validation", "test"):
            path = project.client.download_artifacts(run.info.run_id, f"predictions_{split}.parquet", str(tmp_path))
            table = pd.read_parquet(path)
            wanted = {"example_id", "group", "label", "prediction", "loss", "score:bad", "score:good"}
            assert wanted - set(table.columns) == set()
            assert len(table) == 24
            assert ((table["score:bad"] + table["score:good"] - 1).abs() < 1e-6).all()
            accuracy = (table["label"] == table["prediction"]).mean()
            assert run.data.metrics[f"{'val' if split == 'validation' else 'test'}/accuracy"] == pytest.approx(accuracy)
        ids.append(tuple(table["example_id"]))
    assert len(set(ids)) == 1


def test_validation_metrics_keep_one_value_an_epoch(project, compared):
    history = project.client.get_metric_history(compared.student, "val/accuracy")
    assert sorted({one.step for one in history}) == [6, 12]


def test_a_teacher_that_learned_nothing_is_the_first_sentence_everywhere_and_nothing_is_offered_for_promotion(project):
    """A verdict of "no difference shown" and a line "Promote it" would make a bad model look finished."""
    own = ("--experiment", "doubted", *main_words(project), "--teacher_learning_rate", "1e-9", "--teacher_epochs", "1")
    done = project.run("main", *own)
    assert done.code == 0, done.err[-3000:]
    _, answer = done.out.split("Did distillation help?\n")
    first = answer.splitlines()[0]
    assert first.startswith(("No better than baseline", "The teacher has little to teach"))
    assert re.search(r"\(\d\.\d{3}\)", first)
    assert "Promote it" not in done.out
    assert "Do not promote it yet: " in answer
    run = project.runs(stage="main")[-1]
    folder = Path(project.client.download_artifacts(run.info.run_id, "comparison.md")).parent
    page = Path(project.client.download_artifacts(run.info.run_id, "report.html")).read_text(encoding="utf-8")
    assert (folder / "comparison.md").read_text(encoding="utf-8").splitlines()[2] == first
    assert run.data.tags["mlflow.note.content"].splitlines()[2] == first
    assert page.index(f'<p class="doubt">{first}') < page.index("too few seeds")
    alone = project.run("student", "--experiment", "doubted", "--dataset", project.data, "--seed", "7", *RECIPE,
                        "--learning_rate", "1e-9")  # fmt: skip
    assert alone.out.index("Warning: No better than baseline") < alone.out.index("Registered ")
    assert "Do not promote it yet: " in alone.out


def test_a_distilled_student_of_other_epochs_is_judged_against_a_control_of_as_many_and_the_student_is_beside(
    project, compared
):
    """Against the student of fewer steps, more steps would pass for a gain by the teacher."""
    teacher = f"models:/{compared.teacher_name}/1"
    words = ("--experiment", "phases", *main_words(project), "--distill_epochs", "1", "--distill_learning_rate", "0.02")
    done = project.run("main", *words, "--teacher", teacher)
    assert done.code == 0, done.err[-3000:]
    assert "a control with epochs=1, learning_rate=0.02 is trained too" in done.out
    assert "Training 3 of 3" in done.out
    parent = project.runs(stage="main")[-1].info.run_id
    found = project.runs(stage="student") + project.runs(stage="distill")
    plain, control, distilled = [run for run in found if run.data.tags.get("mlflow.parentRunId") == parent]
    assert (plain.data.params["epochs"], plain.data.params["learning_rate"]) == ("2", "0.01")
    assert (control.data.params["epochs"], control.data.params["learning_rate"]) == ("1", "0.02")
    assert (distilled.data.params["epochs"], distilled.data.params["learning_rate"]) == ("1", "0.02")
    assert distilled.data.tags["kd.control_arm"] == control.data.tags["kd.arm"] != plain.data.tags["kd.arm"]
    assert all(f"student · 2 layers · epochs={count}" in done.out.replace("\n", " ") for count in (1, 2))
    again = project.run("main", *words, "--teacher", teacher)
    assert "3 of 3 students reused" in again.out
