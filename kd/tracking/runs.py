"""Runs: writing one, and reading many."""

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Dataset, DatasetInput, InputTag, Param, RunTag
from mlflow.exceptions import MlflowException

from kd.tracking.store import Gone, client, close, first_line, status, tracking_uri
from kd.types import RunRecord, Stopped, UserError

REQUESTS = "requests.parquet"
"""Artifact: real inputs of the task, to time a model on."""


@dataclass(frozen=True)
class Run:
    """A run being written to."""

    run_id: str

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters that were given; those that `mlflow run` has logged already stay as they are."""
        known = client().get_run(self.run_id).data.params
        given = {key: value for key, value in params.items() if value is not None and value != ""}
        fresh = [Param(key, str(value)) for key, value in given.items() if key not in known]
        client().log_batch(self.run_id, params=fresh)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log metrics at one step, in one request."""
        mlflow.log_metrics(dict(metrics), step=step, run_id=self.run_id)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, in one request."""
        client().log_batch(self.run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def log_table(self, frame: pd.DataFrame, name: str) -> None:
        """Keep a table as a Parquet artifact."""
        with tempfile.TemporaryDirectory() as folder:
            frame.to_parquet(Path(folder) / name, index=False)
            client().log_artifact(self.run_id, str(Path(folder) / name))

    def log_text(self, text: str, name: str) -> None:
        """Keep a text as an artifact."""
        client().log_text(self.run_id, text, name)

    def log_dataset(self, name: str, digest: str, context: str) -> None:
        """Name a data set as an input of the run, by our digest over all its rows."""
        dataset = MetaDataset(CodeDatasetSource({"kd.dataset": name}), name=name[:500], digest=digest)
        entity = dataset._to_mlflow_entity()
        tagged = DatasetInput(
            Dataset(entity.name, entity.digest, entity.source_type, entity.source),
            [InputTag("mlflow.data.context", context)],
        )
        client().log_inputs(self.run_id, [tagged])


@contextmanager
def run(name: str, tags: Mapping[str, str], parent: Run | None = None, continued: str = "") -> Iterator[Run]:
    """Start a run, and end it as it deserves: FINISHED, FAILED or KILLED, with `kd.exit_reason`.

    Args:
        name: what a person reads.
        tags: kd.stage, kd.role and the like.
        parent: the run this one is nested in.
        continued: id of the interrupted run of the same training. `python -m` writes on into it; under `mlflow run` or
            inside a parent a new run is made and the old one is closed.
    """
    adopted = os.environ.pop("MLFLOW_RUN_ID", "")
    reopened = continued if continued and not (adopted or parent) and _in_this_experiment(continued) else ""
    if continued and not reopened:
        abandon(continued)
    active = mlflow.start_run(
        run_id=adopted or reopened or None,
        run_name=name,
        nested=parent is not None,
        parent_run_id=parent.run_id if parent else None,
        log_system_metrics=True,
    )
    this = Run(active.info.run_id)
    resumed = {"kd.resumed_from": continued} if continued and not reopened else {}
    this.set_tags({"mlflow.runName": name, **code_version(), **resumed, **tags})
    try:
        yield this
    except BaseException as error:
        mlflow.end_run("KILLED" if isinstance(error, Stopped | KeyboardInterrupt) else "FAILED")
        close(this.run_id, error)
        raise
    this.set_tags({"kd.exit_reason": "finished", **({"kd.resumable": "false"} if reopened else {})})
    mlflow.end_run("FINISHED")


def _in_this_experiment(run_id: str) -> bool:
    return bool(client().get_run(run_id).info.experiment_id == os.environ.get("MLFLOW_EXPERIMENT_ID"))


def abandon(run_id: str) -> None:
    """Close an interrupted run that no process writes to any more; another run goes on from its checkpoint."""
    known = status(run_id)
    if known:
        client().set_tag(run_id, "kd.resumable", "false")
    if known == "RUNNING":
        client().set_tag(run_id, "kd.exit_reason", "killed")
        client().set_terminated(run_id, "KILLED")


def code_version() -> dict[str, str]:
    """Return the git commit and whether the tree had changes; empty outside a git checkout."""
    folder = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True)  # noqa: S607
        return done.stdout.strip()

    try:
        return {
            "kd.git_commit": git("rev-parse", "HEAD"),
            "kd.git_dirty": str(bool(git("status", "--porcelain"))).lower(),
        }
    except (OSError, subprocess.CalledProcessError):
        return {}


def runs(experiment: str, query: str = "") -> list[RunRecord]:
    """Return every finished run of an experiment that the query matches, over all pages, oldest first.

    Raises:
        Gone: no such experiment.
        UserError: MLflow does not understand the query.
    """
    found = client().get_experiment_by_name(experiment)
    if found is None:
        raise Gone(f"experiment={experiment!r}: there is none of that name in {tracking_uri()}")
    finished = "attributes.status = 'FINISHED'" + (f" and {query}" if query else "")
    records: list[RunRecord] = []
    token: str | None = None
    while True:
        try:
            page = client().search_runs(
                [found.experiment_id],
                finished,
                max_results=1000,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
        except MlflowException as error:
            raise UserError(f"filter={query!r}: {first_line(error)}") from error
        records += [_record(each) for each in page]
        if not (token := page.token):
            return records


def times_scored(test_digest: str) -> int:
    """Return how many trained runs, in every experiment of the store, have scored this test set."""
    everywhere = [found.experiment_id for found in client().search_experiments()]
    query = (
        f"tags.`kd.test_digest` = '{test_digest}' and tags.`kd.test_scored` = 'true' and tags.`kd.role` != 'trivial'"
    )
    total, token = 0, None
    while True:
        page = client().search_runs(everywhere, query, max_results=1000, page_token=token)
        total += len(page)
        if not (token := page.token):
            return total


def record(run_id: str) -> RunRecord:
    """Return one run.

    Raises:
        Gone: no such run.
    """
    try:
        return _record(client().get_run(run_id))
    except MlflowException as error:
        raise Gone(f"run {run_id!r} is not in {tracking_uri()}") from error


def table(run_id: str, name: str) -> pd.DataFrame:
    """Read a Parquet artifact of a run.

    Raises:
        Gone: the run has no such artifact.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=name, dst_path=folder)
        except (MlflowException, OSError) as error:
            raise Gone(f"run {run_id!r} has no artifact {name}") from error
        return pd.read_parquet(path)


def _record(found: Any) -> RunRecord:
    return RunRecord(found.info.run_id, found.info.run_name, found.data.params, found.data.metrics, found.data.tags)
