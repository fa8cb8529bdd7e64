"""A promotion or rollback killed before any of its writes leaves nothing half done once the command is given again."""

import os
import signal
from functools import partial, wraps

import mlflow
import pytest
from mlflow import MlflowClient

from kd.analysis.gates import Gate
from kd.commands import promote
from kd.config import PromoteConfig
from kd.registry import aliases, candidates

pytestmark = pytest.mark.integration

WRITES = ("set_", "delete_", "update_", "create_", "log_")
"""How the names of the client's methods begin that write to the store."""
TAGS = {"kd.task": "classification", "kd.role": "student", "kd.seed": "0", "kd.dataset": "d", "kd.test_digest": "t"}


@pytest.fixture(scope="module")
def client(tmp_path_factory, make_store):
    """A store with three finished runs."""
    mlflow.set_tracking_uri(make_store(tmp_path_factory.mktemp("store")))
    mlflow.set_experiment("kd")  # else that of a test before, which this store does not have
    yield MlflowClient()
    mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def made(client):
    """The finished runs behind versions 1 to 3."""
    runs = []
    for _ in range(3):
        with mlflow.start_run(tags=TAGS) as run:
            mlflow.log_metric("test/accuracy", 0.5)
        runs.append(run.info.run_id)
    return runs


@pytest.fixture
def new(client, made, monkeypatch):
    """Return a function that makes a registered model with versions 1 to 3, of which 2 is champion and followed 1."""
    answers = Gate("answers", 0.0, 1.0, False, True, "")
    monkeypatch.setattr(candidates, "answers_as_made", lambda _: answers)
    monkeypatch.setattr(promote, "require_same_service", lambda *_: None)

    def model(name):
        client.create_registered_model(name)
        for run_id in made:
            client.create_model_version(name, source="nowhere", run_id=run_id)
        client.set_model_version_tag(name, "2", aliases.SUCCEEDS, "1")
        client.set_registered_model_alias(name, "champion", "2")
        client.set_registered_model_alias(name, "previous", "1")
        return name

    return model


def killed(act, number):
    """Do something in a process that is killed before its n-th write to the store; says whether it had so many.

    Of writes of one kind in a row, such as tags, the first counts.
    """
    if pid := os.fork():
        return os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    for store in (MlflowClient()._tracking_client.store, MlflowClient()._get_registry_client().store):
        store.engine.dispose(close=False)  # its connections are the parent's
    written = []

    def deadly(method):
        @wraps(method)
        def called(*args, **kwargs):
            if written[-1:] != [method]:
                written.append(method)
            if len(written) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return method(*args, **kwargs)

        return called

    for name in dir(MlflowClient):
        if name.startswith(WRITES):
            setattr(MlflowClient, name, deadly(getattr(MlflowClient, name)))
    try:
        act()
    finally:
        os._exit(0)


def state(client, name):
    """Return what is known of a registered model, less the runs that decided."""
    found = client.get_registered_model(name)
    versions = client.search_model_versions(f"name = '{name}'")
    of_runs = ("kd.decision_run", "kd.decided_at", "kd.rolled_back")
    return {
        "aliases": {alias: str(number) for alias, number in found.aliases.items()},
        "tags": found.tags,
        "versions": {
            str(one.version): (
                one.source.partition("/")[0],
                {tag: tag in of_runs or value for tag, value in one.tags.items()},
                (one.description or "").count("# "),
                (one.description or "").count("Rolled back"),
            )
            for one in versions
        },
    }


def promoted_elsewhere(name):
    promote.run(PromoteConfig(model="source", candidate="3", to_model=name))


def rolled_back(name):
    promote.run(PromoteConfig(model=name, rollback=True))


@pytest.mark.parametrize("act", [promoted_elsewhere, rolled_back])
def test_killed_before_any_write_and_given_again_it_ends_as_if_nothing_had_happened(client, new, act):
    if act is promoted_elsewhere:
        new("source")
    act(new(act.__name__))
    whole, number = state(client, act.__name__), 1
    while killed(partial(act, new(f"{act.__name__}-{number}")), number):
        act(f"{act.__name__}-{number}")
        assert state(client, f"{act.__name__}-{number}") == whole, f"killed before write {number}"
        number += 1
    assert number > 9
