"""Forecasting from the command line: a language model as teacher, small students, one model a patient, and serving."""

import json
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from tests.integration.conftest import Project
from tests.tasks import series

pytestmark = pytest.mark.integration

RECIPE = ("--batch_size", "16", "--learning_rate", "0.01", "--epochs", "1")
SIZES = ("--patch_width", "4", "--head_width", "8", "--prototypes", "5", "--prompt", "short")
PATIENTS = {name: series.rows(seed, 300, 0.03) for seed, name in enumerate(("570", "584"))}
ROLES = ("teacher", "student", "distilled", "hidden")
SERVE = """
import json, sys
sys.modules["kd"] = None  # where it is installed too, importing it fails
import mlflow
requests = json.loads(sys.stdin.read())
print(json.dumps([mlflow.pyfunc.load_model(uri).predict(requests) for uri in sys.argv[1:]]))
"""


@pytest.fixture(scope="module")
def own(project) -> Project:
    """The data of two patients, a language model, an empty store, and no time spent on measuring."""
    folder = project.folder / "forecasting"
    folder.mkdir()
    series.language(folder / "language")
    series.written(folder / "two.csv", PATIENTS)
    series.written(folder / "other.csv", {"other": series.rows(7, 300, 0.03)})
    store = f"sqlite:///{folder}/mlflow.db"
    for name in ("kd", "again"):
        MlflowClient(store).create_experiment(name, artifact_location=str(folder / "artifacts"))
    places = {"MLFLOW_TRACKING_URI": store, "KD_HOME": str(folder / "home"), "KD_UNTIMED": "1"}
    return replace(project, env=project.env | places)


@pytest.fixture(scope="module")
def words(own):
    """Which rows, and how to train."""
    folder = own.folder / "forecasting"
    columns = ("--time_column", "when", "--target_column", "glucose")
    cut = ("--window_stride", "4", "--time_split", "0.6,0.2,0.2")
    rows = ("--dataset", str(folder / "two.csv"), "--models", "pooled")
    return ("--task", "forecasting", *rows, *columns, *cut, *RECIPE)


@pytest.fixture(scope="module")
def language(own):
    return str(own.folder / "forecasting" / "language")


def fine(done):
    assert done.code == 0, done.err[-3000:]
    return done


def refused(done):
    assert done.code == 2, (done.out[-500:], done.err[-2000:])
    assert "Traceback" not in done.err
    return done.lines[-1]


@dataclass(frozen=True)
class Trained:
    """Runs by role, and the names of the registered models."""

    runs: dict
    teacher: str
    students: str


@pytest.fixture(scope="module")
def trained(own, words, language) -> Trained:
    """Time-LLM, and its students: alone, by its forecasts, and by its layers too."""
    few = (*SIZES, "--student_layers", "2")
    fine(own.run("teacher", *words, *SIZES, "--teacher", language))
    fine(own.run("student", *words, *few))
    fine(own.run("distill", *words, *few, "--objective", "mse"))
    fine(own.run("distill", *words, *few, "--objective", "mse:1,hidden:1"))
    runs = [own.runs(role=role) for role in ("teacher", "student", "distilled")]
    names = sorted({name for name, _ in own.versions()}, key=len)
    return Trained(dict(zip(ROLES, [run for found in runs for run in found], strict=True)), names[1], names[0])


def predictions(own, run, split="test"):
    return pd.read_parquet(own.client.download_artifacts(run.info.run_id, f"predictions_{split}.parquet"))


def version_of(own, name, run):
    (found,) = [one for one in own.client.search_model_versions(f"name='{name}'") if one.run_id == run.info.run_id]
    return f"models:/{name}/{found.version}"


def test_teacher_student_and_distilled_have_their_figures_and_forecasts_of_the_same_windows(own, trained):
    tables = {role: predictions(own, run) for role, run in trained.runs.items()}
    for role, run in trained.runs.items():
        metrics, table = run.data.metrics, tables[role]
        for metric in ("rmse", "mae", "mape", "skill"):
            assert {f"val/{metric}", f"test/{metric}"} <= metrics.keys()
        assert metrics["test/rmse"] == pytest.approx(np.sqrt(table["squared_error"].mean()))
        assert metrics["test/rmse"] != 0
        assert ("fidelity/rmse" in metrics) == (role != "teacher")
        assert ("train/loss_hidden" in metrics) == (role == "hidden")
        assert ("train/loss_mse" in metrics) == (role in ("distilled", "hidden"))
        assert list(table["example_id"]) == list(tables["teacher"]["example_id"])
        assert set(table["patient"]) == set(PATIENTS)
        assert all(np.isfinite(value) for value in metrics.values())
    forecasts = [tuple(table["step:forecast:1"]) for table in tables.values()]
    assert len({*forecasts}) == len(ROLES)
    assert {run.data.tags["kd.label"] for run in own.runs(role="trivial")} == {
        "baseline linear",
        "baseline persistence",
    }
    assert own.running() == []


