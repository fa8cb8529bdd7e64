"""A store that version 0.1.0 made stays usable: its runs are compared, its models promoted, rolled back and exported.

`tests/fixtures/make_store.py` made it, and says what is in it.
"""

import json
import math
import statistics
import tarfile
from dataclasses import replace
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from kd.base.busy import is_timed, was_busy
from tests.fixtures.make_store import EXPERIMENT, STORE, relocate

pytestmark = pytest.mark.integration

ARCHIVE = Path(__file__).parents[1] / "fixtures" / "store-0.1.0.tar.gz"
TABLE = ("task", "split", "digest", "metric", "higher_is_better", "times_scored")
ARM = ("key", "role", "quality", "verdict", "figures", "pairs", "trained_on")
"""What must stay the same of a table and of an arm; labels and answers are for people, and may be put otherwise."""


@pytest.fixture
def old(project, tmp_path):
    """The store, unpacked into a folder of its own, as the project that the commands work on."""
    folder = tmp_path / "store"
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    relocate(folder, {STORE: str(folder)})
    env = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "KD_HOME": str(tmp_path / "home")}
    return replace(project, folder=folder, env=project.env | env)


@pytest.fixture
def model(old) -> str:
    """Name of the registered students."""
    return min((name for name, _ in old.versions()), key=len)


def aliases(old, model) -> dict[str, str]:
    found = old.client.get_registered_model(model).aliases
    return {alias: str(version) for alias, version in found.items()}


def folder_of(uri: str) -> Path:
    return Path(uri.removeprefix("file://"))


def agree(then: object, now: object) -> bool:
    """Say whether all that was there is there still; numbers may differ by how they are rounded."""
    if isinstance(then, dict) and isinstance(now, dict):
        return then.keys() <= now.keys() and all(agree(value, now[key]) for key, value in then.items())
    if isinstance(then, list) and isinstance(now, list):
        return len(then) == len(now) and all(map(agree, then, now))
    if isinstance(then, float) and isinstance(now, float):
        return math.isclose(then, now, rel_tol=1e-6, abs_tol=1e-9)
    return then == now


def careful(then: dict, now: dict) -> bool:
    """Say whether the means are the same, and the interval no narrower: Student's t counts the groups since 0.1.0."""
    if then["low"] is None or now["low"] is None:
        return agree(then["mean"], now["mean"]) and then["low"] is now["low"]
    return agree(then["mean"], now["mean"]) and now["low"] <= then["low"] < then["high"] <= now["high"]


def expected(old, arm: dict) -> dict:
    """The arm as it was, but that runs measured on a busy machine count in figures of time only where all were."""
    timed = {}
    for name in filter(is_timed, arm["figures"]):
        runs = [run.data for run in map(old.client.get_run, arm["run_ids"]) if name in run.data.metrics]
        quiet = [run for run in runs if not was_busy(run.tags)] or runs
        timed[name] = statistics.fmean(run.metrics[name] for run in quiet)
    return arm | {"figures": arm["figures"] | timed}


def test_old_runs_give_the_same_arms_figures_and_verdicts(old):
    done = old.run("compare", "--experiments", EXPERIMENT, "--output", "json")
    assert done.code == 0, done.err
    (then,), (now,) = (
        json.loads(text)["tables"] for text in ((old.folder / "comparison.json").read_text(encoding="utf-8"), done.out)
    )
    for name in TABLE:
        assert agree(then[name], now[name]), name
    before, after = ({tuple(sorted(arm["run_ids"])): arm for arm in table["arms"]} for table in (then, now))
    assert before.keys() == after.keys()
    for ids, arm in before.items():
        for name in ARM:
            assert agree(expected(old, arm)[name], after[ids][name]), (arm["label"], name)
        if arm["difference"] is not None:
            assert careful(arm["difference"], after[ids]["difference"]), arm["label"]


def test_an_old_version_passes_gates_and_becomes_champion_and_the_old_champion_comes_back(old, model):
    before = aliases(old, model)
    assert (before["champion"], before["previous"]) == ("2", "1")
    words = ("promote", "--model", model, "--candidate", "3", "--allowed_drop", "1", "--max_ece", "1")
    refused = old.run(*words, "--min_metric", "1.01")
    assert refused.code == 3, refused.err
    assert aliases(old, model) == before
    done = old.run(*words, "--min_metric", "0.1", "--min_agreement", "0", "--min_teacher_share", "0")
    assert done.code == 0, done.err
    assert aliases(old, model) == before | {"champion": "3", "previous": "2"}
    tags = old.client.get_model_version(model, "3").tags
    assert tags["kd.decision"] == "pass"
    assert all(tags[f"kd.gate.{gate}"].startswith("pass") for gate in ("min_metric", "allowed_drop", "answers"))
    back = old.run("promote", "--model", model, "--rollback")
    assert back.code == 0, back.err
    assert aliases(old, model) == {alias: version for alias, version in before.items() if alias != "previous"}


def test_an_old_promotion_is_taken_back(old, model):
    before = aliases(old, model)
    done = old.run("promote", "--model", model, "--rollback")
    assert done.code == 0, done.err
    assert before.pop("previous") == "1"
    assert aliases(old, model) == before | {"champion": "1"}


def test_an_old_version_is_exported_on_its_old_rows_and_answers_alike(old, model):
    before = aliases(old, model)
    known = set(old.versions())
    done = old.run("export", "--model", f"models:/{model}/2", "--format", "onnx")
    assert done.code == 0, done.err
    ((name, number),) = set(old.versions()) - known
    assert name == model
    assert aliases(old, model) == before
    source, made = (old.client.get_model_version(model, version) for version in ("2", number))
    assert made.tags["kd.exported_from"] == f"models:/{model}/2"
    assert made.tags["kd.format"] == "onnx"
    runs = [old.client.get_run(version.run_id) for version in (source, made)]
    for tag in ("kd.test_digest", "kd.validation_digest"):
        assert runs[0].data.tags[tag] == runs[1].data.tags[tag]
    scored = [pd.read_parquet(folder_of(run.info.artifact_uri) / "predictions_test.parquet") for run in runs]
    assert scored[0]["example_id"].equals(scored[1]["example_id"])
    scores = [table.filter(like="score:").to_numpy() for table in scored]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)
    texts = pd.read_csv(old.folder / "reviews.csv")["text"].tolist()[:20]
    places = [old.client.get_model_version_download_uri(model, version) for version in ("2", number)]
    answers = [mlflow.pyfunc.load_model(str(folder_of(place))).predict(texts) for place in places]
    for one, other in zip(*answers, strict=True):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-4)
