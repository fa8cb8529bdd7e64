"""Aliases move as one promotion decided, or not at all."""

import json
import threading
from dataclasses import asdict

import mlflow
import pytest

from kd import tracking
from kd.base.types import UserError
from kd.config import PromoteConfig
from kd.registry.aliases import BEGUN, Move, alone, conclude, promote, roll_back, settle

MODEL = "kd-test"


@pytest.fixture
def registry(tmp_path, make_store):
    mlflow.set_tracking_uri(make_store(tmp_path))
    mlflow.set_experiment("kd")  # else that of a test before, which this store does not have
    client = mlflow.MlflowClient()
    client.create_registered_model(MODEL)
    for _ in range(3):
        client.create_model_version(MODEL, source=str(tmp_path))
    yield client
    mlflow.set_tracking_uri(None)


def aliases(client):
    return {alias: str(version) for alias, version in client.get_registered_model(MODEL).aliases.items()}


def test_the_first_promotion_leaves_no_previous_and_the_second_keeps_the_way_back(registry):
    promote(MODEL, "1", "", "run")
    assert aliases(registry) == {"champion": "1"}
    promote(MODEL, "2", "1", "run")
    assert aliases(registry) == {"champion": "2", "previous": "1"}


def test_a_champion_that_somebody_else_moved_meanwhile_is_not_overwritten(registry):
    promote(MODEL, "1", "", "run")
    with pytest.raises(UserError, match="moved from version none to 1"):
        promote(MODEL, "2", "", "run")
    assert aliases(registry) == {"champion": "1"}


def test_a_champion_that_somebody_else_moves_right_after_is_reported(registry, monkeypatch):
    real = tracking.set_alias

    def raced(model, alias, version):
        real(model, alias, version)
        if alias == "champion":
            real(model, alias, "3")

    monkeypatch.setattr(tracking, "set_alias", raced)
    with pytest.raises(UserError, match="set to version 2, previous to none, but they are 3 and none"):
        promote(MODEL, "2", "", "run")


def test_a_move_that_fails_between_the_two_aliases_leaves_both_as_they_were(registry, monkeypatch):
    promote(MODEL, "3", "", "run")
    promote(MODEL, "1", "3", "run")
    real, written = tracking.set_alias, []

    def dying(model, alias, version):
        if alias == "champion":
            raise ConnectionError
        written.append(alias)
        real(model, alias, version)

    monkeypatch.setattr(tracking, "set_alias", dying)
    with pytest.raises(ConnectionError):
        promote(MODEL, "2", "1", "run")
    assert written == ["previous", "previous"]
    assert aliases(registry) == {"champion": "1", "previous": "3"}


