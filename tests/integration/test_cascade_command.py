"""A cascade hands each student on as teacher of the next of its seed, and trains nothing twice, whatever was killed."""

import os
import signal
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from time import sleep

import pytest
from mlflow import MlflowClient

from kd.base.judge import MEASURED
from tests import tiny
from tests.integration.conftest import RECIPE, Done, Project
from tests.integration.searches import await_that

pytestmark = pytest.mark.integration

SEEDS = ("0", "1", "2")
LINKS = ("4→2", "2→1")
ROUTES = (*LINKS, "4→1")
TRAININGS = 2 * len(ROUTES) * len(SEEDS)


@dataclass(frozen=True)
class Cascaded:
    """What the cascade had finished when it was killed, the one that went on, and what there was then."""

    before: Counter
    done: Done
    after: Counter


@pytest.fixture(scope="module")
def own(project) -> Project:
    """The same weights and data, and an empty store, for other tests count the runs of theirs."""
    folder = project.folder / "cascade"
    folder.mkdir()
    store = f"sqlite:///{folder}/mlflow.db"
    MlflowClient(store).create_experiment("kd", artifact_location=str(folder / "artifacts"))
    return replace(project, env=project.env | {"MLFLOW_TRACKING_URI": store, "KD_HOME": str(folder / "home")})


@pytest.fixture(scope="module")
def words(own):
    return ("--chain", "4,2,1", "--dataset", own.data, "--teacher", own.weights, "--seeds", ",".join(SEEDS), *RECIPE)


def finished(own) -> Counter:
    """Count the finished students by what names their training."""
    runs = [run for role in ("student", "distilled") for run in own.runs(role=role) if run.info.status == "FINISHED"]
    return Counter(run.data.tags["kd.cache_key"] for run in runs)


@pytest.fixture(scope="module")
def cascaded(own, words) -> Cascaded:
    killed = own.begin("cascade", *words)
    await_that(lambda: sleep(0.5) or len(finished(own)) >= 4, killed)
    os.kill(killed, signal.SIGKILL)
    own.ended(killed)
    before = finished(own)
    done = own.run("cascade", *words)
    return Cascaded(before, done, finished(own))


def students(own, role="distilled"):
    """Return the finished runs of a role by step and seed."""
    runs = [run for run in own.runs(role=role) if run.info.status == "FINISHED"]
    return {(run.info.run_name.split()[0], run.data.tags["kd.seed"]): run for run in runs}


def model_of(run) -> str:
    return f"models:/{run.outputs.model_outputs[-1].model_id}"


def report(own) -> tuple[str, str]:
    """Return report.html and comparison.md of the cascade that went on after the kill."""
    run = own.runs(stage="cascade")[1]
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    return (folder / "report.html").read_text("utf-8"), (folder / "comparison.md").read_text("utf-8")


def test_what_was_finished_before_the_kill_is_not_trained_again_and_nothing_is_trained_twice(own, cascaded):
    assert cascaded.done.code == 0, cascaded.done.err[-3000:]
    assert 4 <= len(cascaded.before) < TRAININGS
    assert len(cascaded.after) == TRAININGS
    assert set(cascaded.after.values()) == {1}
    assert f"{len(cascaded.before)} of {TRAININGS} trainings were finished before" in cascaded.done.out
    ended = [line for line in cascaded.done.out.splitlines() if f"/{TRAININGS} " in line]
    assert [line.split("/")[0] for line in ended] == [str(number) for number in range(1, TRAININGS + 1)]
    assert sum(line.endswith(": finished before") for line in ended) == len(cascaded.before)
    assert len([run for run in own.runs(role="teacher") if run.info.status == "FINISHED"]) == 1


