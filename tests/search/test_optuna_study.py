"""A trial is run by one process, comes to one end, and draws the same parameters whatever was killed before."""

import multiprocessing
import os
import time
from dataclasses import replace

import optuna
import pytest

from kd.base.types import Pruned
from kd.search import lease as claims
from kd.search.lease import LEASE, WORKER, Superseded
from kd.search.optuna_study import WANTED
from kd.search.retries import Slot, counting
from tests.search.studies import ELSEWHERE, HOW, add, done, in_processes, queue, sign, silence, study_at

MEDIAN = replace(HOW, pruner="median")


def draw(claim):
    """Sample a space with a condition."""
    trial = claim.inner
    params = {"x": trial.suggest_float("x", 0.001, 1, log=True), "kind": trial.suggest_categorical("kind", ["a", "b"])}
    if params["kind"] == "a":
        params["layers"] = trial.suggest_int("layers", 1, 30)
    return params


def value_of(params):
    return params["x"] + 0.001 * params.get("layers", 0)


def states(study):
    return [one.state for one in study.attempts()]


def test_two_processes_that_reach_for_the_same_trials_never_run_one_twice(place):
    queue(study_at(place), 50)

    def work(_, report, barrier):
        study, taken = study_at(place), []
        for _ in range(25):
            barrier.wait()
            claim = study.claim()
            taken.append(claim.number)
            claim.complete((1.0,), {})
        report.put(taken)

    one, other = in_processes(2, work, multiprocessing.get_context("fork").Barrier(2))
    assert sorted(one + other) == list(range(50))
    assert states(study_at(place)) == ["complete"] * 50


def test_separate_storages_see_each_others_claims(place):
    one, other = study_at(place), study_at(place)
    queue(one, 2)
    assert [one.claim().number, other.claim().number] == [0, 1]
    assert one.claim() is None
    assert other.claim() is None


def test_a_trial_that_is_queued_while_another_process_looks_breaks_nothing(place, monkeypatch):
    """Between two readings of the trials there may be more of them."""
    study, other = study_at(place), study_at(place)
    queue(study, 1)
    read = optuna.Study.get_trials

    def busy(self, *arguments, **options):
        found = read(self, *arguments, **options)
        if self is study.inner and len(found) < 5:
            add(other, str(len(found)))
        return found

    study.inner.set_user_attr(WANTED, [str(place) for place in range(9)])
    monkeypatch.setattr(optuna.Study, "get_trials", busy)
    assert study.claim().number == 0
    assert study.claim().number == 1


def test_a_study_without_slots_runs_nothing_until_it_is_asked_again(place):
    study = study_at(place)
    queue(study, 2)
    study.queue([], study.attempts())
    assert study_at(place).claim() is None
    study.queue([Slot("1")], study.attempts())
    assert study.claim().slot == "1"
    assert study.claim() is None


def test_trials_that_others_put_into_the_study_are_passed_over(place):
    study = study_at(place)
    study.inner.enqueue_trial({"x": 0.5})  # as a dashboard does
    queue(study, 1)
    claim = study.claim()
    assert (claim.number, claim.slot) == (1, "0")
    claim.complete((1.0,), {})
    assert [trial.number for trial in study.ranked()] == [1]
    assert study.claim() is None
    assert study.reclaim() == []


def search(place, how, interrupted=(), dead=""):
    """Run 14 slots one after another; at some the process dies or is stopped, and another one goes on.

    Returns:
        parameters by slot, of the attempts that count.
    """
    study = study_at(place, how=how)
    queue(study, 14)
    troubles = list(interrupted)
    while (claim := study.claim()) is not None:
        trouble = next((one for one in troubles if one[0] == claim.slot), None)
        if trouble is None or trouble[1] == "after":
            params = draw(claim)
        if trouble is None:
            claim.complete((value_of(params),), {})
            continue
        troubles.remove(trouble)
        if trouble[2] == "stopped":
            claim.fail("stopped", "SIGTERM")
        else:
            sign(claim, dead)
        study = study_at(place, how=how)  # another process
        study.reclaim()
        queue(study, 14)
    assert not troubles
    alive = counting(study.attempts())
    assert [one.state for one in alive.values()] == ["complete"] * 14
    return {slot: alive[slot].params for slot in sorted(alive, key=int)}


