"""A version is exported beside the one it came from, answers as it does, and is served without torch."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from mlflow.entities.model_registry import ModelVersion

pytestmark = pytest.mark.integration

FORMATS = ("onnx", "onnx-int8")
SERVE = """
import json, sys
import mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
texts = json.loads(sys.argv[2])
answers = {"list": model.predict(texts), "table": model.predict(__import__("pandas").DataFrame({"text": texts}))}
assert "torch" not in sys.modules and "transformers" not in sys.modules and "kd" not in sys.modules
print(json.dumps(answers))
"""
PLAIN = """
import json, sys, torch
from transformers import AutoTokenizer, BertForSequenceClassification
model = BertForSequenceClassification.from_pretrained(sys.argv[1])
words = AutoTokenizer.from_pretrained(sys.argv[1])(json.loads(sys.argv[2]), padding=True, return_tensors="pt")
assert "mlflow" not in sys.modules and "kd" not in sys.modules
with torch.no_grad():
    print(json.dumps(model(**words).logits.softmax(-1)[:, 1].tolist()))
"""


@dataclass(frozen=True)
class Exported:
    """The challenger and the run that made it, versions by format, what was printed, and where the files are."""

    model: str
    source: str
    versions: dict[str, ModelVersion]
    out: dict[str, str]
    folder: Path


@pytest.fixture(scope="module")
def exported(project, compared, tmp_path_factory):
    """The challenger in both formats of ONNX; taken away again, as the other files count what there is."""
    folder = tmp_path_factory.mktemp("exported")
    client, name, out = project.client, compared.student_name, {}
    aliases = client.get_registered_model(name).aliases
    challenger = client.get_model_version_by_alias(name, "challenger")
    for form in FORMATS:
        allowed = ("--allowed_drop", "0") if form == "onnx-int8" else ()
        words = ("--format", form, "--output", str(folder / form), *allowed)
        done = project.run("export", "--model", f"models:/{name}@challenger", *words)
        assert (done.code, done.err) == (0, "")
        out[form] = done.out
    assert client.get_registered_model(name).aliases == aliases
    found = {form: client.search_model_versions(f"name='{name}' and tags.`kd.format` = '{form}'") for form in FORMATS}
    assert [len(versions) for versions in found.values()] == [1, 1]
    model = f"models:/{name}/{challenger.version}"
    yield Exported(model, challenger.run_id, {form: versions[0] for form, versions in found.items()}, out, folder)
    for (version,) in found.values():
        client.delete_model_version(name, version.version)
        for run in [*project.runs(stage="measure"), client.get_run(version.run_id)]:
            client.delete_run(run.info.run_id)


def python(project, code, *words):
    env = {key: value for key, value in project.env.items() if key != "PYTHONPATH"}
    env["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=project.folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def scored(project, run_id, folder, split="test"):
    return pd.read_parquet(project.client.download_artifacts(run_id, f"predictions_{split}.parquet", str(folder)))


@pytest.mark.parametrize("form", FORMATS)
def test_the_version_and_its_run_say_what_they_are_and_where_they_come_from(project, exported, form):
    version = exported.versions[form]
    source, run = project.client.get_run(exported.source), project.client.get_run(version.run_id)
    for tags in (version.tags, run.data.tags):
        assert tags["kd.exported_from"] == exported.model
        assert tags["kd.format"] == form
    for tag in ("kd.role", "kd.task", "kd.dataset_digest", "kd.test_digest", "kd.validation_digest", "kd.seed"):
        assert run.data.tags[tag] == source.data.tags[tag]
    assert run.data.tags.get("kd.control_arm") == source.data.tags.get("kd.control_arm")
    assert run.data.tags["kd.arm"] != source.data.tags["kd.arm"]
    assert run.data.tags["kd.test_scored"] == "true"
    assert run.info.run_name == source.info.run_name.replace(" · seed 0", f" · {form} · seed 0")
    assert version.tags["kd.export_loses"] == str(run.data.metrics["export/drop"] > (form == "onnx") * 0.01).lower()
    assert "test/accuracy" in version.description
    assert f"Registered {version.name} version {version.version} ({form})" in exported.out[form]


@pytest.mark.parametrize("form", FORMATS)
def test_parity_is_that_of_the_stored_predictions(project, exported, form, tmp_path):
    run = project.client.get_run(exported.versions[form].run_id)
    before = scored(project, exported.source, tmp_path)
    after = scored(project, run.info.run_id, tmp_path)
    assert before["example_id"].equals(after["example_id"])
    difference = (before["score:good"] - after["score:good"]).abs().max()
    metrics = run.data.metrics
    assert metrics["export/max_difference"] == pytest.approx(difference)
    assert metrics["export/agreement"] == (before["prediction"] == after["prediction"]).mean()
    accuracy = [(table["label"] == table["prediction"]).mean() for table in (before, after)]
    assert metrics["test/accuracy"] == pytest.approx(accuracy[1])
    assert metrics["export/drop"] == pytest.approx(accuracy[0] - accuracy[1])
    assert difference < 1e-4 if form == "onnx" else difference > 0
    assert {"val/accuracy", "calibration/ece", "fidelity/agreement"} <= metrics.keys()


@pytest.mark.parametrize("form", FORMATS)
def test_both_are_measured_afresh_and_the_exported_one_without_torch_in_its_process(project, exported, form):
    run = project.client.get_run(exported.versions[form].run_id)
    (before,) = [
        one for one in project.runs(stage="measure") if one.data.tags.get("mlflow.parentRunId") == run.info.run_id
    ]
    assert before.data.params["model"] == exported.model
    profile = {"profile/latency_ms_p50", "profile/latency_ms_p95", "profile/ram_peak_mib", "model/size_mib"}
    assert profile <= before.data.metrics.keys() & run.data.metrics.keys()
    # torch and transformers alone are more than this
    assert run.data.metrics["profile/ram_peak_mib"] < before.data.metrics["profile/ram_peak_mib"] - 100
    assert run.data.metrics["model/parameters"] == before.data.metrics["model/parameters"]
    assert "model/gflops" in before.data.metrics
    assert "model/gflops" not in run.data.metrics
    assert run.data.tags["hw.threads"] == before.data.tags["hw.threads"]
    for figure in (before.data.metrics["profile/latency_ms_p50"], run.data.metrics["profile/latency_ms_p50"]):
        assert f"{figure:.2f}" in exported.out[form]


@pytest.mark.parametrize("form", FORMATS)
def test_what_the_registry_serves_gives_the_scored_answers_without_torch(project, exported, form, tmp_path):
    version = exported.versions[form]
    table = scored(project, version.run_id, tmp_path)
    texts = pd.read_csv(f"{project.data}/test.csv")["text"].tolist()
    answers = python(project, SERVE, f"models:/{version.name}/{version.version}", json.dumps(texts))
    assert answers["list"] == answers["table"]
    assert [one["label"] for one in answers["list"]] == table["prediction"].tolist()
    good = [one["probabilities"]["good"] for one in answers["list"]]
    assert good == pytest.approx(table["score:good"].tolist(), abs=1e-5)
    assert (exported.folder / form / "model.onnx").is_file()


def test_an_exported_version_is_neither_exported_again_nor_taken_for_a_teacher(project, exported):
    version = exported.versions["onnx"]
    uri = f"models:/{version.name}/{version.version}"
    for stage, option, *words in (
        ("export", "model", "--format", "onnx-int8"),
        ("student", "teacher", "--dataset", project.data),
    ):
        done = project.run(stage, f"--{option}", uri, *words)
        assert (done.code, len(done.lines)) == (2, 1)
        assert f"{option}='{uri}' is" in done.err
        assert "exported" in done.err


def test_safetensors_are_written_for_plain_transformers_and_nothing_is_registered(project, compared, tmp_path):
    registered, output = project.versions(), tmp_path / "plain"
    words = ("--model", f"models:/{compared.student_name}/1", "--format", "safetensors", "--output", str(output))
    done = project.run("export", *words)
    assert (done.code, done.err) == (0, "")
    assert "BertForSequenceClassification.from_pretrained" in done.out
    assert project.versions() == registered
    run = project.runs(stage="export", format="safetensors")[-1]
    assert run.data.metrics["export/max_difference"] < 1e-5
    assert "kd.test_scored" not in run.data.tags
    test = pd.read_csv(f"{project.data}/test.csv")["text"].tolist()
    table = scored(project, project.client.get_model_version(compared.student_name, "1").run_id, tmp_path)
    good = python(project, PLAIN, str(output), json.dumps(test))
    assert good == pytest.approx(table["score:good"].tolist(), abs=1e-4)
    again = project.run("export", *words)
    assert (again.code, len(again.lines)) == (2, 1)
    assert f"output='{output}' is not empty" in again.err


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ("/99", ["model=", "versions 1"]),
        ("@nobody", ["model=", "@challenger (version "]),
        ("", ["model=", "versions"]),
    ],
)
def test_a_version_that_is_not_there_is_the_users_to_mend(project, compared, version, told):
    done = project.run("export", "--model", f"models:/{compared.student_name}{version}")
    assert (done.code, len(done.lines)) == (2, 1)
    assert all(word in done.err for word in told)


@pytest.mark.parametrize("change", ["changed", "gone"])
def test_rows_that_are_not_those_it_was_scored_on_are_refused_before_anything_is_made(project, compared, change):
    path, registered = Path(project.data) / "test.csv", project.versions()
    text = path.read_text()
    try:
        path.write_text(text.replace(",good", " more,good")) if change == "changed" else path.unlink()
        done = project.run("export", "--model", f"models:/{compared.student_name}/1")
    finally:
        path.write_text(text)
    assert (done.code, len(done.lines)) == (2, 1)
    assert done.err.startswith(f"error: model='models:/{compared.student_name}/1': ")
    assert project.versions() == registered
    assert project.running() == []
