"""The process that leads asks for exactly what is missing, stops what cannot end, and leaves no run open."""

import random
import time
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient

from kd import tracking
from kd.base.types import Pruned, UserError
from kd.config import HpoConfig
from kd.search import schedule
from kd.search.prepare import SearchArm, SearchPlan
from kd.search.retries import Slot
from kd.search.schedule import Goal, advance, final_slots, finalists, reconcile, search_slots, tally
from kd.space.parameters import grid
from kd.space.reading import read_space
from tests.search.studies import HOW, queue, sign, study_at

SPACE = {
    "objective": {"type": "categorical", "choices": ["soft", "hard"]},
    "temperature": {"type": "int", "low": 1, "high": 3, "step": 1, "when": {"objective": "soft"}},
    "epochs": {"type": "int", "low": 1, "high": 2, "step": 1},
}
CONFIG = HpoConfig(dataset="d", n_trials=5, top_k=2, pruner="none")


@pytest.fixture
def space():
    return read_space(SPACE, "space='x.yaml'")


@pytest.fixture
def arm(journal, space):
    return arm_at(journal, space, "distill", "s")


def arm_at(place, space, name, study, directions=None):
    directions = directions or {"quality": True}
    return SearchArm(name, space, study_at(place, study, directions=directions), study_at(place, f"{study}-finals"))


@pytest.fixture
def reconciled(monkeypatch):
    """The studies whose runs were looked at."""
    looked = []
    monkeypatch.setattr(schedule, "reconcile", lambda plan, study: looked.append(study.name))
    return looked


def plan(config=CONFIG):
    return SearchPlan(config, "kd", "s", "", {"quality": True}, {}, {})


def goal(arm, config=CONFIG, deadline=float("inf")):
    return Goal({arm.name: search_slots(config, arm, [])}, deadline)


# what is asked for


def test_a_grid_is_every_point_once_in_an_order_that_only_the_seed_decides(arm):
    config = replace(CONFIG, sampler="grid", space="x.yaml", n_trials=100)
    slots = search_slots(config, arm, [])
    points = grid(arm.space, "x")
    assert len(slots) == len(points) == 8
    assert sorted(map(str, points)) == sorted(str(slot.fixed) for slot in slots)
    assert slots == search_slots(config, arm, [])
    assert slots != search_slots(replace(config, seed=5), arm, [])
    assert [slot.fixed for slot in slots] != points


def test_a_grid_that_is_cut_is_the_beginning_of_the_whole_one_so_more_trials_go_on_with_it(arm):
    config = replace(CONFIG, sampler="grid", space="x.yaml", n_trials=8)
    assert search_slots(replace(config, n_trials=3), arm, []) == search_slots(config, arm, [])[:3]


def test_what_is_known_to_be_good_is_tried_first_and_counts_as_trials(arm):
    first = [{"epochs": 1}, {"epochs": 2}]
    assert [slot.fixed for slot in search_slots(CONFIG, arm, first)] == [*first, None, None, None]
    assert [slot.fixed for slot in search_slots(replace(CONFIG, n_trials=1), arm, first)] == first[:1]
    assert [slot.name for slot in search_slots(CONFIG, arm, [])] == ["0", "1", "2", "3", "4"]


# what is retrained


def give(study, *trials):
    """Complete trials of (params, values, excess)."""
    queue(study, [Slot(str(place), params) for place, (params, *_) in enumerate(trials)])
    for params, values, *excess in trials:
        claim = study.claim()
        for name in params:
            claim.inner.suggest_int(name, 0, 1000)
        claim.complete(values, excess[0] if excess else {})


def numbers(trials):
    return [trial.number for trial in trials]


def test_of_trials_with_equal_parameters_one_is_retrained(arm):
    give(arm.search, ({"a": 1}, (0.5,)), ({"a": 2}, (0.9,)), ({"a": 2}, (0.8,)), ({"a": 3}, (0.7,)))
    assert numbers(finalists(arm.search, 3)) == [1, 3, 0]
    assert numbers(finalists(arm.search, 1)) == [1]
    assert numbers(finalists(arm.search, 9)) == [1, 3, 0]


