"""A search on PostgreSQL and an MLflow server: joined from another machine, and going on after either was away."""

import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, replace

import pytest
import sqlalchemy
from optuna.trial import TrialState

from tests.integration.conftest import Done, Project
from tests.integration.searches import (
    ENDED,
    assert_agreed,
    at_work,
    await_that,
    leads,
    parents,
    slot_of,
    trials,
    words,
)
from tests.services.proxy import Proxy
from tests.services.servers import PASSWORD, execute, mlflow_server, postgresql

pytestmark = pytest.mark.services

SPACE = """
learning_rate: {type: float, low: 0.001, high: 0.02, log: true}
alpha: {type: float, low: 0.3, high: 0.7}
"""
WITHIN_S = 90
"""Retries are a matter of seconds; MLflow's own would take minutes."""


@pytest.fixture(scope="module")
def database():
    with postgresql() as uri:
        execute(uri, "CREATE DATABASE optuna")
        yield uri


@pytest.fixture(scope="module")
def server(database, tmp_path_factory):
    with mlflow_server(tmp_path_factory.mktemp("server"), "--backend-store-uri", database) as made:
        yield made


@pytest.fixture(scope="module")
def served(project, database, server) -> Project:
    """The project, whose runs go to the server and whose searches into PostgreSQL."""
    env = project.env | {"MLFLOW_TRACKING_URI": server.uri}
    return replace(project, env=env, storage=database.replace("/mlflow", "/optuna"))


def asked(served: Project, study: str, count: int, *more: str) -> tuple[str, ...]:
    return words(served, study, SPACE, "--experiment", study, "--epochs", "3", "--n_trials", str(count), *more)


def told(done: Done) -> list[str]:
    return [line for line in done.lines if "it/s" not in line]


def assert_one_line(done: Done) -> None:
    assert done.code == 2, done.err[-3000:]
    assert len(told(done)) == 1, done.err[-3000:]
    assert told(done)[0].startswith("error: ")
    assert "the same command again" in done.err
    assert PASSWORD not in done.err + done.out


def assert_complete(served: Project, study: str, count: int) -> None:
    """All trials and retrainings are there, once each, and the winner is scored and registered."""
    assert sorted(int(slot_of(one)) for one in trials(served, study, *ENDED)) == list(range(count))
    assert_agreed(served, study, f"{study}-finals")
    (parent,) = parents(served, study)
    assert parent.info.status == "FINISHED"
    scored = [run for run in served.runs(study=f"{study}-finals") if "kd.test_scored" in run.data.tags]
    assert len(scored) == 3


# Two machines


@dataclass(frozen=True)
class Shared:
    """What became of who led on another machine and was killed, of who took over, and of who joined that one."""

    killed: str
    heir: Done
    joined: Done
    seconds: float


def on_another_machine(project: Project, *command: str) -> "subprocess.Popen[str]":
    """Start a command under another host name, so that nobody can look it up; skips where that is forbidden."""
    apart = ["unshare", "--uts", "sh", "-c", 'hostname elsewhere && exec "$0" "$@"']
    if not shutil.which("unshare") or subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a host name of its own needs the rights of root")
    with (project.folder / "log").open("w") as log:
        return subprocess.Popen(
            [*apart, sys.executable, "-m", *command], cwd=project.folder, env=project.env, stdout=log, stderr=log
        )


@pytest.fixture(scope="module")
def shared(served) -> Shared:
    command = asked(served, "shared", 6)
    places = []
    for name in ("other", "heir"):
        folder = served.folder / name
        folder.mkdir()
        places.append(replace(served, folder=folder, env=served.env | {"KD_HOME": str(folder / "home")}))
    other, heir = places
    leader = on_another_machine(other, "entrypoints.hpo", *command)
    try:
        await_that(lambda: at_work(served, "shared"))
        joining = heir.begin("hpo", *command)
        await_that(lambda: "Joining" in (heir.folder / "stdout").read_text(), joining)
        await_that(lambda: leader.pid in at_work(served, "shared"), joining)
    finally:
        leader.kill()
        leader.wait()
    killed = time.monotonic()
    await_that(lambda: leads(served, "shared") == joining, joining, 180)
    seconds = time.monotonic() - killed
    experiment = served.client.get_experiment_by_name("shared").experiment_id
    made = served.client.create_run(experiment).info.run_id  # as `mlflow run` does, where no password may be seen
    env = served.env | {"MLFLOW_RUN_ID": made, "PGPASSWORD": PASSWORD}
    under = replace(served, env=env, storage=served.storage.replace(f":{PASSWORD}@", "@"))
    joined = under.run("hpo", *asked(under, "shared", 6))
    return Shared((other.folder / "log").read_text(), heir.ended(joining), joined, seconds)


