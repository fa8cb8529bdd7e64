"""Runs: writing one, and reading many."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial, wraps
from math import isnan
from pathlib import Path
from typing import Any, ParamSpec

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri
from pyarrow import parquet
from sqlalchemy import func, select

from kd.base.disk import temporary
from kd.base.harmless import without_secrets
from kd.base.processes import myself
from kd.base.ranks import is_main, shared
from kd.base.signals import signals_held
from kd.base.types import RunRecord, UserError
from kd.tracking import store

P = ParamSpec("P")
REQUESTS = "requests.parquet"
"""Artifact: real inputs of the task, to time a model on."""
ANSWERS = "answers.json"
"""Artifact: what the model answered to its stored input example when it was logged."""
AT_ONCE = 1000
"""Most metrics that MLflow takes in one request."""
PARENT = "mlflow.parentRunId"
"""Tag of a run that is nested in another."""
REGISTERED = "kd.registered"
"""Tag of a run whose model was registered: as which version."""
MOST_COUNTED = 1000
_ARTIFACTS: dict[str, str] = {}
"""Where the runs read so far keep their artifacts; it never changes."""


def _main_alone(method: Callable[P, None]) -> Callable[P, None]:
    """Have the main process alone write."""

    @wraps(method)
    def written(*args: P.args, **kwargs: P.kwargs) -> None:
        if is_main():
            method(*args, **kwargs)

    return written


@dataclass(frozen=True)
class Run:
    """A run being written to; of several processes of one training by the main one alone."""

    run_id: str

    @_main_alone
    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters that were given; those that `mlflow run` has logged already stay as they are."""
        known = MlflowClient().get_run(self.run_id).data.params
        given = {key: without_secrets(str(value)) for key, value in params.items() if value not in (None, "")}
        MlflowClient().log_batch(self.run_id, params=[Param(key, given[key]) for key in given.keys() - known.keys()])

    @_main_alone
    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log metrics at one step, in one request."""
        mlflow.log_metrics(dict(metrics), step=step, run_id=self.run_id)

    @_main_alone
    def log_points(self, points: Sequence[Metric]) -> None:
        """Log points of curves, at most `AT_ONCE`, in one request."""
        MlflowClient().log_batch(self.run_id, metrics=points)

    @_main_alone
    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, in one request."""
        MlflowClient().log_batch(self.run_id, tags=[RunTag(key, value) for key, value in _shown(tags).items()])

    @_main_alone
    def remove_tags(self, names: Sequence[str]) -> None:
        """Remove tags that the run has."""
        for name in names:
            MlflowClient().delete_tag(self.run_id, name)

    @_main_alone
    def log_table(self, frame: pd.DataFrame, name: str) -> None:
        """Keep a table as a Parquet artifact."""
        with temporary() as folder:
            frame.to_parquet(folder / name, index=False)
            MlflowClient().log_artifact(self.run_id, str(folder / name))

    @_main_alone
    def log_text(self, text: str, name: str) -> None:
        """Keep a text as an artifact."""
        MlflowClient().log_text(self.run_id, text, name)

    def describe(self, text: str) -> None:
        """Put the result, in Markdown, at the top of the run's page in the UI."""
        self.set_tags({"mlflow.note.content": text[:5000]})

    @_main_alone
    def log_folder(self, folder: Path) -> None:
        """Keep all files of a folder as artifacts, under their paths in it."""
        MlflowClient().log_artifacts(self.run_id, str(folder))

    @_main_alone
    def log_dataset(self, name: str, digest: str, context: str) -> None:
        """Name a data set as an input of the run, by our digest over all its rows."""
        dataset = Dataset(name[:500], digest, "code", json.dumps({"tags": {"kd.dataset": name}}))
        MlflowClient().log_inputs(self.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])])


@dataclass
class Points:
    """Points of a run's curves, sent to the store together, for each request takes as long as a step of a small model.

    Validation metrics are sent immediately, with everything before them, because a checkpoint may follow and a killed
    training resumes from there.
    """

    run: Run
    every_s: float = 1.0
    waiting: list[Metric] = field(default_factory=list)
    sent_s: float = field(default_factory=time.monotonic)

    def add(self, metrics: Mapping[str, float], step: int) -> None:
        """Take metrics at a step, and send what there is where that was not done for a while."""
        now = int(time.time() * 1000)
        self.waiting += [Metric(name, value, now, step) for name, value in metrics.items()]
        if time.monotonic() - self.sent_s >= self.every_s or any(name.startswith("val/") for name in metrics):
            self.send()

    def send(self) -> None:
        """Send what there is."""
        while self.waiting:
            self.run.log_points(self.waiting[:AT_ONCE])
            del self.waiting[:AT_ONCE]
        self.sent_s = time.monotonic()