def test_what_keeps_no_constraint_is_not_retrained(arm):
    give(arm.search, ({"a": 1}, (0.5,), {"gflops": 0.0}), ({"a": 2}, (0.9,), {"gflops": 0.1}))
    assert numbers(finalists(arm.search, 3)) == [0]


def test_of_a_front_both_ends_and_what_lies_between_are_retrained_and_nothing_that_is_beaten(journal, space):
    arm = arm_at(journal, space, "distill", "m", {"quality": True, "gflops": False})
    front = [({"a": place}, (place / 10, float(place))) for place in range(9)]
    random.Random(0).shuffle(front)
    give(arm.search, *front, ({"a": 100}, (0.75, 99.0)))
    params = [trial.params["a"] for trial in finalists(arm.search, 3)]
    assert params == [8, 4, 0]
    assert [trial.params["a"] for trial in finalists(arm.search, 1)] == [8]
    for count in range(1, 12):
        chosen = [trial.params["a"] for trial in finalists(arm.search, count)]
        assert len(set(chosen)) == len(chosen) == min(count, 9)
        assert {0, 8} <= set(chosen) or count == 1
        assert 100 not in chosen


def test_a_search_without_a_result_says_why_in_one_line(arm):
    queue(arm.search, 2)
    arm.search.claim().fail("error", "no")
    with pytest.raises(UserError, match="of 2 trials none is complete: see their runs") as caught:
        finalists(arm.search, 2)
    assert len(str(caught.value).splitlines()) == 1
    arm.search.claim().complete((0.9,), {"size_mib": 1.0})
    with pytest.raises(UserError, match="none of them keeps the constraints: ease constraints"):
        finalists(arm.search, 2)


def test_each_of_the_best_is_retrained_on_every_fresh_seed(arm):
    give(arm.search, ({"a": 1}, (0.5,)), ({"a": 2}, (0.9,)), ({"a": 3}, (0.7,)))
    slots = final_slots(replace(CONFIG, final_seeds="4,5,6"), arm)
    assert [(slot.fixed["trial"], slot.fixed["seed"]) for slot in slots] == [
        (trial, seed) for trial in (1, 2) for seed in (4, 5, 6)
    ]
    assert len({slot.name for slot in slots}) == 6


# how it goes on


def finish(study, value=0.5):
    while (claim := study.claim()) is not None:
        claim.complete((value,), {})


def test_retraining_begins_when_all_arms_have_been_searched_and_not_before(journal, space, reconciled):
    control, distilled = (arm_at(journal, space, name, name) for name in ("control", "distill"))
    arms = (control, distilled)
    asked = Goal({arm.name: search_slots(CONFIG, arm, []) for arm in arms}, float("inf"))
    assert not advance(plan(), arms, asked)
    assert [len(arm.search.attempts()) for arm in arms] == [5, 5]
    finish(control.search)
    assert not advance(plan(), arms, asked)
    assert [arm.finals.attempts() for arm in arms] == [[], []]
    finish(distilled.search)
    assert not advance(plan(), arms, asked)
    assert {one.state for arm in arms for one in arm.finals.attempts()} == {"waiting"}
    finish(control.finals)
    assert not advance(plan(), arms, asked)
    finish(distilled.finals)
    assert advance(plan(), arms, asked)
    assert advance(plan(), arms, asked)
    assert [len(arm.search.attempts()) for arm in arms] == [5, 5], "a finished search was queued again"
    assert set(reconciled) == {"control", "distill", "control-finals", "distill-finals"}


def test_exactly_what_is_missing_is_queued(arm, reconciled, dead):
    asked = goal(arm)
    advance(plan(), [arm], asked)
    arm.search.claim().complete((0.5,), {})
    arm.search.claim().fail("stopped", "SIGTERM")
    arm.search.claim().fail("error", "diverged")
    sign(arm.search.claim(), dead)
    for _ in range(3):
        assert not advance(plan(), [arm], asked)
    assert [one.slot for one in arm.search.attempts()] == ["0", "1", "2", "3", "4", "1", "2", "3"]
    finish(arm.search)
    advance(plan(), [arm], asked)
    assert tally(arm.search, asked.slots["distill"]) == {"complete": 5, "pruned": 0, "failed": 3}


