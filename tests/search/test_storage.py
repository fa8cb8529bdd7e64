"""A storage that cannot be used is one line without a password, and what belongs to others is left as it is."""

import json
import multiprocessing
import os
import sqlite3
import threading
import time
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.storages.journal import JournalFileSymlinkLock
from sqlalchemy.exc import OperationalError

from kd import tracking
from kd.base.harmless import without_secrets
from kd.base.types import UserError
from kd.search.retries import Slot
from kd.search.storage import existing, open_storage, open_study, place_of, unbroken
from tests.search.studies import HOW, UP, done, in_processes, queue, study_at


def refused(place):
    """Return why a storage is not opened, in one line; it is the option that is named."""
    with pytest.raises(UserError) as caught:
        open_storage(place)
    text = str(caught.value)
    assert text.startswith("storage=")
    assert len(text.splitlines()) == 1
    return text


def test_without_the_option_a_study_is_below_the_home_of_this_project(kd_home):
    assert place_of("", "demo") == str(kd_home / "studies" / "demo.journal")
    assert place_of("sqlite:///x.db", "demo") == "sqlite:///x.db"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:s3cret@host/db",
        "postgresql://ann:s3/cret@host/db",
        "postgresql://ann:s3@cret@host:5432/db",
        "postgresql://ann:s3cret@/db?host=/run",
        "postgresql://host/db?user=ann&password=s3cret",
        "postgresql://ann@work:s3cret@host/db",
        "mysql+pymysql://host/db?user=ann&passwd=s3cret",
        "postgresql://host/db?sslpassword=s3cret&password=s3cret",
        "could not connect to 'postgresql://ann:s3cret@host/db' as asked",
    ],
)
def test_a_password_is_not_shown(url):
    assert "s3" not in without_secrets(url)
    assert "cret" not in without_secrets(url)
    assert "db" in without_secrets(url)


@pytest.mark.parametrize(
    "place",
    [
        "/home/ann/a.journal",
        "sqlite:////home/ann/a.db",
        "postgresql://host:5432/db",
        "postgresql+psycopg2://ann@host/db",
        "postgresql://ann@host:5432/db?sslmode=require",
    ],
)
def test_a_place_without_a_password_is_shown_as_it_is(place):
    assert without_secrets(place) == place


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql+psycopg2://ann:s3cret@127.0.0.1:1/db", "Connection refused"),
        ("mysql+pymysql://ann:s3cret@127.0.0.1:1/db", "install its driver"),
        ("postgres://ann:s3cret@127.0.0.1:1/db", "postgresql+psycopg2://USER@HOST/NAME"),
        ("postgresql://ann:s3cret@127.0.0.1:port/db", "postgresql+psycopg2://USER@HOST/NAME"),
        ("://", "sqlite:///FILE"),
    ],
)
def test_a_database_that_cannot_be_opened_is_told_in_one_line_without_the_password(url, reason):
    text = refused(url)
    assert reason in text
    assert "s3cret" not in text


@pytest.mark.parametrize(
    "content",
    [
        b"one line without an end",
        b"one line\n",
        b"two lines\nthe last without an end",
        b'{"run": 1}\n{"run": 2}\n{"torn": ',
        b"SQLite format 3\x00\x10\x00\n\xff\xfe binary",
        b"\n",
    ],
)
def test_a_file_that_is_no_journal_is_refused_and_left_as_it_is(tmp_path, content):
    path = tmp_path / "mine"
    path.write_bytes(content)
    assert "no journal of Optuna's" in refused(str(path))
    assert path.read_bytes() == content
    assert [one.name for one in tmp_path.iterdir()] == ["mine"]