def _shown(tags: Mapping[str, str]) -> dict[str, str]:
    """Return tags whose addresses have no secrets."""
    return {key: without_secrets(value) for key, value in tags.items()}


@contextmanager
def run(name: str, tags: Mapping[str, str], parent: Run | None = None, continued: str = "") -> Iterator[Run]:
    """Start a run, nested in `parent`, and end it as FINISHED, FAILED or KILLED, with `kd.exit_reason`.

    `continued` is the id of the interrupted run of the same training. `python -m` continues it; under `mlflow run` or
    inside a parent a new run is made and the old one is closed.

    Raises:
        Away: the store failed meanwhile.
    """
    if not is_main():
        yield Run("")
        return
    adopted = os.environ.pop("MLFLOW_RUN_ID", "")
    reopened = continued if continued and not (adopted or parent) and _in_this_experiment(continued) else ""
    if continued and not reopened:
        abandon(continued)
    this, resumed = Run(adopted or reopened), {"kd.resumed_from": continued} if continued and not reopened else {}
    try:
        with signals_held():  # a run that has started is known, and so can be ended
            if reopened:  # before it is running again, or another process takes it for one that was killed
                MlflowClient().set_tag(reopened, store.OWNER, myself())
            active = mlflow.start_run(
                run_id=adopted or reopened or None,
                run_name=name,
                nested=parent is not None,
                parent_run_id=parent.run_id if parent else None,
                # at once: no killed run is a stray
                tags=None if adopted or reopened else {**_shown(tags), store.OWNER: myself()},
            )
            this = Run(active.info.run_id)
        with store.unbroken(name):
            this.set_tags({"mlflow.runName": name, **code_version(), **resumed, **tags})
            yield this
            this.set_tags({"kd.exit_reason": "finished", **({"kd.resumable": "false"} if reopened else {})})
            mlflow.end_run("FINISHED")
    except BaseException as error:
        with store.suppressed():
            if (left := mlflow.active_run()) and left.info.run_id == this.run_id:  # ending it may be what failed
                mlflow.end_run("KILLED" if isinstance(error, store.ENDED_EARLY) else "FAILED")
            if this.run_id:
                store.close(this.run_id, error)
        raise


def _in_this_experiment(run_id: str) -> bool:
    return bool(MlflowClient().get_run(run_id).info.experiment_id == os.environ.get("MLFLOW_EXPERIMENT_ID"))


def abandon(run_id: str) -> None:
    """Close an interrupted run that no process writes to any more; another run continues from its checkpoint."""
    known = store.status(run_id)
    if known:
        MlflowClient().set_tag(run_id, "kd.resumable", "false")
    if known == "RUNNING":
        store.end(run_id, "KILLED", store.GONE)


def code_version() -> dict[str, str]:
    """Return the git commit and whether the tree had changes; empty outside a git checkout of this code."""
    here = Path(__file__)
    git = partial(subprocess.check_output, cwd=here.parent, stderr=subprocess.DEVNULL, text=True)
    try:
        git(["git", "ls-files", "--error-unmatch", here.name])  # installed, it may lie in somebody else's checkout
        commit, changes = git(["git", "rev-parse", "HEAD"]), git(["git", "status", "--porcelain"])
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"kd.git_commit": commit.strip(), "kd.git_dirty": str(bool(changes)).lower()}


@shared
def runs(experiments: Sequence[str], query: str = "", status: str = "FINISHED") -> list[RunRecord]:
    """Return every run of these experiments that the query matches, over all pages, oldest first.

    Raises:
        Gone: no such experiment.
        UserError: MLflow does not understand the query.
    """
    ids = [store.named_experiment(name).experiment_id for name in experiments]
    whole = f"attributes.status = '{status}'" + (f" and {query}" if query else "")
    oldest = ["attributes.start_time ASC"]
    try:
        found = mlflow.search_runs(ids, whole, max_results=sys.maxsize, order_by=oldest, output_format="list")
    except MlflowException as error:
        if error.error_code != "INVALID_PARAMETER_VALUE":
            raise
        raise UserError(f"filter={query!r}: {store.first_line(error)}") from error
    return [_record(each) for each in found]