def test_more_trials_go_on_with_what_is_there(arm, reconciled):
    advance(plan(), [arm], goal(arm))
    finish(arm.search)
    more = replace(CONFIG, n_trials=7)
    assert not advance(plan(more), [arm], goal(arm, more))
    assert [one.state for one in arm.search.attempts()] == ["complete"] * 5 + ["waiting"] * 2
    fewer = goal(arm, replace(CONFIG, n_trials=2))
    assert tally(arm.search, fewer.slots["distill"])["complete"] == 2


def test_as_many_failures_as_trials_end_the_search_with_the_last_reason_in_one_line(arm, reconciled):
    asked = goal(arm)
    for number in range(5):
        assert not advance(plan(), [arm], asked)
        arm.search.claim().fail("error", f"reason {number}\nsecond line")
    with pytest.raises(UserError) as caught:
        advance(plan(), [arm], asked)
    first, _, what_to_do = str(caught.value).rpartition("; ")
    assert first == "study 's': 5 trials failed, as many as are wanted; the last: reason 4"
    assert "a larger n_trials continues" in what_to_do
    more = replace(CONFIG, n_trials=6)
    assert not advance(plan(more), [arm], goal(arm, more))
    assert arm.search.claim() is not None
    assert reconciled[:5] == ["s"] * 5


def test_trials_that_were_stopped_never_end_a_search(arm, reconciled):
    asked = goal(arm)
    for _ in range(12):
        assert not advance(plan(), [arm], asked)
        arm.search.claim().fail("stopped", "SIGTERM")
    assert not advance(plan(), [arm], asked)


def test_the_reason_of_a_search_that_only_died_is_told(journal, space, reconciled, dead):
    arm = arm_at(journal, space, "distill", "s")
    one = replace(CONFIG, n_trials=1)
    asked = goal(arm, one)
    for _ in range(2):
        advance(plan(one), [arm], asked)
        claim = arm.search.claim()
        claim.inner.suggest_int("a", 0, 1000)
        sign(claim, dead)
    with pytest.raises(UserError, match="1 trials failed, as many as are wanted; the last: its process is gone"):
        advance(plan(one), [arm], asked)


def test_a_search_that_has_all_its_trials_is_not_refused_for_what_failed_on_the_way(arm, reconciled):
    advance(plan(), [arm], goal(arm))
    for _ in range(4):
        arm.search.claim().fail("error", "diverged")
        advance(plan(), [arm], goal(arm))
    finish(arm.search)
    few = replace(CONFIG, n_trials=1)
    asked = goal(arm, few)
    assert len([one for one in arm.search.attempts() if one.slot == "0" and one.state == "failed"]) >= 1
    assert not advance(plan(few), [arm], asked)  # goes on to the retrainings
    assert arm.finals.attempts()


def test_a_point_of_a_grid_that_always_fails_is_given_up_and_the_others_are_concluded(arm, reconciled):
    config = replace(CONFIG, sampler="grid", space="x.yaml", n_trials=4)
    asked = goal(arm, config)
    while True:
        advance(plan(config), [arm], asked)
        if (claim := arm.search.claim()) is None:
            break
        if claim.slot == "3":
            claim.complete((0.5,), {})
        else:
            claim.fail("error", "out of memory")
    assert tally(arm.search, asked.slots["distill"]) == {"complete": 1, "pruned": 0, "failed": 6}
    assert [slot.fixed["seed"] for slot in final_slots(config, arm)] == [1, 2, 3]
    assert len(arm.finals.attempts()) == 3


def test_a_grid_of_which_every_point_fails_says_so(arm, reconciled):
    config = replace(CONFIG, sampler="grid", space="x.yaml", n_trials=2)
    asked = goal(arm, config)
    for _ in range(4):
        assert not advance(plan(config), [arm], asked)
        arm.search.claim().fail("error", "out of memory")
    with pytest.raises(UserError, match="2 trials failed, as many as are wanted; the last: out of memory"):
        advance(plan(config), [arm], asked)