TROUBLES = (("3", "before", "lost"), ("3", "before", "lost"), ("5", "after", "stopped"), ("6", "before", "stopped"),
            ("8", "after", "lost"), ("12", "after", "lost"), ("13", "before", "lost"))  # fmt: skip


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_search_that_was_interrupted_draws_what_an_unbroken_one_draws(tmp_path, dead, sampler):
    how = replace(HOW, sampler=sampler)
    unbroken = search(str(tmp_path / "unbroken"), how)
    assert len({str(params) for params in unbroken.values()}) == 14
    assert search(str(tmp_path / "broken"), how, TROUBLES, dead) == unbroken
    assert search(str(tmp_path / "other seed"), replace(how, seed=8)) != unbroken
    if sampler == "tpe":
        random = search(str(tmp_path / "random"), HOW)
        differ = [slot for slot in random if random[slot] != unbroken[slot]]
        assert differ, "TPE never had its say"


def test_a_database_draws_what_a_file_draws(tmp_path, sqlite, dead):
    how = replace(HOW, sampler="tpe")
    assert search(sqlite, how, TROUBLES, dead) == search(str(tmp_path / "journal"), how)


def test_parameters_that_failed_are_not_drawn_again(place):
    study = study_at(place)
    queue(study, 1)
    drawn = []
    for _ in range(3):
        claim = study.claim()
        drawn.append(draw(claim)["x"])
        claim.fail("error", "it diverged")
        queue(study, 1)
    assert len(set(drawn)) == 3


def test_a_second_death_over_the_same_parameters_draws_others(place, dead):
    study = study_at(place)
    queue(study, 1)
    drawn = []
    for _ in range(3):
        claim = study.claim()
        drawn.append(draw(claim))
        sign(claim, dead)
        assert study.reclaim() == [claim.number]
        queue(study, 1)
    assert drawn[0] == drawn[1] != drawn[2]


def test_two_leaders_that_queue_a_slot_twice_do_not_lose_the_parameters_of_the_first(place, dead):
    study = study_at(place)
    for _ in range(2):
        study.queue([Slot("0")], attempts=[])
    first = study.claim()
    params = draw(first)
    assert study.claim() is None
    sign(first, dead)
    study.reclaim()
    second = study.claim()
    assert (second.number, draw(second)) == (1, params)
    assert study.attempts()[1].params == params


def test_a_process_that_died_here_is_noticed_at_once(place):
    queue(study_at(place), 1)

    def die(_, report):
        report.put(draw(study_at(place).claim()))
        os._exit(1)

    (params,) = in_processes(1, die)
    study = study_at(place)
    assert states(study) == ["running"]
    assert study.reclaim() == [0]
    assert [(one.state, one.reason, one.params) for one in study.attempts()] == [("failed", "lost", params)]
    assert study.reclaim() == []


def test_a_living_process_is_never_robbed_however_long_it_was_silent(place):
    study = study_at(place)
    queue(study, 1)
    silence(study.claim(), 10_000)  # a machine that slept
    assert study_at(place).reclaim() == []


def test_a_process_elsewhere_is_robbed_when_its_time_is_over_and_not_before(place):
    study = study_at(place)
    queue(study, 2)
    quiet, loud = study.claim(), study.claim()
    for claim in (quiet, loud):
        sign(claim, ELSEWHERE)
    assert study.reclaim() == []
    silence(quiet, claims.GRACE_S + 5)
    silence(loud, claims.GRACE_S - 20)
    assert study_at(place).reclaim() == [quiet.number]
    assert states(study) == ["failed", "running"]


def test_a_trial_taken_by_a_process_that_died_before_it_signed_is_not_lost_for_ever(place, monkeypatch):
    study = study_at(place)
    queue(study, 1)
    study.storage.set_trial_state_values(study.inner.get_trials()[0]._trial_id, optuna.trial.TrialState.RUNNING)
    assert study.reclaim() == []
    monkeypatch.setattr("kd.search.optuna_study.GRACE_S", -1)
    assert study.reclaim() == [0]


def test_signs_of_life_are_there_before_the_signature_so_no_death_in_between_goes_unseen(place, monkeypatch):
    study = study_at(place)
    queue(study, 1)
    monkeypatch.setattr("kd.search.optuna_study.myself", lambda: ELSEWHERE)
    claim = study.claim()
    assert study.attempts()[0].notes[WORKER] == ELSEWHERE
    silence(claim, claims.GRACE_S + 5)  # fails where there has been none
    assert study.reclaim() == [0]


