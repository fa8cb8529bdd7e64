"""The folder of checkpoints: what a kill left in it is continued or removed, and never what another process uses."""

import json

import pytest
from filelock import FileLock

from kd import tracking
from kd.base.types import UserError
from kd.run.checkpoints import NOTE, checkpoints, discard_finished, note


@pytest.fixture
def statuses(monkeypatch):
    """Runs of the store, by id; others are not there."""
    known, abandoned = {"finished": "FINISHED", "killed": "KILLED"}, []
    monkeypatch.setattr(tracking, "status", lambda run_id: known.get(run_id, ""))
    monkeypatch.setattr(tracking, "abandon", abandoned.append)
    monkeypatch.setattr(tracking, "tracking_uri", lambda: "sqlite:///here.db")
    return abandoned


def interrupted(home, key, run_id, store="sqlite:///here.db"):
    folder = home / "checkpoints" / key
    (folder / "checkpoint-6").mkdir(parents=True)
    (folder / NOTE).write_text(json.dumps({"run_id": run_id, "store": store}))
    return folder


def test_an_interrupted_run_is_continued_and_the_note_says_so_before_anything_is_trained(kd_home, statuses):
    interrupted(kd_home, "key", "killed")
    with checkpoints("key", "auto") as (folder, run_id):
        assert run_id == "killed"
        note(folder, tracking.Run("killed"))
    with checkpoints("key", "auto") as (folder, run_id):
        assert (run_id, (folder / "checkpoint-6").exists()) == ("killed", True)


def test_a_finished_run_is_not_opened_again_because_a_kill_left_its_checkpoint(kd_home, statuses):
    interrupted(kd_home, "key", "finished")
    with checkpoints("key", "auto") as (folder, run_id):
        assert (run_id, [*folder.iterdir()]) == ("", [])
    assert statuses == []


def test_what_is_not_to_be_continued_is_closed_and_removed(kd_home, statuses):
    interrupted(kd_home, "key", "killed")
    with checkpoints("key", "never") as (folder, run_id):
        assert (run_id, [*folder.iterdir()]) == ("", [])
    assert statuses == ["killed"]


def test_checkpoints_of_finished_trainings_go_and_all_others_stay(kd_home, statuses):
    kept = [
        interrupted(kd_home, "a", "killed"),
        interrupted(kd_home, "b", "gone"),
        interrupted(kd_home, "c", "finished", store="sqlite:///elsewhere.db"),
        interrupted(kd_home, "d", "finished"),
    ]
    removed = interrupted(kd_home, "e", "finished")
    with FileLock(kd_home / "checkpoints" / "d.lock"):  # a process ends the run, and removes them itself
        discard_finished()
    assert all(folder.exists() for folder in kept)
    assert not removed.exists()


def test_a_second_process_of_the_same_training_is_refused(kd_home, statuses):
    with (
        checkpoints("key", "auto"),
        pytest.raises(UserError, match="running in another process"),
        checkpoints("key", "auto"),
    ):
        pass
