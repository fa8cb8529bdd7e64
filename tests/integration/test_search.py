"""A search ends, whatever was killed, with exactly the trials asked for, and Optuna and MLflow agree on each."""

import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
from optuna.trial import TrialState

from kd.sweep.workers import PATIENCE_S
from tests import tiny
from tests.integration.conftest import Done, Project
from tests.integration.searches import (
    ENDED,
    assert_agreed,
    at_work,
    await_that,
    leads,
    parents,
    point,
    slot_of,
    started_by,
    study_of,
    trials,
    words,
)

pytestmark = pytest.mark.integration

SPACE = """
learning_rate: {type: float, low: 0.001, high: 0.02, log: true}
epochs: {type: int, low: 1, high: 2}
alpha: {type: float, low: 0.3, high: 0.7}
"""
GRID = """
learning_rate: {type: categorical, choices: [1.0e-6, 1.0e-4, 1.0e-3, 3.0e-3, 1.0e-2, 2.0e-2]}
weight_decay: {type: categorical, choices: [0.0, 0.1]}
"""
SHAPES = """
student_layers: {type: categorical, choices: [1, 3, "0,3"]}
initialisation: {type: categorical, choices: [first, last], when: {student_layers: [1, 3]}}
learning_rate: {type: categorical, choices: [0.003, 0.01, 1.0e+30]}
weight_decay: {type: float, low: 0, high: 0.1}
"""
DIVERGES = """
learning_rate: {type: categorical, choices: [1.0e+30]}
alpha: {type: float, low: 0.3, high: 0.7}
"""


def told(done: Done) -> list[str]:
    """Return what stderr says beside the teacher's progress."""
    return [line for line in done.lines if "it/s" not in line]


def children(project: Project, parent: str):
    everywhere = [one.experiment_id for one in project.client.search_experiments()]
    return project.client.search_runs(everywhere, f"tags.`mlflow.parentRunId` = '{parent}'")


def artifacts(project: Project, run) -> dict[str, str]:
    """Return the texts among a run's artifacts."""
    found = Path(run.info.artifact_uri.removeprefix("file://")).rglob("*")
    return {path.name: path.read_text(encoding="utf-8") for path in found if path.suffix in (".html", ".md", ".json")}


# Two arms: too little time, a signal, some time, one trial more under `mlflow run`, nothing more


@dataclass(frozen=True)
class First:
    """What became of each command, and what was there after some."""

    early: Done
    stopped: Done
    timed: Done
    after_timed: dict[str, int]
    more: Done
    after_more: dict[str, int]
    again: Done
    registered: list[tuple[str, str]]


ARMS = ("first", "first-control")
FINALS = ("first-finals", "first-control-finals")


def counts(project: Project) -> dict[str, int]:
    """Count the trials that ended in each study and the runs of trials, to see what a command adds."""
    ended = {name: len(trials(project, name, *ENDED)) for name in (*ARMS, *FINALS)}
    return {**ended, "runs": sum("kd.trial" in run.data.tags for run in project.runs())}


@pytest.fixture(scope="module")
def first(project) -> First:
    before = project.versions()
    asked = words(project, "first", SPACE, "--checkpoint_every_s", "0")  # a trial takes no second
    early = project.run("hpo", *asked, "--timeout_minutes", "0.0001")
    leader = project.begin("hpo", *asked, "--n_trials", "2")
    await_that(lambda: at_work(project, "first"), leader)
    os.kill(leader, signal.SIGTERM)
    stopped = project.ended(leader)
    timed = project.run("hpo", *asked, "--arm", "both", "--timeout_minutes", "0.12")
    assert timed.code == 0, timed.err[-2000:]
    after_timed = counts(project)
    larger = str(max(after_timed[arm] for arm in ARMS) + 1)
    more = project.mlflow_run("hpo", *asked, "--arm", "both", "--n_trials", larger)
    assert more.code == 0, more.err[-2000:]
    after_more = counts(project)
    again = project.run("hpo", *asked, "--arm", "both", "--n_trials", larger)
    registered = [one for one in project.versions() if one not in before]
    return First(early, stopped, timed, after_timed, more, after_more, again, registered)


def test_too_little_time_for_any_trial_is_told_in_one_line(first):
    assert first.early.code == 2
    assert len(told(first.early)) == 1
    assert "timeout_minutes" in first.early.err