def test_who_joined_takes_over_from_a_machine_that_died_and_nothing_is_done_twice(served, shared):
    assert "Study shared in postgresql" in shared.killed
    assert shared.heir.code == 0, shared.heir.err[-3000:]
    assert shared.seconds > 30  # nobody could look: it was silence that told
    lost = [one for study in ("shared", "shared-finals") for one in trials(served, study, TrialState.FAIL)]
    assert [one.user_attrs["kd.worker"].split()[0] for one in lost] == ["elsewhere"]
    assert_complete(served, "shared", 6)


def test_who_joined_and_saw_the_end_ends_well_and_says_where_it_was(served, shared):
    assert shared.joined.code == 0, shared.joined.err[-3000:]
    assert "Joining: the search is led on" in shared.joined.out
    assert "finished" in shared.joined.out
    (parent,) = parents(served, "shared")
    runs = [run for run in served.runs(stage="hpo", study="shared") if "kd.joined" in run.data.tags]
    assert [run.data.tags["kd.joined"] for run in runs] == [parent.info.run_id]  # the heir has none: no `mlflow run`


def test_the_password_of_the_storage_is_in_no_output_run_or_artifact(served, server, database, shared):
    for text in (shared.killed, shared.heir.out, shared.heir.err, shared.joined.out, shared.joined.err):
        assert PASSWORD not in text
    assert "***@127.0.0.1" in shared.heir.out
    engine = sqlalchemy.create_engine(database)
    with engine.connect() as connection:
        for table in ("params", "tags", "experiment_tags", "model_version_tags", "model_versions", "inputs"):
            written = str(connection.execute(sqlalchemy.text(f"SELECT * FROM {table}")).fetchall())
            assert PASSWORD not in written
            assert table in ("experiment_tags", "inputs") or len(written) > 2
    engine.dispose()
    files = [path for path in (server.folder / "artifacts").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if PASSWORD.encode() in path.read_bytes()]


# Servers that are away for a while


@pytest.fixture
def kept(server):
    """Whoever kills the server leaves it to the next test as it was."""
    port = server.port
    yield
    server.kill()
    server.port = port
    server.start()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_tracking_server_that_dies_is_told_in_one_line_and_the_same_command_goes_on(served, server, kept, workers):
    study = f"away-{workers}"

    died: list[float] = []

    def within_a_trial(verb: str, where: str) -> bool:
        now = "log-batch" in where and bool(at_work(served, study))
        died.extend([time.monotonic()] * now)
        return now

    with Proxy(server, within_a_trial) as proxy:
        done = served.run("hpo", *asked(served, study, 2, "--workers", workers), MLFLOW_TRACKING_URI=proxy.uri)
        assert proxy.killed_at
        assert time.monotonic() - died[0] < WITHIN_S
        port = int(proxy.uri.rpartition(":")[2])
    lines = told(done)
    assert done.code == 2, done.err[-3000:]
    assert all(line.startswith("error: ") for line in lines), done.err[-3000:]  # each worker has one of its own
    assert proxy.uri in lines[0]
    assert "the same command again" in lines[-1]
    server.port = port  # the server comes back under the name that clients knew
    server.start()
    moved = replace(served, env=served.env | {"MLFLOW_TRACKING_URI": server.uri})
    again = moved.run("hpo", *asked(moved, study, 2))
    assert again.code == 0, again.err[-3000:]
    assert_complete(moved, study, 2)


def test_a_postgresql_that_is_away_is_told_in_one_line_and_the_same_command_goes_on(served, database):
    command = asked(served, "broken", 2)
    leader = served.begin("hpo", *command)
    await_that(lambda: at_work(served, "broken"), leader)
    execute(database, "ALTER DATABASE optuna ALLOW_CONNECTIONS false")
    execute(database, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'optuna'")
    done = served.ended(leader)
    execute(database, "ALTER DATABASE optuna ALLOW_CONNECTIONS true")
    assert_one_line(done)
    assert "storage=" in done.err
    again = served.run("hpo", *command)
    assert again.code == 0, again.err[-3000:]
    assert_complete(served, "broken", 2)


def test_a_database_of_mlflow_is_refused_as_storage_without_its_password(served, database):
    done = replace(served, storage=database).run("hpo", *asked(replace(served, storage=database), "wrong", 3))
    assert done.code == 2
    assert len(told(done)) == 1
    assert "a database of its own" in done.err
    assert PASSWORD not in done.err + done.out