def times_scored(test_digest: str) -> int:
    """Return how many trained runs, in every experiment of the store, have scored this test set.

    A database counts them. A server would send every run whole, which took it 20 s for 10,000: there at most
    `MOST_COUNTED` are counted.
    """
    session = getattr(MlflowClient()._tracking_client.store, "ManagedSessionMaker", None)
    if session is None:
        scored = "tags.`kd.test_scored` = 'true' and tags.`kd.role` != 'trivial'"
        query = f"tags.`kd.test_digest` = '{test_digest}' and {scored}"
        return len(
            mlflow.search_runs(None, query, max_results=MOST_COUNTED, output_format="list", search_all_experiments=True)
        )
    from mlflow.store.tracking.dbmodels.models import SqlRun, SqlTag

    def tagged(name: str, is_so: Any) -> Any:
        return SqlRun.run_uuid.in_(select(SqlTag.run_uuid).where(SqlTag.key == name, is_so))

    alive = [int(experiment.experiment_id) for experiment in mlflow.search_experiments()]
    counted = select(func.count(SqlRun.run_uuid)).where(
        SqlRun.experiment_id.in_(alive),
        SqlRun.lifecycle_stage == "active",
        tagged("kd.test_digest", SqlTag.value == test_digest),
        tagged("kd.test_scored", SqlTag.value == "true"),
        tagged("kd.role", SqlTag.value != "trivial"),
    )
    with session() as asked:
        return int(asked.execute(counted).scalar_one())


def curves(run_ids: Sequence[str], metric: str) -> dict[str, tuple[tuple[int, float], ...]]:
    """Return each run's (step, value) points of a metric, by step; of several at one step the newest."""
    points: dict[str, list[Metric]] = {run_id: [] for run_id in run_ids}
    client = MlflowClient()
    # SQLite looks through the points of all runs for those of one; a server has no such request, nor has `client`
    if of_all := getattr(client._tracking_client.store, "get_metric_history_bulk", None):
        for point in of_all(list(points), metric, sys.maxsize):
            points[point.run_id].append(point)
    else:
        points = {run_id: client.get_metric_history(run_id, metric) for run_id in points}
    by_step = {run_id: sorted(own, key=lambda one: (one.step, one.timestamp)) for run_id, own in points.items()}
    return {run_id: tuple({one.step: (one.step, one.value) for one in own}.values()) for run_id, own in by_step.items()}


@shared
def record(run_id: str | None) -> RunRecord:
    """Return one run; raises Gone where it is not there, and for None, the run of a version that no run made."""
    with store.absent(lambda _: f"run {run_id!r} is not in {store.tracking_uri()}"):
        return _record(MlflowClient().get_run(run_id or ""))


def experiment_of(run_id: str) -> str:
    """Return the name of a run's experiment; raises Gone where the run is not there."""
    with store.absent(lambda _: f"run {run_id!r} is not in {store.tracking_uri()}"):
        client = MlflowClient()
        return str(client.get_experiment(client.get_run(run_id).info.experiment_id).name)


def table(run_id: str, name: str, without: str = "") -> pd.DataFrame:
    """Read a Parquet artifact, less columns that start with `without`, if any; raises Gone where the run has none."""
    with _fetched(run_id, name) as path, parquet.ParquetFile(path) as file:
        names = [column for column in file.schema_arrow.names if not (without and column.startswith(without))]
        return file.read(columns=names).to_pandas()


def text(run_id: str, name: str) -> str:
    """Read a text artifact of a run; raises Gone where it has none."""
    with _fetched(run_id, name) as path:
        return path.read_text(encoding="utf-8")


@contextmanager
def _fetched(run_id: str, name: str) -> Iterator[Path]:
    if here := local_artifact(run_id, name):
        yield here
        return
    with temporary() as folder:
        with store.absent(lambda _: f"run {run_id!r} has no artifact {name}"):
            # given a run, MLflow would also search the run's models for the artifact, which takes twice as long.
            path = mlflow.artifacts.download_artifacts(
                artifact_uri=f"{_artifacts(run_id)}/{name}", dst_path=str(folder)
            )
        yield Path(path)


def local_artifact(run_id: str, name: str) -> Path | None:
    """Return the path of an artifact that lies on this machine; None where the store keeps artifacts elsewhere."""
    uri = _artifacts(run_id)
    if not is_local_uri(uri):
        return None
    path = Path(local_file_uri_to_path(uri)) / name
    return path if path.is_file() else None


def _artifacts(run_id: str) -> str:
    return _ARTIFACTS.get(run_id) or str(MlflowClient().get_run(run_id).info.artifact_uri)


def _record(found: Any) -> RunRecord:
    """Take a run over; parameters as they were given, without the shell's quotes that `mlflow run` logs them in."""
    _ARTIFACTS[found.info.run_id] = found.info.artifact_uri
    params = {name: _unquoted(value) for name, value in found.data.params.items()}
    given = {name: value for name, value in params.items() if value not in ("", "None")}
    info, data = found.info, found.data
    # the measurement that a run has now may lack a figure that an earlier one had, which MLflow cannot take away
    metrics = {
        name: value for name, value in data.metrics.items() if not (name.startswith("profile/") and isnan(value))
    }
    return RunRecord(info.run_id, info.run_name, given, metrics, data.tags, info.start_time)


def _unquoted(value: str) -> str:
    try:
        words = shlex.split(value)
    except ValueError:
        return value
    return words[0] if len(words) == 1 and shlex.quote(words[0]) == value else value