def test_what_the_registry_holds_forecasts_without_this_project_what_was_scored(own, trained, tmp_path):
    """From rows as they were measured, the gaps with them."""
    tables = {role: predictions(own, trained.runs[role]) for role in ("teacher", "hidden")}
    requests = []
    for patient, time in zip(tables["teacher"]["patient"], tables["teacher"]["time"], strict=True):
        end = (time - int(series.START)) // series.STEP + 1
        rows = PATIENTS[patient][end - 12 : end]
        requests.append({name: [row[name] for row in rows] for name in ("when", "glucose")})
    names = {"teacher": trained.teacher, "hidden": trained.students}
    env = {key: value for key, value in own.env.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", SERVE, *(version_of(own, name, trained.runs[role]) for role, name in names.items())],
        input=json.dumps(requests),
        cwd=tmp_path,
        env=env | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for table, answers in zip(tables.values(), json.loads(done.stdout.splitlines()[-1]), strict=True):
        wanted = table[[f"step:forecast:{step}" for step in range(1, 7)]].to_numpy()
        np.testing.assert_allclose([answer["forecast"] for answer in answers], wanted, rtol=1e-4)
        assert {answer["unit"] for answer in answers} == {"mg/dL"}
        assert sum(answer["filled"] for answer in answers) > 0


def test_compare_measure_promote_and_export_know_forecasts(own, trained):
    compared = fine(own.run("compare", "--experiments", "kd"))
    for said in ("rmse", "baseline persistence", "teacher language · 4 layers", "student · 2 layers", "Clarke"):
        assert said in compared.out
    model = version_of(own, trained.students, trained.runs["distilled"])
    gate = ("--model", trained.students, "--candidate", model.rpartition("/")[2], "--min_metric")
    too_good = own.run("promote", *gate, "0.1")
    assert too_good.code == 3
    assert "min_metric: test/rmse is" in too_good.lines[-1]
    assert "at most 0.1 is required" in too_good.lines[-1]
    fine(own.run("promote", *gate, "1000"))
    champion = own.client.get_model_version_by_alias(trained.students, "champion").version
    assert str(champion) == model.rpartition("/")[2]
    for form in ("onnx", "onnx-int8"):
        said = refused(own.run("export", "--model", model, "--format", form))
        assert "task='forecasting'" in said or "task=forecasting" in said
        assert "onnx" in said
    fine(own.run("measure", "--model", model, KD_UNTIMED=""))
    measured = own.runs(stage="measure")[-1].data.metrics
    assert 0 < measured["profile/latency_ms_p50"] < 1000
    assert measured["profile/ram_model_mib"] > 0


@pytest.fixture(scope="module")
def each(own, words, language):
    """One model a patient, in one command."""
    options = (*SIZES, "--models", "each", "--teacher", language, "--student", "dlinear", "--seeds", "0")
    return fine(own.run("main", "--experiment", "again", *words, *options))


def test_main_makes_models_of_each_patient_and_answers_once_for_all(own, each):
    table = each.out[each.out.index("By part") :]
    rows = [line.split()[0] for line in table.splitlines() if line[:3] in ("570", "584", "all")]
    assert rows == ["570", "584", "all"]
    assert each.out.count("too few seeds to say") == 1
    first, second = (each.out.index(f"Part {number} of 2: {name}") for number, name in ((1, "570"), (2, "584")))
    assert first < each.out.index("Training 3 of 6") < second < each.out.index("Training 4 of 6")  # or whose is it?
    names = {name for name, _ in own.versions() if "-570-" in name or "-584-" in name}
    assert {name.rpartition("-")[2] == "teacher" for name in names} == {True, False}
    assert len(names) == 4
    (parent,) = own.runs(stage="main")
    runs = [run for run in own.runs(role="distilled") if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert [set(predictions(own, run)["patient"]) for run in runs] == [{"570"}, {"584"}]
    artifacts = {one.path for one in own.client.list_artifacts(parent.info.run_id)}
    assert {"report.html", "comparison.md"} <= artifacts
    assert parent.info.status == "FINISHED"


def test_the_same_command_trains_nothing_again(own, words, each, language):
    count = len(own.runs(role="student"))
    options = (*SIZES, "--models", "each", "--teacher", language, "--student", "dlinear", "--seeds", "0")
    again = fine(own.run("main", "--experiment", "again", *words, *options))
    assert again.out.count("2 of 2 students reused") == 2
    assert len(own.runs(role="student")) == count


def test_left_out_tests_each_patient_with_models_of_the_others(own, words):
    options = ("--models", "left-out", "--teacher", "gru", "--student", "dlinear", "--seeds", "0")
    done = fine(own.run("main", "--experiment", "again", *words, *options))
    parent = own.runs(stage="main")[-1]
    runs = [run for run in own.runs(role="distilled") if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert [set(predictions(own, run)["patient"]) for run in runs] == [{"570"}, {"584"}]
    assert [set(predictions(own, run, "validation")["patient"]) for run in runs] == [{"584"}, {"570"}]
    assert "all 2" in done.out


def test_a_search_a_study_and_a_cascade_carry_forecasts_through(own, words, trained):
    fixed = [word for pair in zip(words[::2], words[1::2], strict=True) for word in pair
             if pair[0] not in ("--learning_rate", "--epochs", "--batch_size")]  # fmt: skip
    search = fine(own.run("hpo", *fixed, "--student", "dlinear", "--n_trials", "2", "--top_k", "1"))
    assert "Winner of distill" in search.out or "winner" in search.out
    design = own.folder / "forecasting" / "students.yaml"
    design.write_text("title: Students\naxes: {student: [gru, persistence], objective: [none, mse], seed: [0]}\n")
    teacher = version_of(own, trained.teacher, trained.runs["teacher"])
    study = fine(own.run("study", *words, "--teacher", teacher, "--design", str(design)))
    assert "4 trainings" in study.out
    cascade = fine(own.run("cascade", *words, *SIZES, "--chain", "4,2,1", "--teacher", teacher, "--seeds", "0"))
    assert "Cascade 4→2→1" in cascade.out
    assert own.running() == []


def test_windows_of_another_file_are_learned_from_by_the_teachers_forecasts_alone(own, words, trained):
    other = str(own.folder / "forecasting" / "other.csv")
    plain = fine(own.run("distill", *words, "--student", "dlinear"))
    more = fine(own.run("distill", *words, "--student", "dlinear", "--transfer", other))
    assert "rows without labels" in more.out
    assert "rows without labels" not in plain.out
    one, two = own.runs(role="distilled")[-2:]
    assert one.data.metrics["test/rmse"] != two.data.metrics["test/rmse"]
    assert list(predictions(own, one)["example_id"]) == list(predictions(own, two)["example_id"])


def test_the_last_value_can_be_teacher_and_student_and_is_scored_as_the_baseline(own, words):
    fine(own.run("teacher", "--experiment", "again", *words, "--teacher", "persistence"))
    teacher = own.runs(role="teacher")[-1]
    made = f"runs:/{teacher.info.run_id}/model"
    for stage in ("student", "distill"):
        fine(own.run(stage, "--experiment", "again", *words, "--teacher", made, "--student", "persistence"))
    found = [teacher, own.runs(role="student")[-1], own.runs(role="distilled")[-1]]
    baseline = next(run for run in own.runs(role="trivial") if run.data.tags["kd.label"] == "baseline persistence"
                    and run.data.tags["kd.test_digest"] == teacher.data.tags["kd.test_digest"])  # fmt: skip
    for run in found:
        assert run.data.metrics["test/rmse"] == pytest.approx(baseline.data.metrics["test/rmse"], rel=1e-6)
        assert run.data.metrics["test/skill"] == pytest.approx(0, abs=1e-6)
    assert found[2].data.metrics["fidelity/rmse"] == pytest.approx(0, abs=1e-3)


def weights(own, run):
    (found,) = own.client.search_logged_models(
        [run.info.experiment_id], filter_string=f"source_run_id = '{run.info.run_id}'"
    )
    return next(Path(found.artifact_location).rglob("model.safetensors")).read_bytes()


def test_a_training_that_was_killed_ends_with_the_weights_of_one_that_was_not(own, words, trained):
    learned = (*SIZES, "--train_backbone", "true", "--student_layers", "2", "--seed", "3", "--epochs", "3")
    teacher = version_of(own, trained.teacher, trained.runs["teacher"])
    often = (*words, *learned, "--teacher", teacher, "--patience", "0", "--checkpoint_every_s", "0")
    fine(own.run("distill", "--experiment", "again", *often))
    straight = own.runs(role="distilled", seed="3")[-1]
    where = "after kd.training.loop:_Trainer._save_checkpoint 2"
    assert own.run("distill", *often, KD_KILL=where).code == -signal.SIGKILL
    assert "Continuing an interrupted training" in fine(own.run("distill", *often)).out
    resumed = own.runs(role="distilled", seed="3")[-1]
    assert resumed.info.run_id != straight.info.run_id
    assert weights(own, resumed) == weights(own, straight)
    assert resumed.data.metrics["test/rmse"] == straight.data.metrics["test/rmse"]


WRONG = {
    "one model a patient in a search": (
        ("hpo", "--models", "each", "--student", "dlinear"),
        "these options ask for 2 models, of 570, 584 and so on, and this makes one at a time",
    ),
    "layers of a GRU in main": (
        ("main", "--teacher", "LANGUAGE", "--student", "gru", "--objective", "hidden"),
        "objective='hidden': compares layers, and student='gru' has none",
    ),
    "layers of a GRU": (
        ("distill", "--student", "gru", "--objective", "mse:1,hidden:1"),
        "objective='hidden,mse': compares layers, and student='gru' has none",
    ),
    "an objective of classes": (
        ("distill", "--student", "gru", "--objective", "soft"),
        "objective='soft': .* has no soft",
    ),
    "patches longer than the history": (
        ("teacher", "--teacher", "LANGUAGE", "--patch_length", "15"),
        "patch_length=15 is more than history=12 and patch_stride=2 together: give at most 14",
    ),
    "more layers than there are": (
        ("teacher", "--teacher", "LANGUAGE", "--backbone_layers", "9"),
        r"backbone_layers=9: teacher='.*language' has 4: give at most so many",
    ),
    "a head wider than the model": (
        ("teacher", "--teacher", "LANGUAGE", "--head_width", "99"),
        r"head_width=99: teacher='.*language' is 16 wide: give at most that",
    ),
    "a teacher of another history": (
        ("student", "--student", "dlinear", "--teacher", "TEACHER", "--history", "10"),
        r"teacher='models:/.*': it was trained with history=12, and here history=10",
    ),
    "a teacher of another horizon": (
        ("student", "--student", "dlinear", "--teacher", "TEACHER", "--horizon", "4"),
        r"teacher='models:/.*': it was trained with horizon=6, and here horizon=4",
    ),
    "a name that is not finished": (
        ("student", "--student", "dlinear", "--teacher", "gru"),
        "teacher='gru': a finished model is needed here",
    ),
    "a mistyped name": (("teacher", "--teacher", "grus"), "teacher='grus': .* or by name dlinear, gru, lstm"),
    "a patient who is not there": (("teacher", "--teacher", "gru", "--patients", "571"), "571.*570"),
    "a covariate known ahead alone": (("teacher", "--teacher", "gru", "--known_ahead", "carbs"), "known_ahead='carbs'"),
    "no quantiles": (
        ("teacher", "--teacher", "gru", "--quantiles", "0.1,0.9"),
        "quantiles='0.1,0.9' is not understood",
    ),
    "a unit that cannot be": (("teacher", "--teacher", "gru", "--units", "mmol/L"), "no glucose in mmol/L"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_is_refused_by_name_before_anything_is_trained(own, words, trained, language, what):
    (stage, *options), said = WRONG[what]
    named = {"LANGUAGE": language, "TEACHER": version_of(own, trained.teacher, trained.runs["teacher"])}
    before = {run.info.run_id for run in own.runs(task="forecasting")}
    given = [word for pair in zip(words[::2], words[1::2], strict=True) for word in pair
             if stage != "hpo" or pair[0] not in ("--learning_rate", "--epochs", "--batch_size")]  # fmt: skip
    sizes = SIZES if "LANGUAGE" in options else ()
    line = refused(own.run(stage, *given, *sizes, *(named.get(word, word) for word in options)))
    assert re.search(said, line), line
    assert {run.info.run_id for run in own.runs(task="forecasting")} == before
