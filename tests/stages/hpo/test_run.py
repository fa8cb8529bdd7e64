"""Who leads a search, and when a process goes on, joins, or has done enough."""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
from optuna.trial import TrialState

from kd.config import HpoConfig
from kd.stages import hpo
from kd.stages.hpo.claims import Superseded
from kd.stages.hpo.lead import Course
from kd.types import UserError
from tests.stages.hpo.studies import queue, study_at

CONFIG = HpoConfig(dataset="d", arm="control", space="x.yaml", n_trials=1)
ASKED = hpo._asked(CONFIG)


@pytest.fixture
def office(journal):
    return study_at(journal, "s-lead")


@pytest.fixture
def setting(monkeypatch, tmp_path):
    """A search in which nothing is trained, shown or tracked."""
    part = SimpleNamespace(update=lambda: None, step=None)
    for name in ("Follower", "tracking.run"):
        monkeypatch.setattr(f"kd.stages.hpo.{name}", lambda *_: nullcontext(part))
    monkeypatch.setattr(hpo.tracking, "session", lambda _: nullcontext("kd"))
    monkeypatch.setattr(hpo, "_course", lambda *_: Course({}, float("inf")))
    monkeypatch.setattr(hpo, "replace", lambda setting, **_: setting)
    monkeypatch.setattr(hpo, "reconcile", lambda *_: None)
    monkeypatch.setattr(hpo, "page", lambda *_: "")
    return SimpleNamespace(config=CONFIG, name="s", directions={"quality": True}, place=str(tmp_path))


def take_for_dead(claim):
    """End the claim's trial as another process does."""
    claim.study.storage.set_trial_state_values(claim.inner._trial_id, TrialState.FAIL)


@pytest.mark.parametrize(
    ("why", "asked", "enough"), [(hpo.LATE, ASKED, True), ("disk full", ASKED, False), (hpo.LATE, "more", False)]
)
def test_who_joined_a_search_whose_time_is_up_does_not_search_as_long_again(
    office, setting, monkeypatch, why, asked, enough
):
    claim = hpo._elected(office)
    claim.note(run_id="r", experiment="kd", asked=asked)

    @contextmanager
    def workers(*_):
        yield lambda: claim.fail("stopped", why)

    monkeypatch.setattr(hpo, "workers", workers)
    assert hpo._join(setting, [], office) is enough


def test_a_leader_that_slept_while_another_took_over_concludes_nothing(office, setting, monkeypatch):
    claim = hpo._elected(office)
    monkeypatch.setattr(hpo, "advance", lambda *_: pytest.fail("it went on"))
    take_for_dead(claim)
    with pytest.raises(Superseded):
        hpo._search(setting, SimpleNamespace(parent=None), [], Course({}, float("inf")), claim)


def test_a_leader_that_slept_tells_what_became_of_the_search(office, setting, monkeypatch):
    told = []

    def lead(setting, arms, office, claim):
        take_for_dead(claim)
        other = hpo._elected(office)
        other.note(asked=ASKED, run_id="r")
        other.complete((1.0,), {})
        claim.require()

    setting.arms = lambda: [SimpleNamespace(search=office)]
    monkeypatch.setattr(hpo, "prepare", lambda *_: setting)
    monkeypatch.setattr(hpo, "open_study", lambda *_: office)
    monkeypatch.setattr(hpo, "_lead", lead)
    monkeypatch.setattr(hpo, "_tell_finished", told.append)
    hpo.run(CONFIG)
    assert len(told) == 1


def test_time_that_was_up_after_the_last_trial_leaves_nothing_to_go_on_with(journal, office, setting, monkeypatch):
    arm = SimpleNamespace(name="control", search=study_at(journal), finals=study_at(journal, "s-finals"))
    slots = hpo.search_slots(CONFIG, arm, [])
    monkeypatch.setattr(hpo, "advance", lambda *_: True)
    monkeypatch.setattr(hpo, "_count_passes", lambda *_: None)
    bench = SimpleNamespace(parent=SimpleNamespace(log_metrics=lambda *_: None, log_text=lambda *_: None))
    course = Course({"control": slots}, deadline=0.0)
    assert course.late
    claim = hpo._elected(office)
    queue(arm.search, slots)
    assert hpo._search(setting, bench, [arm], course, claim) == 1
    arm.search.claim().complete((0.5,), {})
    assert hpo._search(setting, bench, [arm], course, claim) == 0


@pytest.mark.parametrize(("user", "why"), [("kd", "no rows"), ("kd:sesame", "has a password")])
def test_a_user_without_a_password_may_be_named_under_mlflow_run(setting, monkeypatch, user, why):
    monkeypatch.setenv("MLFLOW_RUN_ID", "r")

    def reached(*_):
        raise UserError("no rows")

    monkeypatch.setattr(hpo, "prepare", reached)
    with pytest.raises(UserError, match=why):
        hpo.run(HpoConfig(dataset="d", storage=f"postgresql+psycopg2://{user}@server/optuna"))


def test_two_commands_that_ask_for_different_numbers_of_trials_never_lead_at_once(office):
    first = hpo._elected(office)
    first.note(run_id="r", experiment="kd", asked="10 trials")
    assert hpo._elected(office) is None
    first.complete((1.0,), {})
    assert hpo._finished(office, "10 trials").notes["run_id"] == "r"
    assert hpo._finished(office, "20 trials") is None
    assert hpo._elected(office).slot != first.slot
