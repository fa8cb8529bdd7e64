"""What a killed process left open in a store is closed by the next one, and never what a living process may own."""

import os
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus

from kd import tracking
from kd.base.processes import myself
from kd.tracking.leftovers import discard_models

ELSEWHERE = "far-away boot pid:[1] 4711|7|5.0"


@pytest.fixture
def client(tmp_path, make_store, monkeypatch):
    uri = make_store(tmp_path)
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    MlflowClient().create_experiment("kd", artifact_location=str(tmp_path / "artifacts"))
    yield MlflowClient()
    mlflow.set_tracking_uri(None)


def left_running(client, process="", **tags):
    """A run as a process leaves it that was killed, or that is at work."""
    signed = {"kd.process": process} if process else {}
    made = client.create_run(client.get_experiment_by_name("kd").experiment_id, tags=signed | tags)
    return made.info.run_id


def logged(client, run_id, *, whole):
    """A model of a run with a file, whole or not."""
    experiment = client.get_experiment_by_name("kd").experiment_id
    model = client.create_logged_model(experiment, name="model", source_run_id=run_id)
    folder = Path(model.artifact_location)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    if whole:
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return model.model_id, folder


def test_the_next_command_ends_the_run_of_a_killed_process_as_killed_and_says_why(client, dead):
    run_id = left_running(client, dead)
    with tracking.session("kd"):
        pass
    found = client.get_run(run_id)
    assert found.info.status == "KILLED"
    assert found.info.end_time is not None
    assert found.data.tags["kd.exit_reason"] == tracking.GONE
    assert tracking.was_killed(run_id)
    tracking.end(run_id, "KILLED", "stopped: SIGTERM came")
    assert not tracking.was_killed(run_id)
    assert not tracking.was_killed(None)


def test_a_run_that_a_living_process_or_one_elsewhere_may_write_to_is_left_alone(client, dead):
    runs = [
        left_running(client, myself()),
        left_running(client, ELSEWHERE),
        left_running(client),
        left_running(client, dead, **{"kd.stage": "trial"}),  # its search knows how it ended
    ]
    with tracking.session("kd"):
        assert [tracking.status(run_id) for run_id in runs] == ["RUNNING"] * 4


def test_a_run_says_from_its_first_moment_whose_it_is_also_one_that_mlflow_run_made(client, monkeypatch):
    with tracking.session("kd"), tracking.run("a run", {}) as run:
        assert client.get_run(run.run_id).data.tags["kd.process"] == myself()
    adopted = left_running(client)
    monkeypatch.setenv("MLFLOW_RUN_ID", adopted)
    with tracking.session(""):
        assert client.get_run(adopted).data.tags["kd.process"] == myself()


def test_a_run_that_is_continued_has_the_new_process_s_name_before_it_is_running_again(client, dead, monkeypatch):
    run_id, seen = left_running(client, dead), []
    start = mlflow.start_run

    def started(**given):
        seen.append(client.get_run(run_id).data.tags["kd.process"])
        return start(**given)

    with tracking.session("kd"):
        monkeypatch.setattr(mlflow, "start_run", started)
        with tracking.run("a run", {}, continued=run_id) as run:
            assert run.run_id == run_id
    assert seen == [myself()]


def test_a_model_that_a_killed_process_was_writing_goes_with_its_files_and_a_whole_one_stays(client, dead):
    run_id = left_running(client, dead)
    _, half = logged(client, run_id, whole=False)
    ready, folder = logged(client, run_id, whole=True)
    others, _ = logged(client, left_running(client, myself()), whole=False)
    with tracking.session("kd"):
        pass
    found = client.search_logged_models([client.get_run(run_id).info.experiment_id])
    assert {model.model_id for model in found} == {ready, others}
    assert not half.exists()
    assert (folder / "model.safetensors").exists()
    assert tracking.model_of(run_id) == f"models:/{ready}"


def test_a_model_that_is_logged_again_takes_the_place_of_the_one_before(client):
    run_id = left_running(client, myself())
    _, folder = logged(client, run_id, whole=True)
    discard_models(run_id, whole=True)
    second, _ = logged(client, run_id, whole=True)
    assert tracking.model_of(run_id) == f"models:/{second}"
    assert not folder.exists()