def test_sigterm_ends_with_143_and_the_trial_goes_on_from_its_checkpoint(project, first):
    assert first.stopped.code == 143
    (stopped,) = trials(project, "first", TrialState.FAIL)
    assert stopped.user_attrs["kd.reason"] == "stopped"
    runs = {run.data.tags["kd.trial"]: run for run in project.runs(study="first") if "kd.trial" in run.data.tags}
    old = runs[str(stopped.number)]
    assert old.data.tags["kd.exit_reason"].startswith("stopped")
    assert old.data.tags["kd.resumable"] == "false"
    (new,) = [one for one in trials(project, "first", *ENDED) if slot_of(one) == slot_of(stopped)]
    assert point(new) == point(stopped)
    assert runs[str(new.number)].data.tags["kd.resumed_from"] == old.info.run_id
    assert_agreed(project, *ARMS, *FINALS)


def test_time_that_runs_out_is_shared_by_the_arms_and_what_is_there_is_concluded(first):
    ours, theirs = (first.after_timed[arm] for arm in ARMS)
    assert abs(ours - theirs) <= 1
    assert 1 <= ours < 20
    assert "Registered" in first.timed.out


def test_going_on_runs_exactly_the_missing_trials(project, first):
    asked = max(first.after_timed[arm] for arm in ARMS) + 1
    for arm in ARMS:
        assert first.after_more[arm] == asked
        assert sorted(int(slot_of(one)) for one in trials(project, arm, *ENDED)) == list(range(asked))


def test_asking_again_for_what_is_finished_runs_nothing(project, first):
    assert first.again.code == 0
    assert "finished" in first.again.out
    assert counts(project) == first.after_more


def test_under_mlflow_run_the_trials_are_nested_in_the_run_that_it_made(project, first):
    old, new = parents(project, "first")
    assert [old.info.status, new.info.status] == ["FINISHED", "FINISHED"]
    assert new.data.tags["mlflow.project.entryPoint"] == "hpo"
    nested = [run for run in children(project, new.info.run_id) if "kd.trial" in run.data.tags]
    added = {name: first.after_more[name] - first.after_timed[name] for name in (*ARMS, *FINALS)}
    assert len(nested) == sum(added.values())
    assert {run.data.tags["kd.study"] for run in nested} >= set(ARMS)


def test_the_same_seed_draws_the_same_shared_parameters_for_both_arms_or_tuning_had_other_luck(project, first):
    ours, theirs = ({slot_of(one): one.params for one in trials(project, arm, *ENDED)} for arm in ARMS)
    assert ours["0"]["learning_rate"] == theirs["0"]["learning_rate"]
    assert "alpha" in ours["0"]
    assert "alpha" not in theirs["0"]


def test_trials_are_never_tested_profiled_or_registered_and_only_winners_are_scored(project, first):
    nested = [run for parent in parents(project, "first") for run in children(project, parent.info.run_id)]
    runs = {run.info.run_id: run for run in nested if "kd.trial" in run.data.tags}
    for arm in ARMS:
        for run in project.runs(study=arm):
            if "kd.trial" in run.data.tags:
                assert run.info.run_id in runs, "not nested"
                assert run.data.tags["kd.stage"] == "trial"
                assert not [name for name in run.data.metrics if name.startswith(("test/", "profile/", "fidelity/"))]
                assert "kd.test_scored" not in run.data.tags
                assert not project.client.search_logged_models(
                    [run.info.experiment_id], filter_string=f"source_run_id = '{run.info.run_id}'"
                )
    scored = {key: run for key, run in runs.items() if "kd.test_scored" in run.data.tags}
    stages = {"first-finals": "distill", "first-control-finals": "student"}
    for study, stage in stages.items():
        seeds = [run for run in scored.values() if run.data.tags["kd.study"] == study]
        winners = {one.params["trial"] for one in trials(project, study)}
        assert len(seeds) == 3 * len(winners)  # top_k is 1: whoever was retrained has won
        for run in seeds:
            assert run.data.tags["kd.stage"] == stage
            assert "test/accuracy" in run.data.metrics
            assert run.info.run_name.startswith("tuned ")
            assert "tuned tuned" not in run.info.run_name
    assert {run.data.tags["kd.study"] for run in scored.values()} == set(stages)
    registered = [project.client.get_model_version(*one).run_id for one in first.registered]
    assert registered
    assert set(registered) <= set(scored)


