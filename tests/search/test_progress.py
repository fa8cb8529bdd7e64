"""The user is told each trial once, with what it was and how long the rest may take."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from kd.search.prepare import SearchArm
from kd.search.progress import duration, following, in_words
from kd.search.retries import Slot
from kd.search.schedule import Goal
from tests.search.studies import done, queue, study_at

SIX = [Slot(str(place)) for place in range(6)]


@pytest.fixture
def arm(journal):
    return SearchArm("distill", (), study_at(journal), study_at(journal, "s-finals"))


class Parent:
    def __init__(self):
        self.logged = []

    def log_metrics(self, figures, step):
        self.logged.append((figures, step))


def follower(arm, parent=None, workers=1):
    plan = SimpleNamespace(config=SimpleNamespace(workers=workers), directions={"quality": True}, parent=parent)
    return following(plan, [arm], Goal({"distill": SIX}, float("inf")), leads=parent is not None)


@pytest.fixture
def lines(capsys):
    return lambda: [line for line in capsys.readouterr().out.splitlines() if line.strip()]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (4.4, "4 s"), (89, "89 s"), (91, "2 min"), (600, "10 min"), (5399, "90 min"), (7200, "2.0 h")],
)
def test_a_time_is_said_in_a_unit_a_person_uses(seconds, said):
    assert duration(seconds) == said


def test_parameters_are_said_in_one_line():
    assert in_words({"learning_rate": 0.000123456, "epochs": 3, "objective": "soft"}) == (
        "learning_rate 0.000123, epochs 3, objective soft"
    )


def test_each_end_is_told_once_and_only_ends(arm, lines):
    queue(arm.search, SIX)
    with follower(arm) as seen:
        seen.update()
        assert lines() == []
        running = arm.search.claim()
        running.inner.suggest_float("x", 0.5, 0.5)
        seen.update()
        assert lines() == []
        running.complete((0.75,), {})
        seen.update()
        seen.update()
        (line,) = lines()
        assert line.startswith("distill trial 0 (1 of 6): quality 0.75 · x 0.5 · best quality 0.75 (trial 0), about ")
        assert line.endswith(" left")
        arm.search.claim().complete((0.5,), {"gflops": 1.0})
        arm.search.claim().fail("error", "RuntimeError: no memory\nat line 3")
        seen.update()
        outside, failed = lines()
    assert outside.startswith("distill trial 1 (2 of 6): quality 0.5, outside the constraints · best quality 0.75")
    assert failed.startswith("distill trial 2 (2 of 6): failed (RuntimeError: no memory) · ")
    assert "line 3" not in failed
    assert lines() == []


def test_what_an_earlier_command_ended_is_no_news_but_what_it_queued_is(arm, lines):
    queue(arm.search, SIX)
    done(arm.search, 0.25)
    started = arm.search.claim()
    with follower(arm) as seen:
        seen.update()
        assert lines() == []
        started.complete((0.5,), {})
        done(arm.search, 0.75)
        seen.update()
        assert [line.split(":")[0] for line in lines()] == ["distill trial 1 (3 of 6)", "distill trial 2 (3 of 6)"]


def test_a_dead_process_is_told_as_that_and_an_end_without_anything_to_add_has_no_empty_parts(arm, dead, lines):
    queue(arm.search, SIX)
    with follower(arm) as seen:
        claim = arm.search.claim()
        claim.inner.storage.set_trial_user_attr(claim.inner._trial_id, "kd.worker", dead)
        arm.search.reclaim()
        seen.update()
    assert lines() == ["distill trial 0 (0 of 6): failed (its process is gone)"]


def test_time_left_counts_what_is_left_by_how_many_run_at_once(arm, lines):
    queue(arm.search, SIX)
    done(arm.search, 0.5, 0.5)
    trials = [replace(one, seconds=60.0 if one.values else None) for one in arm.search.attempts()]
    with follower(arm) as seen:
        assert seen._outlook(trials, [], 4) == "about 4 min of trials left"
        assert seen._outlook(trials, [], 0) == ""
    with follower(arm, workers=3) as seen:
        assert seen._outlook(trials, [], 4) == "about 2 min of trials left"


def test_the_curve_of_the_best_is_logged_once_a_trial_that_is_complete(arm):
    parent = Parent()
    queue(arm.search, SIX)
    with follower(arm, parent) as seen:
        for value in (0.5, 0.3, 0.9):
            done(arm.search, value)
            seen.update()
        arm.search.claim().fail("error", "no")
        seen.update()
        seen.update()
    assert parent.logged == [({"hpo/distill/best_quality": best}, step) for step, best in enumerate((0.5, 0.5, 0.9))]


def test_the_retrainings_have_a_bar_and_a_trial_of_this_process_shows_its_epochs(arm):
    queue(arm.search, SIX)
    queue(arm.finals, [Slot("0/1", {"trial": 0, "seed": 1}), Slot("0/2", {"trial": 0, "seed": 2})])
    with follower(arm) as seen:
        claim = arm.search.claim()
        seen.step(claim, 1, 0.5)  # before there is a bar
        seen.update()
        done(arm.finals, 0.5)
        seen.step(claim, 2, 0.25)
        bars = {task.description: task for task in seen.progress.tasks}
        assert bars["distill: trials"].fields["more"] == "trial 0, epoch 2: quality 0.250"
        seen.update()
        bars = {task.description: task for task in seen.progress.tasks}
    assert (bars["distill: retraining"].completed, bars["distill: retraining"].total) == (1, 2)