def test_only_one_promotion_of_a_model_runs_at_a_time_and_others_are_free(registry):
    told = []

    def second():
        try:
            with alone(MODEL):
                told.append("in")
        except UserError as error:
            told.append(str(error))

    with alone(MODEL), alone("kd-other"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert len(told) == 1
    assert "another promotion" in told[0]
    second()
    assert told[1:] == ["in"]


@pytest.mark.parametrize("state", [{}, {"champion": "2"}, {"champion": "2", "previous": "2"}])
def test_a_rollback_without_a_former_champion_is_refused_and_moves_nothing(registry, state):
    for alias, version in state.items():
        registry.set_registered_model_alias(MODEL, alias, version)
    with pytest.raises(UserError):
        roll_back(PromoteConfig(model=MODEL, rollback=True))
    assert aliases(registry) == state


def rolled_back(monkeypatch):
    monkeypatch.setattr("kd.registry.aliases.version_at", lambda *_: None)
    roll_back(PromoteConfig(model=MODEL, rollback=True))


def test_a_rollback_goes_to_the_version_that_champion_followed(registry, monkeypatch):
    promote(MODEL, "1", "", "run")
    promote(MODEL, "2", "1", "run")
    rolled_back(monkeypatch)
    assert aliases(registry) == {"champion": "1"}
    assert "Rolled back" in registry.get_model_version(MODEL, "2").description


def test_a_champion_set_by_hand_is_not_rolled_back_to_a_version_it_never_followed(registry, monkeypatch):
    promote(MODEL, "1", "", "run")
    promote(MODEL, "2", "1", "run")
    registry.set_registered_model_alias(MODEL, "champion", "3")
    with pytest.raises(UserError, match="set by hand"):
        rolled_back(monkeypatch)
    assert aliases(registry) == {"champion": "3", "previous": "1"}


def test_a_champion_that_was_deleted_is_followed_by_previous(registry, monkeypatch):
    promote(MODEL, "1", "", "run")
    promote(MODEL, "2", "1", "run")
    registry.delete_model_version(MODEL, "2")
    assert aliases(registry) == {"previous": "1"}
    rolled_back(monkeypatch)
    assert aliases(registry) == {"champion": "1"}


def interrupted(kind, *versions):
    """Note a move that a killed process has begun."""
    tracking.tag_model(MODEL, BEGUN, json.dumps(asdict(Move(kind, "run", *versions))))


@pytest.fixture
def second(registry):
    """Version 2 is champion and followed 1."""
    for number, before in (("1", ""), ("2", "1")):
        promote(MODEL, number, before, "run")
        conclude(MODEL)
    return registry


def test_a_promotion_killed_before_champion_moved_is_taken_back_so_the_way_back_is_not_lost(second, monkeypatch):
    interrupted("promotion", "2", "3", "1", "2")
    second.set_registered_model_alias(MODEL, "previous", "2")
    assert settle(MODEL) is None
    assert aliases(second) == {"champion": "2", "previous": "1"}
    rolled_back(monkeypatch)
    assert aliases(second) == {"champion": "1"}


def test_a_promotion_killed_after_champion_moved_can_be_rolled_back(second, monkeypatch):
    promote(MODEL, "3", "2", "run")  # and killed before the note was taken away
    rolled_back(monkeypatch)
    assert aliases(second) == {"champion": "2"}
    assert second.get_registered_model(MODEL).tags == {}


def test_a_rollback_given_again_after_a_kill_goes_back_once_and_not_twice(second, monkeypatch, capsys):
    promote(MODEL, "3", "2", "run")
    conclude(MODEL)
    interrupted("rollback", "3", "2", "2", "")
    second.set_registered_model_alias(MODEL, "champion", "2")
    for _ in range(2):
        rolled_back(monkeypatch)
        assert aliases(second) == {"champion": "2"}
        assert second.get_model_version(MODEL, "3").description.count("Rolled back") == 1
        assert (
            "a rollback of kd-test that was interrupted is finished: champion is version 2" in capsys.readouterr().out
        )
        interrupted("rollback", "3", "2", "2", "")


def test_the_run_of_a_killed_rollback_is_finished_with_it(second, monkeypatch):
    run_id = second.create_run(second.get_experiment_by_name("kd").experiment_id).info.run_id
    tracking.end(run_id, "KILLED", tracking.GONE)
    tracking.tag_model(MODEL, BEGUN, json.dumps(asdict(Move("rollback", run_id, "2", "1", "1", ""))))
    second.set_registered_model_alias(MODEL, "champion", "1")
    rolled_back(monkeypatch)
    assert second.get_run(run_id).info.status == "FINISHED"


def test_what_somebody_moved_after_a_kill_stays(second):
    interrupted("promotion", "1", "2", "", "1")
    second.set_registered_model_alias(MODEL, "champion", "3")
    assert settle(MODEL) is None
    assert aliases(second) == {"champion": "3", "previous": "1"}
    assert second.get_registered_model(MODEL).tags == {}


def test_a_dry_run_does_not_finish_what_was_interrupted(second, monkeypatch):
    interrupted("rollback", "2", "1", "1", "")
    second.set_registered_model_alias(MODEL, "champion", "1")
    with pytest.raises(UserError):
        roll_back(PromoteConfig(model=MODEL, rollback=True, dry_run=True))
    assert aliases(second) == {"champion": "1", "previous": "1"}