def test_the_tuned_arm_is_held_against_the_tuned_control_not_against_its_untuned_twin(project, first):
    tuned = [run for run in project.runs(study="first-finals") if run.data.tags["kd.stage"] == "distill"]
    controls = [run for run in project.runs(study="first-control-finals") if run.data.tags["kd.stage"] == "student"]
    assert tuned
    assert {run.data.tags["kd.control_arm"] for run in tuned} == {controls[-1].data.tags["kd.arm"]}
    for done in (first.timed, first.more):
        told = done.out[done.out.index("Did distillation help?") :]
        assert "tuned distill" in told
        assert "cannot be said" not in told


def test_what_is_registered_is_the_best_on_validation_of_the_winners_and_no_better_challenger_gives_way(project, first):
    name, number = first.registered[-1]
    scored = [run for run in project.runs(test_scored="true") if run.data.tags.get("kd.study") in FINALS]
    best = max(run.data.metrics["val/accuracy"] for run in scored)
    run = project.client.get_run(project.client.get_model_version(name, number).run_id)
    assert run.data.metrics["val/accuracy"] == best
    holder = project.client.get_model_version_by_alias(name, "challenger")
    held = project.client.get_run(holder.run_id).data.metrics["val/accuracy"]
    assert str(holder.version) == number or held >= best  # of other tests that share the store


def test_the_run_of_the_search_tells_it_all_and_the_teacher_read_the_rows_once(project, first):
    old, parent = parents(project, "first")
    passes = [one.value for one in project.client.get_metric_history(old.info.run_id, "hpo/teacher_passes")]
    assert [*passes, parent.data.metrics["hpo/teacher_passes"]] == [1, 1, 1, 0]  # counted by run
    assert parent.data.tags["mlflow.note.content"].count("Winner of") == 2
    wanted = {"first_estimate", "fresh_mean", "optimism", "complete", "pruned", "failed"}
    for arm in ("distill", "control"):
        assert f"hpo/{arm}/best_accuracy" in old.data.metrics
        assert {f"hpo/{arm}/{name}" for name in wanted} <= set(parent.data.metrics)
        done = [parent.data.metrics[f"hpo/{arm}/{state}"] for state in ("complete", "pruned")]
        assert sum(done) == first.after_more["first"]
    assert parent.data.metrics["hpo/distill/failed"] == 1
    texts = artifacts(project, parent)
    assert {"search.html", "report.html", "comparison.md"} <= set(texts)
    assert "Plotly" in texts["search.html"]
    assert "tuned distill" in texts["comparison.md"]


# A grid under pruning; a signal, a killed worker, a killed leader, and one who joins from elsewhere and takes over


@dataclass(frozen=True)
class Battered:
    """What became of each command, and how long the working workers of the killed leader were there."""

    killed: Done
    left: list[str]
    led: Done
    seconds: float
    joined: Done
    again: Done


@pytest.fixture(scope="module")
def battered(project) -> Battered:
    asked = words(project, "grid", GRID, "--experiment", "search", "--sampler", "grid", "--n_trials", "100",
                  "--directions", "loss", "--epochs", "3", "--workers")  # fmt: skip
    leader = project.begin("hpo", *asked, "1")
    await_that(lambda: at_work(project, "grid"), leader)
    os.kill(leader, signal.SIGKILL)
    killed, left = project.ended(leader), project.running()

    leader = project.begin("hpo", *asked, "2")
    await_that(lambda: leads(project, "grid") == leader, leader)
    home = project.folder / "elsewhere"
    home.mkdir()
    elsewhere = replace(project, folder=home, env=project.env | {"KD_HOME": str(home / "home")})
    joining = elsewhere.begin("hpo", *asked, "1")
    worker = await_that(lambda: at_work(project, "grid") & started_by(leader), leader).pop()
    os.kill(worker, signal.SIGKILL)
    await_that(lambda: "a worker has ended" in (project.folder / "stdout").read_text(), leader)
    await_that(lambda: at_work(project, "grid") & started_by(joining), joining)
    working = await_that(lambda: at_work(project, "grid") & (started_by(leader) - {worker}), leader)
    below = started_by(leader)  # one may still be importing
    os.kill(leader, signal.SIGKILL)
    then = time.monotonic()
    await_that(lambda: not any(psutil.pid_exists(pid) for pid in working))
    seconds = time.monotonic() - then
    led = project.ended(leader)
    await_that(lambda: not any(psutil.pid_exists(pid) for pid in below))
    joined = elsewhere.ended(joining)
    return Battered(killed, left, led, seconds, joined, project.run("hpo", *asked, "1"))


