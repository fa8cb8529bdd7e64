"""What the registry holds can be served without this project, without pickle, and gives the scored answers."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from mlflow.artifacts import download_artifacts
from mlflow.models import get_model_info

pytestmark = pytest.mark.integration

LOAD = """
import json, sys
sys.modules["kd"] = None  # where it is installed too, importing it fails
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
texts = json.loads(sys.argv[2])
forms = {
    "string": model.predict(texts[0]),
    "list": model.predict(texts),
    "table": model.predict(pd.DataFrame({"text": texts})),
    "other name": model.predict(pd.DataFrame({"review": texts})),
}
refused = []
for wrong in (["good", None], pd.DataFrame({"text": ["good", float("nan")]}), [texts]):
    try:
        model.predict(wrong)
    except Exception as error:
        refused.append(str(error))
print(json.dumps({"forms": forms, "refused": refused}))
"""


@pytest.fixture(scope="module", params=["student", "teacher"])
def served(request, project, compared, tmp_path_factory):
    """Answers of a registered model in another folder, process and without this repository."""
    name = getattr(compared, f"{request.param}_name")
    version = project.client.get_model_version(name, "1")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    test = pd.read_csv(f"{project.data}/test.csv")
    env = {key: value for key, value in project.env.items() if key != "PYTHONPATH"}
    env["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    done = subprocess.run(
        [sys.executable, "-c", LOAD, f"models:/{name}/1", json.dumps(test["text"].tolist())],
        cwd=elsewhere,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    path = project.client.download_artifacts(version.run_id, "predictions_test.parquet", str(elsewhere))
    told = json.loads(done.stdout.splitlines()[-1])
    return told["forms"], pd.read_parquet(path), told["refused"]


def test_what_is_no_text_is_refused_instead_of_answered_as_the_word_for_it(served):
    refused = served[2]
    assert len(refused) == 3
    assert "row 1: a text is needed, got null" in refused[0]
    assert "row 1: a text is needed, got null" in refused[1]
    assert "row 0: a text is needed, got a list" in refused[2]


def test_a_string_a_list_and_a_table_give_the_same_answers(served):
    answers, _, _ = served
    assert answers["list"] == answers["table"] == answers["other name"]
    assert len(answers["string"]) == 1
    assert answers["string"][0]["label"] == answers["list"][0]["label"]
    assert answers["string"][0]["score"] == pytest.approx(answers["list"][0]["score"], abs=1e-5)


def test_served_answers_equal_the_predictions_that_were_scored(served):
    answers, scored, _ = served
    assert [one["label"] for one in answers["list"]] == scored["prediction"].tolist()
    for label in ("bad", "good"):
        ours = [one["probabilities"][label] for one in answers["list"]]
        assert ours == pytest.approx(scored[f"score:{label}"].tolist(), abs=1e-5)


@pytest.mark.parametrize("which", ["student", "teacher"])
def test_versions_carry_their_lineage(project, compared, which):
    version = project.client.get_model_version(getattr(compared, f"{which}_name"), "1")
    run = project.client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    for tag in ("kd.role", "kd.task", "kd.dataset", "kd.dataset_digest", "kd.test_digest", "kd.seed", "kd.arm"):
        assert version.tags[tag] == run.data.tags[tag]
    assert (version.tags["kd.role"] == "teacher") == (which == "teacher")
    assert "test/accuracy" in version.description
    if which == "student":
        assert version.tags["kd.teacher"] == f"models:/{compared.teacher_name}/1"
        by_alias = project.client.get_model_version_by_alias(compared.student_name, "challenger")
        assert by_alias.version == version.version


@pytest.mark.parametrize("which", ["student", "teacher"])
def test_versions_have_outputs_an_input_example_and_exact_requirements(project, compared, which, tmp_path, monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "KD_HOME"):
        monkeypatch.setenv(name, project.env[name])
    version = project.client.get_model_version(getattr(compared, f"{which}_name"), "1")
    info = get_model_info(version.source)
    assert info.signature.inputs is None  # declared, MLflow would make texts of numbers before the model sees them
    assert {"label", "score", "probabilities"} == {column["name"] for column in info.signature.outputs.to_dict()}
    assert info.saved_input_example_info is not None
    folder = Path(download_artifacts(artifact_uri=version.source, dst_path=str(tmp_path)))
    requirements = (folder / "requirements.txt").read_text().split()
    assert all("==" in line for line in requirements)
    assert {"torch", "transformers", "mlflow"} <= {line.partition("==")[0] for line in requirements}
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".safetensors" for path in files)
    assert [path for path in files if path.suffix in (".pkl", ".pickle", ".bin", ".pt", ".pth")] == []


def test_no_command_runs_code_that_came_into_the_store_by_another_way(project, compared, tmp_path):
    name, seen = compared.student_name, tmp_path / "seen"
    source = project.client.get_model_version(name, "1").source.removeprefix("models:/")
    (code,) = project.folder.rglob(f"{source}/artifacts/served.py")
    ours = code.read_bytes()
    code.write_text(f"import pathlib\npathlib.Path({str(seen)!r}).touch()\n")
    try:
        model = ("--model", f"models:/{name}/1")
        for command, words in (
            ("measure", model),
            ("export", (*model, "--format", "safetensors", "--output", str(tmp_path / "out"))),
            ("export", (*model, "--format", "onnx")),
            ("promote", ("--model", name, "--candidate", "1", "--min_metric", "0", "--dry_run", "true")),
            ("student", ("--dataset", project.data, "--teacher", f"models:/{name}/1")),
        ):
            done = project.run(command, *words)
            assert (done.code, len(done.lines)) == (2, 1), (command, done.err[-2000:])
            assert "its code, 'served.py', is none that this project has released" in done.err
    finally:
        code.write_bytes(ours)
    assert not seen.exists()
    assert project.running() == []


DAMAGED = {
    "config.json": (b"3", "its config.json is damaged"),
    "tokenizer.json": (b"{}", "cannot be loaded, or does not answer"),
    "model.safetensors": (b"", "model.safetensors is damaged"),
    "kd.json": (b"3", "is damaged"),
    "MLmodel": (b"signature: {inputs: zzz}", "its MLmodel is not as this project writes it"),
}


@pytest.mark.parametrize("file", DAMAGED)
def test_a_damaged_version_is_refused_in_one_line_by_each_command_that_loads_it(project, compared, tmp_path, file):
    source = project.client.get_model_version(compared.student_name, "1").source.removeprefix("models:/")
    (path,) = project.folder.rglob(f"{source}/artifacts/**/{file}")
    ours, (theirs, said) = path.read_bytes(), DAMAGED[file]
    path.write_bytes(theirs)
    try:
        assert_refused(project, compared.student_name, tmp_path / "out", said)
    finally:
        path.write_bytes(ours)


def test_a_version_that_says_it_has_a_thousand_million_layers_is_refused_and_not_waited_for(
    project, compared, tmp_path
):
    source = project.client.get_model_version(compared.student_name, "1").source.removeprefix("models:/")
    (path,) = project.folder.rglob(f"{source}/artifacts/**/config.json")
    ours = path.read_text()
    path.write_text(json.dumps(json.loads(ours) | {"num_hidden_layers": 10**9}))
    try:
        name, said = compared.student_name, "they do not belong together"
        assert_refused(project, name, tmp_path / "out", said)
        done = project.run("promote", "--model", name, "--candidate", "1", "--min_metric", "0", "--dry_run", "true")
        assert done.code == 3
        assert said in done.err
    finally:
        path.write_text(ours)


def assert_refused(project, name, out, said):
    model = ("--model", f"models:/{name}/1")
    for command, words in (("measure", model), ("export", (*model, "--format", "safetensors", "--output", str(out)))):
        done = project.run(command, *words)
        assert (done.code, len(done.lines)) == (2, 1), (command, done.err[-2000:])
        assert said in done.err
    assert not out.exists()
    assert project.running() == []
