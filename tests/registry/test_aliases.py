"""Aliases move as one promotion decided, or not at all."""

import threading

import mlflow
import pytest

from kd import tracking
from kd.base.types import UserError
from kd.config import PromoteConfig
from kd.registry.aliases import alone, move, roll_back

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
    move(MODEL, "1", before="")
    assert aliases(registry) == {"champion": "1"}
    move(MODEL, "2", before="1")
    assert aliases(registry) == {"champion": "2", "previous": "1"}


def test_a_champion_that_somebody_else_moved_meanwhile_is_not_overwritten(registry):
    move(MODEL, "1", before="")
    with pytest.raises(UserError, match="moved from version none to 1"):
        move(MODEL, "2", before="")
    assert aliases(registry) == {"champion": "1"}


def test_a_champion_that_somebody_else_moves_right_after_is_reported(registry, monkeypatch):
    real = tracking.set_alias

    def raced(model, alias, version):
        real(model, alias, version)
        if alias == "champion":
            real(model, alias, "3")

    monkeypatch.setattr(tracking, "set_alias", raced)
    with pytest.raises(UserError, match="set to version 2, but is 3"):
        move(MODEL, "2", before="")


def test_a_move_that_fails_between_the_two_aliases_leaves_both_as_they_were(registry, monkeypatch):
    move(MODEL, "3", before="")
    move(MODEL, "1", before="3")
    real, written = tracking.set_alias, []

    def dying(model, alias, version):
        if alias == "champion":
            raise ConnectionError
        written.append(alias)
        real(model, alias, version)

    monkeypatch.setattr(tracking, "set_alias", dying)
    with pytest.raises(ConnectionError):
        move(MODEL, "2", before="1")
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
    move(MODEL, "1", before="")
    move(MODEL, "2", before="1")
    rolled_back(monkeypatch)
    assert aliases(registry) == {"champion": "1"}
    assert "Rolled back" in registry.get_model_version(MODEL, "2").description


def test_a_champion_set_by_hand_is_not_rolled_back_to_a_version_it_never_followed(registry, monkeypatch):
    move(MODEL, "1", before="")
    move(MODEL, "2", before="1")
    registry.set_registered_model_alias(MODEL, "champion", "3")
    with pytest.raises(UserError, match="set by hand"):
        rolled_back(monkeypatch)
    assert aliases(registry) == {"champion": "3", "previous": "1"}


def test_a_champion_that_was_deleted_is_followed_by_previous(registry, monkeypatch):
    move(MODEL, "1", before="")
    move(MODEL, "2", before="1")
    registry.delete_model_version(MODEL, "2")
    assert aliases(registry) == {"previous": "1"}
    rolled_back(monkeypatch)
    assert aliases(registry) == {"champion": "1"}