def test_each_student_learns_from_the_student_before_it_of_its_own_seed_and_the_direct_one_from_the_teacher(
    own, cascaded
):
    distilled, controls = students(own), students(own, "student")
    assert set(distilled) == set(controls) == {(route, seed) for route in ROUTES for seed in SEEDS}
    for seed in SEEDS:
        for runs in (distilled, controls):
            assert runs["2→1", seed].data.tags["kd.teacher"] == model_of(distilled["4→2", seed])
            for route in ("4→2", "4→1"):
                assert "-teacher/" in runs[route, seed].data.tags["kd.teacher"]


def test_seeds_make_one_arm_although_their_teachers_differ_and_each_has_its_control_of_the_same_seed(own, cascaded):
    distilled, controls = students(own), students(own, "student")
    for route in ROUTES:
        for runs in (distilled, controls):
            assert len({runs[route, seed].data.tags["kd.arm"] for seed in SEEDS}) == 1
        for seed in SEEDS:
            control, student = controls[route, seed].data, distilled[route, seed].data
            assert student.tags["kd.control_arm"] == control.tags["kd.arm"] != student.tags["kd.arm"]
            assert student.params["layers"] == control.params["layers"]
    arms = {run.data.tags["kd.arm"] for runs in (distilled, controls) for run in runs.values()}
    assert len(arms) == 2 * len(ROUTES)


def test_the_direct_route_takes_as_many_updates_as_all_steps_together(own, cascaded):
    def updates(run):
        return max(one.step for one in own.client.get_metric_history(run.info.run_id, "val/accuracy"))

    for runs in (students(own), students(own, "student")):
        for seed in SEEDS:
            assert sum(updates(runs[link, seed]) for link in LINKS) == updates(runs["4→1", seed])


def test_the_report_says_what_each_step_lost_and_how_the_chain_did_against_the_direct_route(own, cascaded):
    page, text = report(own)
    for told in (page, text, cascaded.done.out):
        for wanted in ("What each step lost", "Equal budget: 4 epochs", "Cascade 4→2→1: ", "the direct route 4→1"):
            assert wanted in told
    assert page.index("What each step lost") < page.index("<h1>Did distillation help?")
    runs = students(own)
    (teacher,) = [run.data.metrics["test/accuracy"] for run in own.runs(role="teacher") if run.data.metrics]
    means = {route: fmean(runs[route, seed].data.metrics["test/accuracy"] for seed in SEEDS) for route in ROUTES}
    first, second, direct = teacher - means["4→2"], means["4→2"] - means["2→1"], teacher - means["4→1"]
    sentence = (
        f"Lost of test accuracy: 4→2 {first:+.3f}, 2→1 {second:+.3f}, together {first + second:+.3f}; "
        f"directly {direct:+.3f}."
    )
    plain = sentence.replace("-0.000", "+0.000")
    assert plain in text.replace("-0.000", "+0.000")
    words = ("better", "worse", "no difference shown")
    rows = [line for line in text.splitlines() if line.startswith(tuple(f"| {route} |" for route in ROUTES))]
    assert len(rows) == len(ROUTES)
    assert all(any(f"| {word} |" in row for word in words) for row in rows)


def test_only_the_better_end_on_validation_is_registered_and_every_architecture_profiled_once(own, cascaded):
    (student,) = [one for one in own.versions() if not one[0].endswith("-teacher")]
    assert str(own.client.get_model_version_by_alias(student[0], "challenger").version) == student[1]
    registered = own.client.get_model_version(*student).run_id
    ends = {run.info.run_id: run.data.metrics for key, run in students(own).items() if key[0] in ("2→1", "4→1")}
    assert ends[registered]["val/accuracy"] == max(metrics["val/accuracy"] for metrics in ends.values())
    assert "profile/latency_ms_p50" in ends[registered]
    everyone = [*students(own).values(), *students(own, "student").values(), *own.runs(role="teacher")]
    everyone = [run.data for run in everyone if run.info.status == "FINISHED"]  # one that was killed has no figures
    assert all("profile/latency_ms_p50" in data.metrics for data in everyone)
    assert len({data.tags[MEASURED] for data in everyone}) == 3


