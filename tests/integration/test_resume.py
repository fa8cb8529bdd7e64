"""Interrupted trainings go on where they stopped and end at exactly the figures of an uninterrupted one."""

import signal
import time

import pytest

from tests.integration.conftest import RECIPE

pytestmark = pytest.mark.integration

UNEQUAL = ("cost/", "profile/", "system/")
"""Metrics that measure time or the machine."""


def words(project, *more: str) -> tuple[str, ...]:
    return (
        "--dataset",
        project.data,
        "--teacher",
        project.weights,
        *RECIPE,
        "--epochs",
        "8",
        "--patience",
        "0",
        "--checkpoint_every_s",
        "0",
        "--seed",
        "5",
        *more,
    )


def figures(run) -> dict[str, float]:
    return {name: value for name, value in run.data.metrics.items() if not name.startswith(UNEQUAL)}


def student_runs(project, experiment="kd"):
    wanted = project.client.get_experiment_by_name(experiment).experiment_id
    return [run for run in project.runs(stage="student", seed="5") if run.info.experiment_id == wanted]


@pytest.fixture(scope="module")
def straight(project):
    """Figures of the training that nothing interrupted, made elsewhere."""
    done = project.run("student", *words(project, "--experiment", "again", "--resume", "never"))
    assert done.code == 0, done.err[-2000:]
    return figures(student_runs(project, "again")[-1])


def interrupt(project, sent: signal.Signals) -> int:
    """Start the training, send the signal once the second checkpoint is whole; returns the exit code."""
    folder = project.folder / "home" / "checkpoints"
    for old in folder.glob("*/checkpoint-*/trainer_state.json"):
        raise AssertionError(f"a checkpoint is there before the training: {old}")
    with (project.folder / "log").open("w+") as out:
        process = project.start("entrypoints.student", *words(project), out=out)
        limit = time.monotonic() + 300
        while not list(folder.glob("*/checkpoint-12/trainer_state.json")):
            assert process.poll() is None, (project.folder / "log").read_text()[-2000:]
            assert time.monotonic() < limit
            time.sleep(0.02)
        process.send_signal(sent)
        return process.wait(timeout=300)


def test_the_same_command_and_seed_twice_give_exactly_the_same_metrics(project, straight):
    done = project.run("student", *words(project, "--experiment", "again", "--resume", "never"))
    assert done.code == 0, done.err[-2000:]
    runs = student_runs(project, "again")
    assert len(runs) == 2
    assert figures(runs[-1]) == straight


def test_after_kill_9_the_same_command_goes_on_in_the_same_run_to_exactly_the_same_metrics(project, straight):
    assert interrupt(project, signal.SIGKILL) == -signal.SIGKILL
    (left,) = student_runs(project)
    assert left.info.status == "RUNNING"
    done = project.run("student", *words(project))
    assert done.code == 0, done.err[-2000:]
    assert "Continuing an interrupted training" in done.out
    (run,) = student_runs(project)
    assert run.info.run_id == left.info.run_id
    assert run.info.status == "FINISHED"
    assert figures(run) == straight
    assert project.running() == []
    assert not list((project.folder / "home" / "checkpoints").glob("*/checkpoint-*"))
    history = [one.step for one in project.client.get_metric_history(run.info.run_id, "val/accuracy")]
    assert set(history) == {6, 12, 18, 24, 30, 36, 42, 48}


def test_after_sigterm_the_run_is_killed_resumable_and_mlflow_run_continues_it_in_a_new_run(project, straight):
    before = {run.info.run_id for run in student_runs(project)}
    assert interrupt(project, signal.SIGTERM) == 143
    (old,) = [run for run in student_runs(project) if run.info.run_id not in before]
    assert old.info.status == "KILLED"
    assert old.data.tags["kd.resumable"] == "true"
    assert old.data.tags["kd.exit_reason"].startswith("stopped")
    assert "stopped: " in (project.folder / "log").read_text()
    registered = project.versions()

    done = project.mlflow_run("student", *words(project))
    assert done.code == 0, done.err[-2000:]
    (new,) = [run for run in student_runs(project) if run.info.run_id not in {*before, old.info.run_id}]
    assert new.data.tags["kd.resumed_from"] == old.info.run_id
    assert new.data.tags["mlflow.project.entryPoint"] == "student"
    assert new.info.status == "FINISHED"
    assert figures(new).items() >= {name: straight[name] for name in straight if not name.startswith("train/")}.items()
    assert project.client.get_run(old.info.run_id).info.status == "KILLED"
    assert project.running() == []
    assert len(project.versions()) == len(registered) + 1
