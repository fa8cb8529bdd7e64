"""Who leads a search, and when a process goes on, joins, or has done enough."""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
from optuna.trial import TrialState

from kd.base.types import UserError
from kd.commands import hpo
from kd.config import HpoConfig
from kd.search import leading
from kd.search.lease import Superseded
from kd.search.schedule import Goal
from tests.search.studies import queue, study_at

CONFIG = HpoConfig(dataset="d", arm="control", space="x.yaml", n_trials=1)
ASKED = leading.wanted_of(CONFIG)


@pytest.fixture
def leads(journal):
    return study_at(journal, "s-lead")


@pytest.fixture
def plan(monkeypatch, tmp_path):
    """A search in which nothing is trained, shown or tracked."""
    part = SimpleNamespace(update=lambda: None, step=None)
    for name in ("following", "tracking.run"):
        monkeypatch.setattr(f"kd.search.leading.{name}", lambda *_: nullcontext(part))
    monkeypatch.setattr(leading.tracking, "session", lambda _: nullcontext("kd"))
    monkeypatch.setattr(leading.tracking, "look", lambda _: "")
    monkeypatch.setattr(leading, "_goal", lambda *_: Goal({}, float("inf")))
    monkeypatch.setattr(leading, "replace", lambda plan, **_: plan)
    monkeypatch.setattr(leading, "reconcile", lambda *_: None)
    monkeypatch.setattr(leading, "page", lambda *_: "")
    parent = SimpleNamespace(log_metrics=lambda *_: None, log_text=lambda *_: None)
    about = {"name": "s", "experiment": "kd", "directions": {"quality": True}, "place": str(tmp_path)}
    return SimpleNamespace(config=CONFIG, parent=parent, **about)


def take_for_dead(claim):
    """End the claim's trial as another process does."""
    claim.inner.storage.set_trial_state_values(claim.inner._trial_id, TrialState.FAIL)


@pytest.mark.parametrize(
    ("why", "asked", "enough"),
    [(leading.LATE, ASKED, True), ("disk full", ASKED, False), (leading.LATE, "more", False)],
)
def test_who_joined_a_search_whose_time_is_up_does_not_search_as_long_again(
    leads, plan, monkeypatch, why, asked, enough
):
    claim = leading.elected(leads)
    claim.note(run_id="r", experiment="kd", asked=asked)

    @contextmanager
    def workers(*_):
        yield lambda: claim.fail("stopped", why)

    monkeypatch.setattr(leading, "trial_workers", workers)
    assert leading.join(plan, [], leads) is enough


def test_who_joins_finds_all_that_is_noted_of_a_lead_whose_run_is_there(leads, plan, monkeypatch):
    noted = []
    part = SimpleNamespace(run_id="r", log_params=lambda _: None)
    monkeypatch.setattr(leading.tracking, "run", lambda *_, **__: nullcontext(part))
    monkeypatch.setattr(leading, "_search", lambda *_: 0)
    monkeypatch.setattr(leading, "conclude", lambda *_: None)
    claim = leading.elected(leads)
    monkeypatch.setattr(type(claim.inner), "set_user_attr", lambda _, name, __: noted.append(name))
    leading.lead(plan, [], leads, claim)
    assert sorted(noted) == ["asked", "experiment", "run_id"]
    assert noted[-1] == "run_id"


def test_a_leader_that_slept_while_another_took_over_concludes_nothing(leads, plan, monkeypatch):
    claim = leading.elected(leads)
    monkeypatch.setattr(leading, "advance", lambda *_: pytest.fail("it went on"))
    take_for_dead(claim)
    with pytest.raises(Superseded):
        leading._search(plan, [], Goal({}, float("inf")), claim)


def test_a_leader_that_slept_tells_what_became_of_the_search(leads, plan, monkeypatch, capsys):
    def lead(plan, arms, leads, claim):
        take_for_dead(claim)
        other = leading.elected(leads)
        other.note(asked=ASKED, run_id="r")
        other.complete((1.0,), {})
        claim.require()

    plan.arms = lambda: [SimpleNamespace(search=leads)]
    plan.leads = lambda _: leads
    monkeypatch.setattr(hpo, "prepare", lambda *_: plan)
    monkeypatch.setattr(leading, "lead", lead)
    found = SimpleNamespace(run_id="r", tags={"mlflow.note.content": "what was found"})
    monkeypatch.setattr(leading.tracking, "record", lambda run_id: found if run_id == "r" else None)
    hpo.run(CONFIG)
    told = capsys.readouterr().out
    assert told.count("This search is finished (run r)") == told.count("what was found") == 1


def test_time_that_was_up_after_the_last_trial_leaves_nothing_to_go_on_with(journal, leads, plan, monkeypatch):
    arm = SimpleNamespace(name="control", search=study_at(journal), finals=study_at(journal, "s-finals"))
    slots = leading.search_slots(CONFIG, arm, [])
    monkeypatch.setattr(leading, "advance", lambda *_: True)
    monkeypatch.setattr(leading.tracking, "runs", lambda *_: [])
    goal = Goal({"control": slots}, deadline=0.0)
    assert goal.late
    claim = leading.elected(leads)
    queue(arm.search, slots)
    assert leading._search(plan, [arm], goal, claim) == 1
    arm.search.claim().complete((0.5,), {})
    assert leading._search(plan, [arm], goal, claim) == 0


@pytest.mark.parametrize(("user", "why"), [("kd", "no rows"), ("kd:sesame", "has a password")])
def test_a_user_without_a_password_may_be_named_under_mlflow_run(plan, monkeypatch, user, why):
    monkeypatch.setenv("MLFLOW_RUN_ID", "r")

    def reached(*_):
        raise UserError("no rows")

    monkeypatch.setattr(hpo, "prepare", reached)
    with pytest.raises(UserError, match=why):
        hpo.run(HpoConfig(dataset="d", storage=f"postgresql+psycopg2://{user}@server/optuna"))


def test_two_commands_that_ask_for_different_numbers_of_trials_never_lead_at_once(leads):
    first = leading.elected(leads)
    first.note(run_id="r", experiment="kd", asked="10 trials")
    assert leading.elected(leads) is None
    first.complete((1.0,), {})
    assert leading.finished(leads, "10 trials").run_id == "r"
    assert leading.finished(leads, "20 trials") is None
    assert leading.elected(leads).slot != first.slot
