"""MLflow hands out runs by the thousand at most; nothing beyond the first page may be lost."""

import mlflow
import pytest

from benchmarks.store import COMPARED, OTHER, SEEDS, arms, fill
from kd import tracking
from kd.analysis.comparison import compare
from kd.tasks import TASKS, task_named

RUNS = 1204
"""A parent, two baselines, a teacher, and 240 arms on five seeds."""


@pytest.fixture(scope="module")
def store(tmp_path_factory, make_store):
    folder = tmp_path_factory.mktemp("paging")
    uri = make_store(folder)
    fill(uri, str(folder / "artifacts"), runs=RUNS + 60, compared=RUNS)
    return uri


@pytest.fixture(autouse=True)
def tracked(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    mlflow.set_tracking_uri(store)
    yield
    mlflow.set_tracking_uri(None)


def test_runs_beyond_the_first_thousand_and_children_are_compared_too():
    records = tracking.runs([COMPARED])
    assert len(records) == RUNS
    assert sum("mlflow.parentRunId" in record.tags for record in records) == RUNS - 1
    directions = {str(name): task_named(name).directions for name in TASKS}
    (table,), notes = compare(records, directions)
    expected = {run.tags["kd.label"] for run in arms(RUNS) if "kd.role" in run.tags}
    assert {arm.label for arm in table.arms} == expected
    assert len(expected) == 3 + (RUNS - 4) // SEEDS
    assert all(len(arm.pairs) == SEEDS for arm in table.arms if arm.role == "distilled")
    assert notes == []


def test_scorings_of_a_test_set_are_counted_in_every_experiment_a_server_up_to_a_thousand(through_a_server):
    records = tracking.runs([COMPARED]) + tracking.runs([OTHER])
    (digest,) = {record.tags["kd.test_digest"] for record in records if "kd.role" in record.tags}
    trained = [record for record in records if record.tags.get("kd.role", "trivial") != "trivial"]
    scored = sum(record.tags.get("kd.test_scored") == "true" for record in trained)
    assert scored > 1000
    assert tracking.times_scored(digest) == scored
    through_a_server()
    assert tracking.times_scored(digest) == 1000