def test_a_text_file_or_a_folder_as_a_database_is_refused_and_left_as_it_is(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(b"not a database, but long enough to be read as the head of one " * 5)
    before = path.read_bytes()
    assert "not a database" in refused(f"sqlite:///{path}")
    assert path.read_bytes() == before
    assert "unable to open" in refused(f"sqlite:///{tmp_path}")


def test_a_database_of_another_program_is_refused_and_not_one_byte_of_it_changes(tmp_path, make_store):
    make_store(tmp_path)
    path = tmp_path / "mlflow.db"
    before = path.read_bytes()
    assert "tables of another program" in refused(f"sqlite:///{path}")
    assert "no journal" in refused(str(path))
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["mlflow.db"]


def test_a_folder_and_a_path_below_a_file_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    assert "directory" in refused(str(tmp_path)).lower()
    assert "name a file that can be written" in refused(str(tmp_path / "file" / "a.journal"))


def test_a_place_nobody_can_write_to_is_refused():
    assert "name a file that can be written" in refused("/proc/nobody/a.journal")


def test_a_database_that_can_only_be_read_is_told_before_a_trial_is_begun(tmp_path, sqlite, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)  # it tries several times
    path = Path(sqlite.removeprefix("sqlite:///"))
    before = path.read_bytes()
    place = f"sqlite:///file:{path}?mode=ro&uri=true"
    with pytest.raises(UserError, match="readonly") as caught, unbroken(place):
        study_at(place)
    assert str(caught.value).startswith("storage=")
    empty = tmp_path / "empty.db"
    sqlite3.connect(empty).close()
    assert "readonly" in refused(f"sqlite:///file:{empty}?mode=ro&uri=true")
    assert path.read_bytes() == before


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("torn", [b'{"op_code":8,"worker', b"{", b'{"op_code":8,"trial_id":0}', b"x" * 200_000])
def test_half_a_line_is_cut_and_nothing_before_it_is_lost(journal, torn):
    study = study_at(journal)
    queue(study, 3)
    done(study, 0.5)
    path = Path(journal)
    before = path.read_bytes()
    path.write_bytes(before + torn)
    again = study_at(journal)
    assert [one.state for one in again.attempts()] == ["complete", "waiting", "waiting"]
    done(again, 0.6)
    assert path.read_bytes().startswith(before)
    assert all("op_code" in record for record in records(path))
    done(study, 0.7)  # a process that had it open all the time
    assert [trial.values for trial in study_at(journal).attempts()] == [(0.5,), (0.6,), (0.7,)]


def test_a_journal_torn_in_its_first_line_is_begun_anew(journal):
    for torn in (b'{"op', b'{"op_code":0,"worker_id":'):
        Path(journal).write_bytes(torn)
        queue(study_at(journal, "s"), 1)
        assert [one.state for one in study_at(journal).attempts()] == ["waiting"]


def test_half_a_line_is_cut_while_others_write_and_none_of_their_lines_is_lost(journal):
    queue(study_at(journal), 1)

    def write(me, report, barrier):
        study = study_at(journal)
        barrier.wait()
        for number in range(30):
            if me == 0 and number % 3 == 0:  # as a disk that fills up leaves it, within the lock
                study.storage._backend._lock.acquire()
                with open(journal, "ab") as file:
                    file.write(b'{"op_code":8,"trial')
                study.storage._backend._lock.release()
            study.inner.set_user_attr(f"{me}/{number}", number)
        report.put(True)

    in_processes(3, write, multiprocessing.get_context("fork").Barrier(3))
    kept = study_at(journal).inner.user_attrs
    assert {f"{me}/{number}" for me in range(3) for number in range(30)} <= set(kept)


@pytest.mark.parametrize("relative", [False, True])
def test_the_lock_of_a_process_that_was_killed_does_not_hold_the_others_up_for_ever(tmp_path, monkeypatch, relative):
    """From a relative path in a folder Optuna makes a lock that points nowhere, and waits for it for ever."""
    monkeypatch.chdir(tmp_path)
    place = "studies/a.journal" if relative else str(tmp_path / "studies" / "a.journal")
    study = study_at(place)
    study.storage._backend._lock.acquire()  # by a process that is killed now
    monkeypatch.setattr(JournalFileSymlinkLock, "__init__", quick(JournalFileSymlinkLock.__init__))
    result = []
    thread = threading.Thread(target=lambda: result.append(queue(study_at(place), 1)), daemon=True)
    thread.start()
    thread.join(20)
    assert result, "it waits for the lock of a dead process"
    assert [one.state for one in study_at(place).attempts()] == ["waiting"]


def quick(init):
    return lambda self, path, grace_period=30: init(self, path, 1)


@pytest.mark.filterwarnings("ignore:The value of")
def test_a_journal_is_found_again_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = study_at("a.journal")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    queue(study, 1)
    assert len(study_at("../a.journal").attempts()) == 1
    assert not list((tmp_path / "below").iterdir())


def test_studies_of_other_directions_or_another_search_are_refused_saying_what_differs(place):
    identity = {"space": "a" * 100, "seed": 0, "teacher": "t"}
    study_at(place, identity=identity)
    study_at(place, identity=dict(reversed(identity.items())))
    with pytest.raises(UserError, match="'s' exists with other directions: maximize, not minimize"):
        study_at(place, directions={"loss": False}, identity=identity)
    with pytest.raises(UserError, match="maximize, not maximize, minimize"):
        study_at(place, directions={**UP, "gflops": False}, identity=identity)
    with pytest.raises(UserError) as caught:
        study_at(place, identity={**identity, "seed": 3, "space": "b", "new": 1})
    text = str(caught.value)
    assert "seed was 0, is 3" in text
    assert "new was None, is 1" in text
    assert f"space was {'a' * 57}..., is b" in text
    assert "teacher" not in text
    assert text.endswith("give another study_name")


def test_what_json_writes_otherwise_is_no_other_search(place):
    identity = {"layers": (1, 2), "names": {1: "a"}, "rate": 0.1}
    study_at(place, identity=identity)
    assert study_at(place, identity=identity).attempts() == []


def test_a_study_of_another_program_is_refused_and_gets_nothing(place):
    storage = open_storage(place)
    foreign = optuna.create_study(storage=storage, study_name="s", direction="maximize")
    foreign.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(UserError, match="was not made by this entry point"):
        study_at(place)
    assert foreign.user_attrs == {}
    assert foreign.metric_names is None


def test_a_study_whose_maker_was_killed_in_the_middle_of_making_it_is_finished_by_the_next(place):
    optuna.create_study(storage=open_storage(place), study_name="s", direction="maximize")
    study = study_at(place)
    assert study.inner.metric_names == ["quality"]
    with pytest.raises(UserError, match="another search"):
        study_at(place, identity={"space": "two"})


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_processes_that_open_one_new_storage_at_once_all_get_it(tmp_path, kind):
    place = str(tmp_path / "new.journal") if kind == "journal" else f"sqlite:///{tmp_path}/new.db"

    def enter(me, report, barrier):
        barrier.wait()
        study = study_at(place)
        study.queue([Slot(str(me))], [])
        report.put(study.name)

    assert in_processes(3, enter, multiprocessing.get_context("fork").Barrier(3)) == ["s"] * 3
    assert sorted(one.slot for one in study_at(place).attempts()) == ["0", "1", "2"]


def away(place, study):
    """Take the storage away from a study that has it open."""
    if "://" in place:
        path = Path(place.removeprefix("sqlite:///"))
        path.unlink()
        study.storage._backend.engine.dispose()
    else:
        Path(place).unlink()


@pytest.mark.parametrize(
    "act",
    [lambda study: study.claim(), lambda study: study.queue([], []), lambda study: study.queue([Slot("y")], []),
     lambda study: study.reclaim(), lambda study: study.best()],
    ids=["claim", "ask", "add", "reclaim", "best"],
)  # fmt: skip
def test_a_storage_that_goes_away_is_told_as_that_and_not_as_the_tracking_store(place, act, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)  # Optuna tries several times
    study = study_at(place)
    queue(study, 1)
    away(place, study)
    with pytest.raises(UserError) as caught, tracking.unbroken(), unbroken(place):
        act(study)
    text = str(caught.value)
    assert text.startswith("storage=")
    assert "the same command again" in text
    assert len(text.splitlines()) == 1
    assert not isinstance(caught.value, tracking.Away)
    assert not Path(place).exists(), "it was begun anew, empty"


def test_a_claim_whose_storage_goes_away_tells_it_too(place):
    study = study_at(place)
    queue(study, 1)
    claim = study.claim()
    away(place, study)
    for act in (lambda: claim.note(a=1), lambda: claim.report(0.5, 1, last=False), lambda: claim.complete((0.5,), {}),
                lambda: claim.fail("error", "x")):  # fmt: skip
        with pytest.raises(UserError, match="storage="), unbroken(place):
            act()


def test_a_full_disk_is_told_as_that(journal, monkeypatch):
    study = study_at(journal)
    queue(study, 1)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"), unbroken(journal):
        study.queue([Slot("x")], [])


def test_a_journal_that_is_spoiled_in_the_middle_is_told_as_that(journal):
    study = study_at(journal)
    queue(study, 1)
    with open(journal, "ab") as file:
        file.write(b"spoiled\n" * 2)
    with pytest.raises(UserError, match="storage="), unbroken(journal):
        study.attempts()


def test_what_is_wrong_with_the_tracking_store_is_not_told_of_the_storage(place):
    with pytest.raises(OperationalError), unbroken(place):
        raise OperationalError("INSERT INTO runs", {}, Exception("disk I/O error"))
    with pytest.raises(OSError, match="a data file"), unbroken(place):
        raise OSError("a data file")


def test_no_password_is_told_when_a_storage_goes_away():
    place = "postgresql://ann:s3cret@host/db"
    with pytest.raises(UserError) as caught, unbroken(place):
        raise optuna.exceptions.StorageInternalError(f"lost {place}\nand more")
    assert "s3cret" not in str(caught.value)


def test_a_database_held_by_another_process_is_waited_for(sqlite):
    study = study_at(sqlite)
    queue(study, 1)
    other = sqlite3.connect(sqlite.removeprefix("sqlite:///"), check_same_thread=False, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.7, lambda: other.execute("COMMIT")).start()
    start = time.monotonic()
    assert study.claim() is not None
    assert time.monotonic() - start > 0.4


def test_a_search_starts_from_the_first_study_that_is_there_best_first(place):
    study = study_at(place, "old-control")
    queue(study, 3)
    done(study, 0.1, 0.9)
    study_at(place, "old")
    storage = open_storage(place)
    assert [trial.values for trial in existing(storage, ("old-control", "old"))] == [(0.9,), (0.1,)]
    assert existing(storage, ("old", "old-control")) == []
    with pytest.raises(UserError, match="warm_start='none': there is no such study") as caught:
        existing(storage, ("none-control", "none"))
    assert "old-control" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_pruning_is_left_out_where_optuna_has_none(journal):
    several = open_study(open_storage(journal), "m", {**UP, "gflops": False}, {}, replace(HOW, pruner="median"))
    assert isinstance(several.inner.pruner, optuna.pruners.NopPruner)
