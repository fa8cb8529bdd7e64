"""A store that is not there yet is made once and whole, however many processes want it and whatever is killed."""

import os
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from kd.tracking import database, store

INITIAL = ("experiments", "runs", "tags", "params", "metrics")


@pytest.fixture
def quick(monkeypatch, make_store, tmp_path_factory):
    """Let MLflow make its tables in no time."""
    ready = tmp_path_factory.mktemp("ready")
    make_store(ready)

    class Quick:
        def __init__(self, uri):
            Path(uri.removeprefix("sqlite:///")).write_bytes((ready / "mlflow.db").read_bytes())

        def search_experiments(self, max_results):
            pass

    monkeypatch.setattr(database, "MlflowClient", Quick)
    monkeypatch.setattr(database, "STILL_S", 0.3)
    monkeypatch.setattr(database, "POLL_S", 0.05)


def experiments(path):
    with closing(sqlite3.connect(path)) as opened:
        return [name for (name,) in opened.execute("SELECT name FROM experiments")]


def half_made(path, rows=0):
    """Leave a file as a process does that is killed while MLflow makes its tables."""
    with closing(sqlite3.connect(path)) as opened:
        for table in INITIAL:
            opened.execute(f"CREATE TABLE {table} (name TEXT)")
        opened.execute("CREATE TABLE alembic_version (version_num TEXT)")
        opened.execute("INSERT INTO alembic_version VALUES ('451aebb31d03')")
        opened.executemany("INSERT INTO experiments VALUES (?)", [("mine",)] * rows)
        opened.commit()


def test_a_store_is_made_whole_with_nothing_beside_it(tmp_path, quick):
    path = tmp_path / "below" / "mlflow.db"
    database.prepare(f"sqlite:///{path}")
    assert experiments(path) == ["Default"]
    assert [one.name for one in path.parent.iterdir()] == ["mlflow.db"]


def test_a_store_that_was_left_half_made_is_made_anew_and_a_cut_journal_beside_it_is_not_applied(tmp_path, quick):
    path = tmp_path / "mlflow.db"
    half_made(path)
    (tmp_path / "mlflow.db-wal").write_bytes(b"of the former file")
    database.prepare(f"sqlite:///{path}")
    assert experiments(path) == ["Default"]
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith("mlflow")] == ["mlflow.db"]


def test_a_half_made_store_that_still_grows_is_left_to_the_process_that_makes_it(tmp_path, quick):
    path = tmp_path / "mlflow.db"
    half_made(path)

    def make():
        for table in range(5):
            time.sleep(0.15)
            with closing(sqlite3.connect(path)) as opened:
                opened.execute(f"CREATE TABLE further{table} (name TEXT)")
        with closing(sqlite3.connect(path)) as opened:
            opened.execute("INSERT INTO experiments VALUES ('of the other')")
            opened.commit()

    with ThreadPoolExecutor() as pool:
        made = pool.submit(make)
        database.prepare(f"sqlite:///{path}")
        made.result()
    assert experiments(path) == ["of the other"]


@pytest.mark.parametrize("tables", [("studies",), ("experiments",)])
def test_a_file_with_rows_or_of_another_program_is_never_replaced(tmp_path, quick, tables):
    path = tmp_path / "mlflow.db"
    if tables == ("experiments",):
        half_made(path, rows=1)
    else:
        with closing(sqlite3.connect(path)) as opened:
            opened.execute("CREATE TABLE studies (name TEXT)")
    before = path.read_bytes()
    database.prepare(f"sqlite:///{path}")
    assert path.read_bytes() == before


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///:memory:", "http://127.0.0.1:1", "postgresql://h/d", "mlruns"])
def test_what_is_no_sqlite_file_is_left_to_mlflow(uri, quick):
    database.prepare(uri)


def test_of_several_processes_the_one_that_was_slower_leaves_the_other_s_store(tmp_path, quick, monkeypatch):
    path = tmp_path / "mlflow.db"
    linked = os.link

    def late(source, target):
        half_made(path, rows=1)
        linked(source, target)

    monkeypatch.setattr(os, "link", late)
    database.prepare(f"sqlite:///{path}")
    assert experiments(path) == ["mine"]


def test_what_another_process_makes_at_the_same_time_is_waited_for_and_other_errors_are_not(monkeypatch):
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    answers = iter([MlflowException('relation "runs" already exists'), MlflowException("duplicate key value"), "found"])

    def act():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert database.settled(act) == "found"
    assert waited == [1.0, 2.0]
    answers = iter([MlflowException("connection refused")])
    with pytest.raises(MlflowException):
        database.settled(act)
    assert waited == [1.0, 2.0]


def test_an_experiment_that_another_process_makes_at_the_same_moment_gets_this_one_s_runs(
    tmp_path, make_store, monkeypatch
):
    uri = make_store(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    create, other = mlflow.tracking.client.TrackingServiceClient.create_experiment, []

    def second(self, name, *args, **kwargs):
        other.append(create(self, name, *args, **kwargs))
        return create(self, name, *args, **kwargs)

    monkeypatch.setattr(mlflow.tracking.client.TrackingServiceClient, "create_experiment", second)
    try:
        with store.session("new"), mlflow.start_run() as run:
            assert [run.info.experiment_id] == other
    finally:
        mlflow.set_tracking_uri(None)