def test_when_the_time_is_up_nothing_is_begun_and_what_runs_is_waited_for(arm, reconciled):
    advance(plan(), [arm], goal(arm))
    arm.search.claim().complete((0.5,), {})
    running = arm.search.claim()
    late = goal(arm, deadline=time.monotonic() - 1)
    assert late.late
    assert not advance(plan(), [arm], late)
    assert arm.search.claim() is None
    assert arm.finals.attempts() == []
    running.complete((0.9,), {})
    assert not advance(plan(), [arm], late)
    assert [one.state for one in arm.finals.attempts()] == ["waiting"] * 3  # of equal parameters
    finish(arm.finals)
    assert advance(plan(), [arm], late)
    assert tally(arm.search, late.slots["distill"])["complete"] == 2
    assert not advance(plan(), [arm], goal(arm))  # the same command goes on
    assert arm.search.claim().slot == "2"


def test_when_the_time_is_up_before_anything_is_complete_it_says_so(arm, reconciled):
    late = goal(arm, deadline=time.monotonic() - 1)
    with pytest.raises(UserError, match="no trial was complete in time"):
        advance(plan(), [arm], late)


# the runs that killed processes leave open


@pytest.fixture
def store(monkeypatch):
    """Runs that are open in the tracking store, and what they were ended with."""
    left, ended = [], {}
    monkeypatch.setattr(tracking, "runs", lambda experiments, query, status: left)
    monkeypatch.setattr(tracking, "end", lambda run_id, status, reason: ended.update({run_id: (status, reason)}))

    def open_run(run_id, study, **tags):
        left.append(SimpleNamespace(run_id=run_id, tags={"kd.study": study, **tags}))

    return SimpleNamespace(open=open_run, ended=ended)


def test_a_run_left_open_gets_the_state_of_its_trial_and_a_living_one_stays_open(arm, store, dead):
    queue(arm.search, 4)
    arm.search.claim().complete((0.5,), {})
    sign(arm.search.claim(), dead)
    arm.search.claim()
    arm.search.reclaim()
    for number in range(4):
        store.open(f"r{number}", "s", **{"kd.trial": str(number)})
    store.open("elsewhere", "another", **{"kd.trial": "0"})
    reconcile(plan(), arm.search)
    assert {run: status for run, (status, _) in store.ended.items()} == {"r0": "FINISHED", "r1": "FAILED"}
    assert "gone" in store.ended["r1"][1]


def test_a_quote_in_the_name_of_a_study_does_not_break_the_query(
    journal, space, dead, make_store, tmp_path, monkeypatch
):
    uri = make_store(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    quoted = arm_at(journal, space, "distill", 'it\'s "one"')
    queue(quoted.search, 1)
    sign(quoted.search.claim(), dead)
    quoted.search.reclaim()
    client = MlflowClient(uri)
    tags = {"kd.stage": "trial", "kd.study": quoted.search.name, "kd.trial": "0"}
    run = client.create_run(client.create_experiment("kd"), tags=tags)
    reconcile(plan(), quoted.search)
    assert client.get_run(run.info.run_id).info.status == "FAILED"


def test_a_process_killed_after_its_trial_was_complete_leaves_no_run_open(arm, store):
    asked = goal(arm)
    advance(plan(), [arm], asked)
    finish(arm.search)
    store.open("r4", "s", **{"kd.trial": "4"})
    advance(plan(), [arm], asked)
    assert store.ended["r4"][0] == "FINISHED"
    finish(arm.finals)
    store.open("r5", "s-finals", **{"kd.trial": "2"})
    assert advance(plan(), [arm], asked)
    assert store.ended["r5"][0] == "FINISHED"


def test_the_store_is_not_asked_every_second(arm, reconciled):
    asked = goal(arm)
    for _ in range(5):
        advance(plan(), [arm], asked)
    assert reconciled == []
    arm.search.claim().fail("error", "no")
    for _ in range(5):
        advance(plan(), [arm], asked)
    assert reconciled == ["s"]


def test_pruned_and_complete_trials_are_told_apart_in_the_tally(journal, space):
    arm = SearchArm("distill", space, study_at(journal, how=replace(HOW, pruner="median")), study_at(journal, "f"))
    queue(arm.search, 7)
    for value in [0.9] * 6 + [0.1]:
        claim = arm.search.claim()
        with suppress(Pruned):
            claim.report(value, 1, last=False)
            claim.complete((value,), {})
    slots = [Slot(str(place)) for place in range(7)]
    assert tally(arm.search, slots) == {"complete": 6, "pruned": 1, "failed": 0}
