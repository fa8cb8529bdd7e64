"""What is said at the end of a command: a promotion is offered unless something speaks against that very model."""

from types import SimpleNamespace

import pytest

from kd.analysis.table import Doubt
from kd.commands import export
from kd.run import register
from kd.run.execute import Outcome

OWN = Doubt("No better than words (0.417): mine (0.200).", "train longer", ("mine",))
OTHER = Doubt("No better than words (0.417): theirs (0.200).", "train longer", ("theirs",))


@pytest.fixture
def said(monkeypatch):
    """Lines that the user reads; nothing is registered."""
    lines = []
    monkeypatch.setattr(register, "say", lines.append)
    monkeypatch.setattr(register, "register", lambda outcome, config, rows: ("kd-demo", "3"))
    monkeypatch.setattr(register.tracking, "aliased", lambda *_: "")
    monkeypatch.setattr(register.tracking, "set_alias", lambda *_: None)
    monkeypatch.setattr(register.tracking, "model_version", lambda *_: SimpleNamespace(run_id="mine"))
    return lines


@pytest.mark.parametrize(("against", "offered"), [([], True), ([OTHER], True), ([OWN], False), ([OTHER, OWN], False)])
def test_a_model_that_something_speaks_against_is_not_offered_for_promotion(said, against, offered):
    register.challenge(Outcome("mine", "models:/m", reused=False), None, None, against)
    assert any("kd promote --model kd-demo" in line for line in said) == offered
    assert ("Do not promote it yet: train longer." in said) == (not offered)


@pytest.mark.parametrize("against", [[], [OWN]])
def test_a_model_trained_alone_is_doubted_before_it_is_said_to_be_registered(said, against, monkeypatch):
    monkeypatch.setattr(register, "doubts_about", lambda run_id: against)
    good = register.register_alone(Outcome("mine", "models:/m", reused=False), None, None)
    assert good == ("" if against else "models:/kd-demo/3")
    assert said[0] == (f"Warning: {OWN.sentence}" if against else "Registered kd-demo version 3")


@pytest.mark.parametrize("against", [[], [OWN]])
def test_an_exported_version_is_not_offered_where_something_speaks_against_what_it_came_from(against, monkeypatch):
    lines = []
    monkeypatch.setattr(export, "say", lines.append)
    export.offer("kd-demo", "4", against)
    assert any("promote --model kd-demo --candidate 4" in line for line in lines) == (not against)
    assert ("Do not promote it yet: train longer." in lines) == bool(against)
