"""A tracking server that dies in the middle: one line, exit code 2, no alias moved, and the same command goes on."""

import time

import pytest
from mlflow import MlflowClient

from tests.integration.conftest import RECIPE
from tests.services.proxy import Proxy
from tests.services.servers import mlflow_server

pytestmark = pytest.mark.services

WITHIN_S = 60
"""Retries are a matter of seconds; MLflow's own would take minutes."""


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with mlflow_server(tmp_path_factory.mktemp("server"), "--backend-store-uri", "sqlite:///mlflow.db") as made:
        yield made


@pytest.fixture
def server(running):
    """The server; whoever kills it gets it back for the next test."""
    yield running
    if running.process is None:
        running.start()


def training(project, *words: str) -> tuple[str, ...]:
    return ("--dataset", project.data, "--teacher", project.weights, *RECIPE, "--patience", "0", *words)


@pytest.fixture(scope="module")
def version(project, running):
    """Train an arm and its control; returns a registered version as (name, number)."""
    for stage in ("student", "distill"):
        done = project.run(stage, *training(project), MLFLOW_TRACKING_URI=running.uri)
        assert done.code == 0, done.err[-2000:]
    found = MlflowClient(running.uri).search_model_versions()
    return found[0].name, str(found[0].version)


def told_in_one_line(done, proxy, started: float) -> None:
    assert proxy.killed_at, done.err
    assert done.code == 2, done.err[-3000:]
    assert [line for line in done.lines if "it/s" not in line] == done.lines[-1:], done.err[-3000:]
    assert done.lines[-1].startswith("error: ")
    assert proxy.uri in done.err
    assert "the same command again" in done.err
    assert time.monotonic() - started < WITHIN_S


def statuses(uri: str, **tags: str) -> list[str]:
    client = MlflowClient(uri)
    query = " and ".join(f"tags.`kd.{name}` = '{value}'" for name, value in tags.items())
    found = client.search_runs([one.experiment_id for one in client.search_experiments()], query)
    return [run.info.status for run in found]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "metrics/get-history"),
        ("GET", "predictions_test.parquet"),
        ("POST", "runs/create"),
        ("PUT", "comparison.md"),
        ("POST", "runs/update"),
    ],
    ids=["reading a curve", "reading predictions", "before the run", "publishing", "ending the run"],
)
def test_compare_never_reads_a_dead_server_as_one_that_has_nothing(project, server, version, method, path):
    with Proxy(server, lambda verb, where: verb == method and path in where) as proxy:
        started = time.monotonic()
        done = project.run("compare", MLFLOW_TRACKING_URI=proxy.uri)
        told_in_one_line(done, proxy, started)
    assert "has no" not in done.out
    server.start()
    done = project.run("compare", MLFLOW_TRACKING_URI=server.uri)
    assert done.code == 0, done.err[-2000:]
    assert "too few seeds to say" in done.out


def test_promote_leaves_the_alias_where_it_was_and_the_same_command_moves_it_later(project, server, version):
    name, number = version
    words = ("--model", name, "--candidate", number)
    with Proxy(server, lambda verb, where: verb == "POST" and "registered-models/alias" in where) as proxy:
        started = time.monotonic()
        told_in_one_line(project.run("promote", *words, MLFLOW_TRACKING_URI=proxy.uri), proxy, started)
    server.start()
    assert MlflowClient(server.uri).get_registered_model(name).aliases == {}
    assert project.run("promote", *words, MLFLOW_TRACKING_URI=server.uri).code == 0
    assert str(MlflowClient(server.uri).get_model_version_by_alias(name, "champion").version) == number


def test_a_training_goes_on_from_its_checkpoint_in_the_same_run_when_the_server_is_back(project, server):
    folder = project.folder / "home" / "checkpoints"
    words = training(project, "--seed", "7", "--epochs", "6", "--checkpoint_every_s", "0")

    def after_a_checkpoint(verb: str, where: str) -> bool:
        return "log-batch" in where and any(folder.glob("*/checkpoint-*/trainer_state.json"))

    with Proxy(server, after_a_checkpoint) as proxy:
        started = time.monotonic()
        told_in_one_line(project.run("student", *words, MLFLOW_TRACKING_URI=proxy.uri), proxy, started)
        port = int(proxy.uri.rpartition(":")[2])
    assert list(folder.glob("*/checkpoint-*"))
    server.port = port  # the server comes back under the name that clients knew
    server.start()
    assert statuses(server.uri, stage="student", seed="7") == ["RUNNING"]
    done = project.run("student", *words, MLFLOW_TRACKING_URI=server.uri)
    assert done.code == 0, done.err[-2000:]
    assert "Continuing an interrupted training" in done.out
    assert statuses(server.uri, stage="student", seed="7") == ["FINISHED"]
    assert not list(folder.glob("*/checkpoint-*"))
