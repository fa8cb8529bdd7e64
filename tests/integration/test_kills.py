"""Whatever is killed: the same command again, and weights, aliases, runs and folders are as if nothing had happened."""

import signal
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.entities import LoggedModelStatus

from tests.integration.conftest import RECIPE

pytestmark = pytest.mark.integration


@pytest.fixture
def apart(project, tmp_path):
    """The project with store, home and temporary files of its own; the store is not there yet."""
    (tmp_path / "temporary").mkdir()
    places = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "KD_HOME": str(tmp_path / "home"),
        "TMPDIR": str(tmp_path / "temporary"),
        "MLFLOW_EXPERIMENT_NAME": "kd",
    }
    return replace(project, env=project.env | places)


def words(project, *more):
    often = ("--patience", "0", "--checkpoint_every_s", "0")
    return ("--dataset", project.data, "--teacher", project.weights, *RECIPE, *often, *more)


def killed(project, stage, where, *given):
    done = project.run(stage, *given, KD_KILL=where)
    assert done.code == -signal.SIGKILL, (where, done.code, done.err[-2000:])


def weights(project, run):
    """The bytes of the one whole model of a run."""
    found = project.client.search_logged_models(
        [run.info.experiment_id], filter_string=f"source_run_id = '{run.info.run_id}'"
    )
    assert [model.status for model in found] == [LoggedModelStatus.READY]
    return next(Path(found[0].artifact_location).rglob("model.safetensors")).read_bytes()


def left(project):
    """What lies below home and among the temporary files, and is there for one process or one training only."""
    home = Path(project.env["KD_HOME"])
    hidden = [path for path in home.rglob("*") if path.name.startswith(".") and not path.name.endswith(".lock")]
    checkpoints = [path for path in (home / "checkpoints").glob("*") if path.suffix != ".lock"]
    return [*hidden, *checkpoints, *Path(project.env["TMPDIR"]).iterdir()]


WINDOWS = (
    "before kd.run.checkpoints:note 1",
    "after kd.training.loop:_Trainer._save_checkpoint 1",
    "before mlflow.tracking.client:MlflowClient.log_model_artifacts 1",
    "after kd.run.execute:log_model 1",
    "after mlflow:end_run 1",
    "before kd.run.execute:_log_baseline 2",
    "after mlflow.tracking.client:MlflowClient.create_model_version 1",
)
"""From the start of a training to its registration, in this order: each command continues where the last one died."""


def test_a_training_that_is_killed_in_every_window_ends_as_if_nothing_had_happened(apart):
    undisturbed = replace(apart, env=apart.env | {"MLFLOW_EXPERIMENT_NAME": "straight"})
    assert undisturbed.run("student", *words(apart)).code == 0
    (straight,) = apart.runs(stage="student")
    straight_versions = apart.versions()
    for window in WINDOWS:
        killed(apart, "student", window, *words(apart))
    done = apart.run("student", *words(apart))
    assert done.code == 0, done.err[-2000:]
    assert "was trained before" in done.out
    runs = [run for run in apart.runs(stage="student") if run.info.run_id != straight.info.run_id]
    assert [run.info.status for run in runs] == ["KILLED", "FINISHED"]  # the first had no checkpoint to continue from
    assert runs[0].data.tags["kd.exit_reason"].startswith("killed")
    assert weights(apart, runs[1]) == weights(apart, straight)
    assert len(apart.versions()) == len(straight_versions) + 1
    baselines = [run.data.tags["kd.label"] for run in apart.runs(role="trivial") if run.info.status == "FINISHED"]
    assert len(baselines) == 2 * len({*baselines})
    assert apart.running() == []
    assert left(apart) == []

    killed(apart, "main", "before kd.run.teacher:plan 1", *words(apart), "--seeds", "0")
    assert apart.run("compare", "--experiments", "kd").code == 0
    assert [run.info.status for run in apart.runs(stage="main")] == ["KILLED"]


def test_a_store_that_is_not_there_is_made_once_also_after_a_kill_and_for_three_commands_at_once(apart):
    asked = ("compare", "--experiments", "none")
    killed(apart, asked[0], "before alembic.runtime.migration:HeadMaintainer.update_to_step 30", *asked[1:])
    folder = Path(apart.env["KD_HOME"]).parent
    assert not (folder / "mlflow.db").exists()
    begun = [apart.begin(*asked) for _ in range(3)]
    ended = [apart.ended(process) for process in begun]
    assert [done.code for done in ended] == [2] * 3
    assert [len(done.lines) for done in ended] == [1] * 3
    assert "there is no experiment of that name" in ended[-1].err
    assert [path.name for path in folder.iterdir() if "mlflow" in path.name] == ["mlflow.db"]