def test_signs_of_life_are_given_while_a_trial_runs_and_not_after(journal, monkeypatch):
    monkeypatch.setattr(claims, "HEARTBEAT_S", 0.05)
    study = study_at(journal)
    queue(study, 1)
    claim = study.claim()

    def lease():
        return study.attempts()[0].notes[LEASE]

    silence(claim, 1000)
    with claim.alive():
        assert lease() > time.time()
        silence(claim, 1000)
        until = time.monotonic() + 60
        while lease() < time.time() and time.monotonic() < until:
            time.sleep(0.05)
        assert lease() > time.time()
        claim.complete((1.0,), {})
    assert states(study) == ["complete"]


@pytest.mark.parametrize(
    "act",
    [
        lambda claim: claim.note(run_id="r"),
        lambda claim: claim.report(0.5, 1, last=False),
        lambda claim: claim.complete((0.5,), {}),
        lambda claim: claim.complete((0.5,), {"gflops": -1.0}),
    ],
)
def test_whoever_was_taken_for_dead_is_told_so_and_changes_nothing(journal, dead, act):
    study = study_at(journal)
    queue(study, 1)
    claim = study.claim()
    sign(claim, dead)
    study_at(journal).reclaim()
    with pytest.raises(Superseded, match="trial 0 was taken for dead"):
        act(claim)
    claim.fail("error", "of no interest any more")
    (trial,) = study.attempts()
    assert (trial.state, trial.reason, trial.values) == ("failed", "lost", ())


def test_a_database_tells_it_too(sqlite, dead):
    study = study_at(sqlite)
    queue(study, 1)
    claim = study.claim()
    sign(claim, dead)
    study_at(sqlite).reclaim()
    for act in (lambda: claim.note(a=1), lambda: claim.report(1.0, 1, last=False), lambda: claim.complete((1.0,), {})):
        with pytest.raises(Superseded):
            act()
    claim.fail("error", "of no interest any more")
    assert study.attempts()[0].reason == "lost"


def test_a_process_that_wakes_up_when_its_trial_was_run_again_does_not_count_twice(place, dead):
    study = study_at(place)
    queue(study, 1)
    asleep = study.claim()
    sign(asleep, dead)
    study.reclaim()
    queue(study, 1)
    done(study, 0.9)
    with pytest.raises(Superseded):
        asleep.complete((0.5,), {})
    assert states(study) == ["failed", "complete"]
    assert [trial.values for trial in study.ranked()] == [(0.9,)]


def test_why_a_trial_failed_is_kept(place):
    study = study_at(place)
    queue(study, 1)
    study.claim().fail("error", "CUDA out of memory\nat line 3")
    (trial,) = study.attempts()
    assert (trial.state, trial.reason, trial.why) == ("failed", "error", "CUDA out of memory")


def test_not_a_number_is_no_result(place):
    study = study_at(place)
    queue(study, 1)
    claim = study.claim()
    with pytest.raises(ValueError, match="nan"):
        claim.complete((float("nan"),), {})
    claim.fail("error", "nan")
    assert states(study) == ["failed"]


def run_epochs(claim, values):
    for epoch, value in enumerate(values, start=1):
        claim.report(value, epoch, last=epoch == len(values))
    claim.complete((values[-1],), {})


def test_what_does_worse_than_half_of_the_others_is_stopped_and_optuna_knows(journal):
    study = study_at(journal, how=MEDIAN)
    queue(study, 8)
    for _ in range(5):
        run_epochs(study.claim(), [0.6, 0.7, 0.8])
    with pytest.raises(Pruned, match=r"trial 5 at 0\.1 after 1 epochs"):
        run_epochs(study.claim(), [0.1, 0.1, 0.9])
    assert study.inner.get_trials()[5].state == optuna.trial.TrialState.PRUNED
    assert study.attempts()[5].values == ()
    assert 5 not in [trial.number for trial in study.ranked()]
    run_epochs(study.claim(), [0.6, 0.7, 0.1])  # its last step: all that it costs is spent
    run_epochs(study.claim(), [0.9, 0.9, 0.9])
    assert states(study) == ["complete"] * 5 + ["pruned", "complete", "complete"]


