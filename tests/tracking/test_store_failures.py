"""A store that fails in the middle is told as that, never as "there is none", and hides no other error."""

import os

import mlflow
import pytest
import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import (
    BAD_REQUEST,
    INVALID_PARAMETER_VALUE,
    RESOURCE_ALREADY_EXISTS,
    RESOURCE_DOES_NOT_EXIST,
    TEMPORARILY_UNAVAILABLE,
)
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

from kd import tracking
from kd.base.types import Stopped, UserError
from kd.tracking.store import failed


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder}/mlflow.db"
    MlflowClient(uri).create_experiment("kd", artifact_location=str(folder / "artifacts"))
    return uri


@pytest.fixture(autouse=True)
def client(store, monkeypatch):
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    mlflow.set_tracking_uri(store)
    mlflow.set_experiment("kd")
    yield MlflowClient()
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(None)


def sql(kind, text):
    return kind("INSERT INTO runs", {}, Exception(text))


def wrapped(inner, code=None):
    """Raise `inner` and wrap it as MLflow does."""
    try:
        try:
            raise inner
        except Exception as error:
            raise MlflowException(f"wrapped: {error}", *([code] if code else [])) from error
    except MlflowException as outer:
        return outer


def answered(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(f"{status} for the artifact", response=response)


REFUSED = requests.ConnectionError(
    "Max retries exceeded (Caused by NewConnectionError('[Errno 111] Connection refused'))"
)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (wrapped(REFUSED), True),
        (wrapped(sql(OperationalError, "attempt to write a readonly database"), TEMPORARILY_UNAVAILABLE), True),
        (wrapped(sql(OperationalError, "database or disk is full"), TEMPORARILY_UNAVAILABLE), True),
        (wrapped(sql(ProgrammingError, "permission denied for table runs"), BAD_REQUEST), True),
        (RestException({"error_code": "BAD_REQUEST", "message": "permission denied for table runs"}), True),
        (RestException({"error_code": "PERMISSION_DENIED", "message": "no"}), True),
        (sql(OperationalError, "server closed the connection"), True),
        (answered(503), True),
        (answered(403), True),
        (answered(404), False),
        (MlflowException("No such artifact: 'predictions_test.parquet'"), False),
        (MlflowException("no such run", RESOURCE_DOES_NOT_EXIST), False),
        (wrapped(sql(IntegrityError, "UNIQUE constraint failed"), RESOURCE_ALREADY_EXISTS), False),
        (wrapped(sql(IntegrityError, "UNIQUE constraint failed"), INVALID_PARAMETER_VALUE), False),
        (FileNotFoundError("predictions_test.parquet"), False),
    ],
    ids=lambda value: str(value)[:50] if isinstance(value, Exception) else "",
)
def test_a_failing_store_is_told_from_one_that_has_not_what_was_asked_for(error, expected):
    assert failed(error) is expected


@pytest.fixture
def dies(monkeypatch):
    """Let every request from now on fail."""

    def die() -> None:
        for method in ("log_batch", "set_terminated", "set_tag", "get_run", "update_run"):
            monkeypatch.setattr(MlflowClient, method, fail)

    def fail(*_, **__):
        raise wrapped(REFUSED)

    yield die
    monkeypatch.undo()


def test_a_store_that_dies_under_a_run_is_one_line_that_names_run_store_reason_and_mend(store, dies):
    def training():
        with tracking.run("student · seed 3", {}) as run:
            dies()
            run.set_tags({"kd.role": "student"})

    with pytest.raises(tracking.Away) as caught:
        training()
    text = str(caught.value)
    assert text.startswith("student · seed 3: ")
    assert all(word in text for word in (store, "(Connection refused)", "the same command again"))
    assert "\n" not in text


@pytest.mark.parametrize("error", [UserError("diverged"), Stopped("stopped at step 4"), ValueError("a bug")])
def test_why_a_run_ended_is_never_hidden_by_a_store_that_is_away_when_the_run_is_closed(dies, error):
    def training():
        with tracking.run("a run", {}):
            dies()
            raise error

    with pytest.raises(type(error)) as caught:
        training()
    assert caught.value is error


def test_a_child_that_cannot_be_ended_does_not_end_its_parent_in_its_place(client, monkeypatch):
    whole = MlflowClient.set_terminated
    ended = []

    def fails_for_the_child(self, run_id, *args, **kwargs):
        ended.append(run_id)
        if run_id != parent.run_id:
            raise wrapped(REFUSED)
        return whole(self, run_id, *args, **kwargs)

    def nested():
        with tracking.run("child", {}, parent):
            monkeypatch.setattr(MlflowClient, "set_terminated", fails_for_the_child)

    with tracking.run("parent", {}) as parent:
        with pytest.raises(tracking.Away):
            nested()
        assert ended
        assert client.get_run(parent.run_id).info.status == "RUNNING"
    assert client.get_run(parent.run_id).info.status == "FINISHED"


def test_a_status_that_cannot_be_asked_is_not_taken_for_a_run_that_is_gone(dies):
    dies()
    with pytest.raises(MlflowException):
        tracking.status("0" * 32)


def test_a_password_in_the_uri_is_handed_to_mlflow_apart_so_that_mlflow_cannot_print_it(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")
    mlflow.set_tracking_uri("http://me:open%20sesame@127.0.0.1:9")
    with pytest.raises(UserError) as caught, tracking.session(""):
        pass
    assert mlflow.get_tracking_uri() == os.environ["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:9"
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("me", "open sesame")
    assert "sesame" not in str(caught.value)
