"""Searches as a test sees them: their trials in Optuna, their runs in MLflow, and the processes at work on them."""

import time
from functools import cache

import optuna
import psutil
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from tests.integration.conftest import Project

STATUS = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED", TrialState.FAIL: "FAILED"}
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


def words(project: Project, study: str, space: str, *more: str) -> tuple[str, ...]:
    path = project.folder / f"{study}.yaml"
    path.write_text(space, encoding="utf-8")
    data = ("--dataset", project.data, "--teacher", project.weights, "--batch_size", "8", "--max_length", "32")
    return (*data, "--space", str(path), "--study_name", study, "--storage", project.storage, "--top_k", "1", *more)


@cache
def _database(uri: str) -> optuna.storages.RDBStorage:
    """One storage for all looks at it: each has connections of its own, and a server has few, which tests cut."""
    return optuna.storages.RDBStorage(uri, {"pool_pre_ping": True})


def study_of(project: Project, name: str) -> optuna.Study:
    """Open a study of the searches."""
    if "://" in project.storage:
        return optuna.load_study(study_name=name, storage=_database(project.storage))
    opened = optuna.storages.JournalStorage(JournalFileBackend(project.storage))
    return optuna.load_study(study_name=name, storage=opened)


def trials(project: Project, name: str, *states: TrialState) -> list[optuna.trial.FrozenTrial]:
    """Return a study's trials in these states, or in any; none where there is no such study yet."""
    try:
        found = study_of(project, name).get_trials()
    except KeyError:
        return []
    return [one for one in found if not states or one.state in states]


def slot_of(trial: optuna.trial.FrozenTrial) -> str:
    return str(trial.user_attrs["kd.slot"])


def point(trial: optuna.trial.FrozenTrial) -> tuple:
    return tuple(sorted(trial.params.items()))


def parents(project: Project, study: str):
    """Return the runs of a search itself, oldest first."""
    return [run for run in project.runs(stage="hpo", study=study) if "kd.joined" not in run.data.tags]


def await_that(true, process: int | None = None, seconds: float = 300):
    """Wait until `true()` holds; returns what it returned."""
    limit = time.monotonic() + seconds
    while not (found := true()):
        assert process is None or psutil.Process(process).status() != psutil.STATUS_ZOMBIE, "it has ended before"
        assert time.monotonic() < limit
        time.sleep(0.02)
    return found


def at_work(project: Project, study: str) -> set[int]:
    """Return the numbers of the processes whose trials are running and have been validated once."""
    running = [one for name in (study, f"{study}-finals") for one in trials(project, name, TrialState.RUNNING)]
    return {int(one.user_attrs["kd.worker"].split("|")[1]) for one in running if one.intermediate_values}


def assert_agreed(project: Project, *studies: str) -> None:
    """Optuna and MLflow say the same of every trial; nothing runs; nothing was done twice."""
    for study in studies:
        by_number: dict[str, list[str]] = {}
        for run in project.runs(study=study):
            if "kd.trial" in run.data.tags:
                assert run.data.tags["kd.exit_reason"]
                by_number.setdefault(run.data.tags["kd.trial"], []).append(run.info.status)
        begun = trials(project, study, *STATUS, TrialState.RUNNING)
        assert begun
        for trial in begun:
            found = by_number.pop(str(trial.number), [])
            lost = trial.state == TrialState.FAIL and not found  # it was killed before it had a run
            assert lost or found == [STATUS[trial.state]], (study, trial)
        assert not by_number, "a trial that was never begun has a run"
        slots = [slot_of(trial) for trial in begun if trial.state in ENDED]
        assert len(slots) == len(set(slots))
    assert project.running() == []


def leads(project: Project, study: str) -> int:
    """Return the number of the process that leads a search; 0 while none does."""
    running = trials(project, f"{study}-lead", TrialState.RUNNING)
    signed = [one.user_attrs["kd.worker"] for one in running if "run_id" in one.user_attrs]
    return int(signed[-1].split("|")[1]) if signed else 0


def started_by(process: int) -> set[int]:
    """Return the numbers of all processes below one."""
    return {one.pid for one in psutil.Process(process).children(recursive=True)}
