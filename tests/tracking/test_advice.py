"""What is wrong with a store has advice of its own, and no address in it gives a secret away."""

import os

import mlflow
import pytest
from mlflow import MlflowClient

from kd import tracking
from kd.base.types import UserError

TOKEN = "S3cretT0ken"


@pytest.fixture
def client(tmp_path, make_store, monkeypatch):
    """An empty store with an experiment whose artifacts are on this machine."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    uri = make_store(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    monkeypatch.setenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "false")
    mlflow.set_tracking_uri(uri)
    MlflowClient().create_experiment("kd", artifact_location=str(tmp_path / "artifacts"))
    yield MlflowClient()
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(None)


def refused(opened):
    with pytest.raises(UserError) as caught, opened:
        pass
    text = str(caught.value)
    assert "\n" not in text
    assert "set MLFLOW_TRACKING_URI" not in text
    return text


@pytest.mark.parametrize("opening", [tracking.session, tracking.reading])
def test_a_deleted_experiment_names_the_command_that_brings_it_back(client, opening):
    number = client.get_experiment_by_name("kd").experiment_id
    client.delete_experiment(number)
    text = refused(opening("kd"))
    assert "experiment='kd' is deleted" in text
    assert f"mlflow experiments restore --experiment-id {number}" in text


def test_a_run_id_that_is_not_in_the_store_is_named_with_the_variable_to_unset(client, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    text = refused(tracking.session(""))
    assert text.startswith(f"MLFLOW_RUN_ID='{'0' * 32}': there is no such run")
    assert "unset MLFLOW_RUN_ID" in text


def test_a_deleted_run_that_mlflow_run_made_names_the_command_that_brings_it_back(client, monkeypatch):
    run_id = client.create_run(client.get_experiment_by_name("kd").experiment_id).info.run_id
    client.delete_run(run_id)
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    assert f"mlflow runs restore --run-id {run_id}" in refused(tracking.session(""))


def test_an_artifact_folder_that_cannot_be_written_is_named_before_anything_is_trained(client, tmp_path):
    (tmp_path / "artifacts").write_text("no folder")
    text = refused(tracking.session("kd"))
    assert str(tmp_path / "artifacts") in text
    assert "cannot be written" in text
    assert "make it writable" in text


def test_no_parameter_or_tag_of_a_run_holds_a_token(client):
    address = f"http://host:5000/x?token={TOKEN}"
    with tracking.session("kd"), tracking.run("a run", {"kd.storage": address}) as run:
        run.log_params({"storage": f"postgresql://ann:{TOKEN}@host/db", "teacher": f"http://{TOKEN}@host/x"})
        run.describe(f"see {address}")
    data = client.get_run(run.run_id).data
    assert TOKEN not in str([data.params, data.tags])
    assert data.tags["kd.storage"] == "http://host:5000/x?token=***"


def test_why_a_run_ended_holds_no_token(client):
    with pytest.raises(UserError), tracking.session("kd"), tracking.run("a run", {}) as run:
        raise UserError(f"http://{TOKEN}@host cannot be reached")
    assert TOKEN not in str(client.get_run(run.run_id).data.tags)


@pytest.mark.parametrize("address", [f"http://{TOKEN}@127.0.0.1:9", f"http://127.0.0.1:9/?token={TOKEN}",
                                     f"http://127.0.0.1:9/#{TOKEN}", f"http://me:pa/{TOKEN}@127.0.0.1:9"])  # fmt: skip
def test_a_server_that_is_away_is_named_without_its_token_which_mlflow_does_not_print_either(
    client, monkeypatch, address
):
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "0")
    mlflow.set_tracking_uri(address)
    with pytest.raises(UserError) as caught, tracking.session("kd"):
        pass
    assert TOKEN not in str(caught.value)
    printed = os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] == "false"
    assert not printed or TOKEN not in mlflow.get_tracking_uri()


def test_an_experiment_name_that_mlflow_refuses_is_not_taken_for_a_store_that_is_away(client):
    text = refused(tracking.session("x" * 600))
    assert text.startswith("experiment='xxx")
    assert "500 characters" in text


@pytest.mark.parametrize("opening", [tracking.session, tracking.reading])
@pytest.mark.parametrize("address", ["http://ann:S3cret/T0ken@host", "https://ann:12/T0ken@host:5000/"])
def test_no_part_of_a_password_with_a_slash_is_shown(client, opening, address):
    mlflow.set_tracking_uri(address)
    with pytest.raises(UserError) as caught, opening("kd"):
        pass
    assert "%2F" in str(caught.value)
    for part in ("ann", "S3cret", "T0ken", ":12"):
        assert part not in str(caught.value)