def test_a_leader_killed_at_work_leaves_two_runs_open_and_the_same_command_closes_them(project, battered):
    assert battered.killed.code == -signal.SIGKILL
    assert len(battered.left) == 2  # the search and its trial
    assert not set(battered.left) & set(project.running())


def test_workers_of_a_killed_leader_end_by_themselves_before_they_would_be_killed(project, battered):
    assert battered.led.code == -signal.SIGKILL
    assert battered.seconds < PATIENCE_S / 2


def test_who_joins_from_elsewhere_takes_part_takes_over_and_ends_well(project, battered):
    assert battered.joined.code == 0, battered.joined.err[-2000:]
    assert "Joining: the search is led on" in battered.joined.out
    assert "Registered" in battered.joined.out
    assert len(project.runs(stage="hpo", study="grid")) == 1  # who joins has none of its own
    assert "finished" in battered.again.out


def test_the_grid_is_tried_exactly_whatever_was_killed(project, battered):
    ended = [point(one) for one in trials(project, "grid", *ENDED)]
    assert len(ended) == len(set(ended)) == 12
    failed = [one for study in ("grid", "grid-finals") for one in trials(project, study, TrialState.FAIL)]
    assert len(failed) >= 2  # a leader's and a worker's; what a worker was at when it ended by itself may have ended
    assert_agreed(project, "grid", "grid-finals")
    assert {one.state for one in trials(project, "grid-lead")} == {TrialState.FAIL, TrialState.COMPLETE}


def test_pruned_trials_are_killed_not_failed_and_none_is_judged_at_its_last_epoch(project, battered):
    pruned = trials(project, "grid", TrialState.PRUNED)
    assert pruned
    runs = {run.data.tags.get("kd.trial"): run for run in project.runs(study="grid")}
    for one in pruned:
        assert max(one.intermediate_values) < 3
        assert runs[str(one.number)].data.tags["kd.exit_reason"].startswith("pruned")


# Errors, constraints and budgets


@pytest.fixture(scope="module")
def shapes(project, first) -> tuple[Done, list[tuple[str, str]]]:
    """Search shapes in two directions; some trials diverge, some students are too large, no winner is fast enough."""
    before = project.versions()
    limit = tiny.bert(layers=2).num_parameters()
    asked = ("--experiment", "search", "--directions", "accuracy,size", "--constraints", f"parameters<={limit}")
    more = ("--n_trials", "5", "--latency_budget_ms", "0.001", "--seed", "7", "--final_seeds", "1,2,3")
    source = ("--warm_start", f"models:/{'/'.join(first.registered[-1])}")
    done = project.run("hpo", *words(project, "shapes", SHAPES, *asked, *more, *source))
    return done, [one for one in project.versions() if one not in before]


def test_a_trial_that_errs_is_failed_with_its_reason_on_both_sides_and_replaced(project, shapes):
    failed = trials(project, "shapes", TrialState.FAIL)
    assert failed
    runs = {run.data.tags.get("kd.trial"): run for run in project.runs(study="shapes")}
    for one in failed:
        assert "diverged" in one.user_attrs["kd.error"]
        assert "diverged" in runs[str(one.number)].data.tags["kd.exit_reason"]
    assert {slot_of(one) for one in trials(project, "shapes", *ENDED)} == set("01234")
    assert "diverged" in shapes[0].out
    assert_agreed(project, "shapes", "shapes-finals")


def test_in_several_directions_nothing_is_pruned_and_what_breaks_a_constraint_never_wins(project, shapes):
    complete = trials(project, "shapes", TrialState.COMPLETE)
    assert len(complete) == 5
    assert len({one.values[1] for one in complete}) > 1
    infeasible = {one.number for one in complete if one.params["student_layers"] == "3"}
    assert infeasible
    front = {one.number for one in study_of(project, "shapes").best_trials}
    retrained = {one.params["trial"] for one in trials(project, "shapes-finals")}
    assert retrained
    assert retrained <= front
    assert not retrained & infeasible
    assert "outside the constraints" in shapes[0].out


def test_where_no_finalist_keeps_the_budget_nothing_is_scored_on_test_or_registered(project, shapes):
    done, registered = shapes
    assert done.code == 3, done.err[-2000:]
    assert "keeps the budgets" in done.lines[-1]
    assert registered == []
    (parent,) = parents(project, "shapes")
    assert parent.info.status == "FAILED"
    assert parent.data.tags["kd.exit_reason"].startswith("refused")
    nested = children(project, parent.info.run_id)
    assert nested
    assert not [run for run in nested if "kd.test_scored" in run.data.tags or "test/accuracy" in run.data.metrics]