def test_where_lower_is_better_the_high_ones_are_stopped(journal):
    study = study_at(journal, how=MEDIAN, directions={"loss": False})
    queue(study, 7)
    for _ in range(5):
        run_epochs(study.claim(), [0.6, 0.7])
    run_epochs(study.claim(), [0.1, 0.1])
    with pytest.raises(Pruned):
        run_epochs(study.claim(), [0.9, 0.1])


def test_two_directions_or_no_pruner_stop_nothing(journal):
    several = study_at(journal, "several", MEDIAN, {"quality": True, "gflops": False})
    none = study_at(journal, "none")
    for study, worst in ((several, (0.1, 9.0)), (none, (0.1,))):
        queue(study, 7)
        for value in [*[0.9] * 6, 0.1]:
            claim = study.claim()
            claim.report(value, 1, last=False)
            claim.complete((value, *worst[1:]), {})
        assert states(study) == ["complete"] * 7


def test_hyperband_stops_some_and_never_at_the_last_epoch(journal):
    study = study_at(journal, how=replace(HOW, pruner="hyperband", most_epochs=9))
    queue(study, 20)
    while (claim := study.claim()) is not None:
        try:
            run_epochs(claim, [1 / (claim.number + 1)] * 9)
        except Pruned:
            continue
    assert {"complete", "pruned"} == set(states(study))
    assert all(len(trial.intermediate_values) < 9 for trial in study.inner.get_trials() if trial.state.name == "PRUNED")


def test_what_breaks_a_constraint_is_neither_best_nor_hidden_from_the_sampler(place):
    study = study_at(place)
    queue(study, 3)
    study.claim().complete((0.9,), {"gflops": 0.5, "size_mib": -1})
    study.claim().complete((0.7,), {"gflops": 0.0, "size_mib": -1})
    study.claim().complete((0.8,), {"gflops": -0.1, "size_mib": 2})
    assert [trial.feasible for trial in study.attempts()] == [False, True, False]
    assert [trial.number for trial in study.ranked()] == [1]
    assert [trial.number for trial in study.best()] == [1]
    # where Optuna's TPE looks for them
    assert study.inner.trials[0].constraints == {"gflops": 0.5, "size_mib": -1.0}


def test_tpe_goes_by_the_constraints(journal, tmp_path):
    """The same values with the constraints the other way round draw other parameters."""

    def last(place, sign):
        study = study_at(str(place), how=replace(HOW, sampler="tpe"))
        queue(study, 13)
        for _ in range(12):
            claim = study.claim()
            x = draw(claim)["x"]
            claim.complete((0.5,), {"gflops": sign * (x - 0.03)})
        return draw(study.claim())

    assert last(journal, 1) != last(tmp_path / "other", -1)


@pytest.mark.parametrize(("higher", "order"), [(True, [1, 2, 0]), (False, [0, 2, 1])])
def test_best_first_whichever_way_is_better(journal, higher, order):
    study = study_at(journal, directions={"quality": higher})
    queue(study, 4)
    done(study, 0.1, 0.9, 0.5)
    assert [trial.number for trial in study.ranked()] == order
    assert [trial.number for trial in study.best()] == order[:1]


def test_of_equal_trials_the_first_slot_leads_even_if_it_had_to_be_run_again(journal):
    study = study_at(journal)
    queue(study, 3)
    first = study.claim()
    done(study, 0.5, 0.5)
    first.fail("stopped", "SIGTERM")
    queue(study, 3)
    done(study, 0.5)
    assert [(trial.slot, trial.number) for trial in study.ranked()] == [("0", 3), ("1", 1), ("2", 2)]


def test_several_directions_give_a_front_without_what_is_worse_in_all(place):
    study = study_at(place, directions={"quality": True, "gflops": False})
    queue(study, 5)
    done(study, (0.9, 4.0), (0.8, 2.0), (0.7, 3.0), (0.5, 1.0))
    study.claim().complete((0.95, 0.5), {"size_mib": 1.0})
    assert sorted(trial.number for trial in study.best()) == [0, 1, 3]
    assert [trial.number for trial in study.ranked()] == [0, 1, 2, 3]


def test_nothing_is_best_before_anything_is_complete(place):
    one, several = study_at(place), study_at(place, "several", directions={"quality": True, "gflops": False})
    queue(one, 2)
    queue(several, 1)
    one.claim().fail("error", "no")
    assert one.ranked() == one.best() == several.best() == []
    assert one.attempts()[1].seconds is None
