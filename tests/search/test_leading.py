"""Who leads a search, and when a process goes on, joins, or has done enough."""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
from optuna.trial import TrialState

from kd.base.types import UserError
from kd.commands import hpo
from kd.config import HpoConfig
from kd.search import search
from kd.search.leader import Course
from kd.search.lease import Superseded
from tests.search.studies import queue, study_at

CONFIG = HpoConfig(dataset="d", arm="control", space="x.yaml", n_trials=1)
ASKED = search.asked(CONFIG)


@pytest.fixture
def office(journal):
    return study_at(journal, "s-lead")


@pytest.fixture
def setting(monkeypatch, tmp_path):
    """A search in which nothing is trained, shown or tracked."""
    part = SimpleNamespace(update=lambda: None, step=None)
    for name in ("Follower", "tracking.run"):
        monkeypatch.setattr(f"kd.search.search.{name}", lambda *_: nullcontext(part))
    monkeypatch.setattr(search.tracking, "session", lambda _: nullcontext("kd"))
    monkeypatch.setattr(search, "_course", lambda *_: Course({}, float("inf")))
    monkeypatch.setattr(search, "replace", lambda setting, **_: setting)
    monkeypatch.setattr(search, "reconcile", lambda *_: None)
    monkeypatch.setattr(search, "page", lambda *_: "")
    return SimpleNamespace(config=CONFIG, name="s", directions={"quality": True}, place=str(tmp_path))


def take_for_dead(claim):
    """End the claim's trial as another process does."""
    claim.study.storage.set_trial_state_values(claim.inner._trial_id, TrialState.FAIL)


@pytest.mark.parametrize(
    ("why", "asked", "enough"), [(search.LATE, ASKED, True), ("disk full", ASKED, False), (search.LATE, "more", False)]
)
def test_who_joined_a_search_whose_time_is_up_does_not_search_as_long_again(
    office, setting, monkeypatch, why, asked, enough
):
    claim = search.elected(office)
    claim.note(run_id="r", experiment="kd", asked=asked)

    @contextmanager
    def workers(*_):
        yield lambda: claim.fail("stopped", why)

    monkeypatch.setattr(search, "workers", workers)
    assert search.join(setting, [], office) is enough


def test_a_leader_that_slept_while_another_took_over_concludes_nothing(office, setting, monkeypatch):
    claim = search.elected(office)
    monkeypatch.setattr(search, "advance", lambda *_: pytest.fail("it went on"))
    take_for_dead(claim)
    with pytest.raises(Superseded):
        search._search(setting, SimpleNamespace(parent=None), [], Course({}, float("inf")), claim)


def test_a_leader_that_slept_tells_what_became_of_the_search(office, setting, monkeypatch):
    told = []

    def lead(setting, arms, office, claim):
        take_for_dead(claim)
        other = search.elected(office)
        other.note(asked=ASKED, run_id="r")
        other.complete((1.0,), {})
        claim.require()

    setting.arms = lambda: [SimpleNamespace(search=office)]
    monkeypatch.setattr(hpo, "prepare", lambda *_: setting)
    monkeypatch.setattr(hpo, "open_study", lambda *_: office)
    monkeypatch.setattr(hpo, "lead", lead)
    monkeypatch.setattr(hpo, "tell_finished", told.append)
    hpo.run(CONFIG)
    assert len(told) == 1


def test_time_that_was_up_after_the_last_trial_leaves_nothing_to_go_on_with(journal, office, setting, monkeypatch):
    arm = SimpleNamespace(name="control", search=study_at(journal), finals=study_at(journal, "s-finals"))
    slots = search.search_slots(CONFIG, arm, [])
    monkeypatch.setattr(search, "advance", lambda *_: True)
    monkeypatch.setattr(search, "_count_passes", lambda *_: None)
    bench = SimpleNamespace(parent=SimpleNamespace(log_metrics=lambda *_: None, log_text=lambda *_: None))
    course = Course({"control": slots}, deadline=0.0)
    assert course.late
    claim = search.elected(office)
    queue(arm.search, slots)
    assert search._search(setting, bench, [arm], course, claim) == 1
    arm.search.claim().complete((0.5,), {})
    assert search._search(setting, bench, [arm], course, claim) == 0


@pytest.mark.parametrize(("user", "why"), [("kd", "no rows"), ("kd:sesame", "has a password")])
def test_a_user_without_a_password_may_be_named_under_mlflow_run(setting, monkeypatch, user, why):
    monkeypatch.setenv("MLFLOW_RUN_ID", "r")

    def reached(*_):
        raise UserError("no rows")

    monkeypatch.setattr(hpo, "prepare", reached)
    with pytest.raises(UserError, match=why):
        hpo.run(HpoConfig(dataset="d", storage=f"postgresql+psycopg2://{user}@server/optuna"))


def test_two_commands_that_ask_for_different_numbers_of_trials_never_lead_at_once(office):
    first = search.elected(office)
    first.note(run_id="r", experiment="kd", asked="10 trials")
    assert search.elected(office) is None
    first.complete((1.0,), {})
    assert search.finished(office, "10 trials").notes["run_id"] == "r"
    assert search.finished(office, "20 trials") is None
    assert search.elected(office).slot != first.slot