def test_a_registered_version_is_tried_first(project, first, shapes):
    version = project.client.get_model_version(*first.registered[-1])
    given = project.client.get_run(version.run_id).data.params
    assert trials(project, "shapes")[0].params["weight_decay"] == float(given["weight_decay"]) > 0


def test_all_failing_ends_in_one_line_with_the_reason_and_warm_start_tries_first_what_was_best_elsewhere(
    project, first
):
    asked = ("--experiment", "search", "--n_trials", "2", "--warm_start", "first")
    done = project.run("hpo", *words(project, "hopeless", DIVERGES, *asked))
    assert done.code == 2
    assert len(told(done)) == 1
    assert "diverged" in done.err
    assert {one.state for one in trials(project, "hopeless")} <= {TrialState.FAIL, TrialState.WAITING}
    found = trials(project, "first", TrialState.COMPLETE)
    best = [one.params["alpha"] for one in found if one.value == max(each.value for each in found)]
    assert trials(project, "hopeless")[0].params["alpha"] in best
    assert "learning_rate" in done.out
    assert_agreed(project, "hopeless")


# Bad input

RANGE = "learning_rate: {type: float, low: 0.001, high: 0.01}"
BAD = {
    "unknown parameter": ("learning_rat: {type: float, low: 0.1, high: 0.2}", [], ["learning_rat", "learning_rate"]),
    "low over high": ("learning_rate: {type: float, low: 0.2, high: 0.1}", [], ["learning_rate", "0.2", "0.1"]),
    "log of 0": ("learning_rate: {type: float, low: 0, high: 0.1, log: true}", [], ["learning_rate", "log"]),
    "no such file": (RANGE, ["--space", "nowhere.yaml"], ["nowhere.yaml", "default"]),
    "other directions": (SPACE, ["--study_name", "first", "--directions", "loss"], ["'first'", "directions"]),
    "other space": (RANGE, ["--study_name", "first"], ["'first'", "space"]),
    "no server": (RANGE, ["--storage", "postgresql+psycopg2://kd:sesame@127.0.0.1:1/kd"], ["storage=", "***@127.0.0"]),
    "MLflow's database": (RANGE, ["--storage", "sqlite:///{folder}/mlflow.db"], ["storage=", "a database of its own"]),
    "no journal": (RANGE, ["--storage", "{folder}/rows/test.csv"], ["storage=", "test.csv"]),
    "the search's seed": (RANGE, ["--final_seeds", "0,1,2"], ["final_seeds", "seed=0"]),
    "a seed that no training takes": (RANGE, ["--final_seeds", "1,2,4294967296"], ["final_seeds", "4294967296"]),
    "a grid that is to start elsewhere": (
        "batch_size: {type: categorical, choices: [4, 8]}",
        ["--sampler", "grid", "--warm_start", "first"],
        ["warm_start='first'", "grid"],
    ),
    "nothing for a control": ("alpha: {type: float, low: 0.1, high: 0.9}", ["--arm", "control"], ["without a teacher"]),
    "too deep": ("student_layers: {type: categorical, choices: [2, 9]}", [], ["student_layers", "9", "4 layers"]),
    "unknown direction": (RANGE, ["--directions", "bleu"], ["directions", "'bleu'", "accuracy"]),
    "a grid without steps": (RANGE, ["--sampler", "grid"], ["learning_rate", "step"]),
    "no such study": (RANGE, ["--warm_start", "nothing"], ["warm_start='nothing'", "first"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_told_in_one_line_before_anything_is_trained(project, first, case):
    space, more, wanted = BAD[case]
    runs, file = len(project.runs()), (project.folder / "rows" / "test.csv").read_bytes()
    started = time.monotonic()
    given = [word.format(folder=project.folder) for word in more]
    done = project.run("hpo", *words(project, "mistaken", space, "--experiment", "search", "--n_trials", "2", *given))
    assert done.code == 2, done.err[-2000:]
    assert len(done.lines) == 1, done.err[-2000:]
    assert done.lines[0].startswith("error: ")
    assert all(word in done.err for word in wanted), done.err
    assert "sesame" not in done.err + done.out
    assert len(project.runs()) == runs
    assert (project.folder / "rows" / "test.csv").read_bytes() == file
    assert time.monotonic() - started < 30