def test_one_seed_is_allowed_claims_nothing_and_trains_nothing_that_is_finished(own, words, cascaded):
    done = own.run("cascade", *words, "--seeds", "0")
    assert done.code == 0, done.err[-3000:]
    assert "no claim can be made" in done.out
    assert f"{2 * len(ROUTES)} of {2 * len(ROUTES)} trainings were finished before" in done.out
    assert "Cascade 4→2→1: too few seeds to say" in done.out
    assert finished(own) == cascaded.after


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--chain", "6,4,2"), "chain='6,4,2' starts at 6, but teacher="),
        (("--chain", "3,2,1"), "has 4 layers: give 4 first"),
        (("--objective", "hidden", "--match", "0:3"), "chain='4,2,1', step 2→1: match='0:3'"),
        (("--objective", "patient"), "step 2→1: objective='patient'"),
        (("--chain", "4,3,1", "--initialisation", "odd"), "chain='4,3,1', step 4→3: student_layers=3"),
    ],
    ids=["more than the teacher's", "fewer", "a map of the second step", "an objective without terms", "odd layers"],
)
def test_a_chain_that_cannot_be_is_told_in_one_line_before_any_training(own, words, cascaded, more, said):
    count = len(own.runs(stage="cascade"))
    done = own.run("cascade", *words, *more)
    assert done.code == 2
    assert len(done.lines) == 1
    assert said in done.lines[0]
    assert len(own.runs(stage="cascade")) == count


def test_a_chain_of_models_hands_on_from_one_to_the_next_and_both_routes_end_at_one_architecture(own, words, cascaded):
    assistant = str(tiny.saved_bert(own.folder / "assistant", layers=3, seed=5))
    chain = f"{own.weights},{assistant},2"
    given = [word for pair in zip(words[::2], words[1::2], strict=True) if pair[0] != "--teacher" for word in pair]
    done = own.run("cascade", *given, "--chain", chain, "--seeds", "0", "--epochs", "1", "--experiment", "models")
    assert done.code == 0, done.err[-3000:]
    route = "weights→assistant→2"
    assert f"Cascade {route}: too few seeds to say" in done.out
    (parent,) = [run for run in own.runs(stage="cascade") if route in run.info.run_name]
    found = {
        (run.info.run_name.split(" ")[0], run.data.tags["kd.role"]): run.data
        for run in own.runs(role="distilled") + own.runs(role="student")
        if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id
    }
    assert len(found) == 2 * 3
    step, last = found["weights→assistant", "distilled"], found["assistant→2", "distilled"]
    assert step.params["student"] == assistant
    assert "-teacher/" in step.tags["kd.teacher"]
    assert last.tags["kd.teacher"] != step.tags["kd.teacher"]
    direct = found["weights→2", "distilled"]
    assert direct.tags["kd.architecture"] == last.tags["kd.architecture"]
    assert direct.params["epochs"] == "2"


@pytest.mark.parametrize(
    ("chain", "said"),
    [
        ("WEIGHTS,nowhere/at-all,2", "nowhere/at-all"),
        ("WEIGHTS,WEIGHTS,9", "step weights→9: student_layers=9"),
    ],
    ids=["a model that is not there", "more layers than the model before it"],
)
def test_a_chain_of_models_that_cannot_be_is_reported_in_one_line_before_any_training(
    own, words, cascaded, chain, said
):
    given = [word for pair in zip(words[::2], words[1::2], strict=True) if pair[0] != "--teacher" for word in pair]
    count = len(own.runs(stage="cascade"))
    done = own.run("cascade", *given, "--chain", chain.replace("WEIGHTS", own.weights))
    assert done.code == 2
    assert len(done.lines) == 1
    assert said in done.lines[0]
    assert len(own.runs(stage="cascade")) == count
