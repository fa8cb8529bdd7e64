"""The only importer of MLflow (with the served pyfunc): runs, metrics, artifacts, the registry and its aliases."""

import os
import re
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
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from sqlalchemy.exc import SQLAlchemyError

from kd.types import Refused, RunRecord, Stopped, UserError

DEFAULT_EXPERIMENT = "kd"
STORED_NAME = "model"
REQUESTS = "requests.parquet"


class Gone(UserError):
    """What was asked for is not in the tracking store or the registry."""


def tracking_uri() -> str:
    """Return the tracking URI without any password in it."""
    return _without_password(mlflow.get_tracking_uri())


@contextmanager
def session(experiment: str) -> Iterator[str]:
    """Open the store; yields the experiment's name. An early failure still closes the run that `mlflow run` made.

    Args:
        experiment: asked for; empty means `kd`, or the experiment of the run that `mlflow run` made.

    Raises:
        UserError: the store cannot be reached or written, or `mlflow run` already chose another experiment.
    """
    adopted = os.environ.get("MLFLOW_RUN_ID", "")
    # Children of this process must not take over the run that mlflow run made.
    os.environ["MLFLOW_TRACKING_URI"] = mlflow.get_tracking_uri()
    try:
        yield _experiment(experiment, adopted)
    except BaseException as error:
        if adopted and status(adopted) == "RUNNING":
            _close(adopted, error)
        raise


@contextmanager
def reading(experiment: str) -> Iterator[str]:
    """Open the store to read an experiment; yields its name.

    A run made meanwhile goes into that experiment too, or stays where `mlflow run` put it.

    Raises:
        Gone: there is no such experiment. None is made.
    """
    adopted = os.environ.get("MLFLOW_RUN_ID", "")
    name = experiment or ("" if adopted else os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT)
    with session("") if adopted else _existing(name) as own:
        yield name or own


@contextmanager
def _existing(name: str) -> Iterator[str]:
    with _reachable():
        found = _client().get_experiment_by_name(name)
    if found is None:
        raise Gone(f"experiment={name!r}: there is none of that name in {tracking_uri()}")
    with session(name) as own:
        yield own


@contextmanager
def _reachable() -> Iterator[None]:
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise UserError(
            f"the tracking store {tracking_uri()} cannot be used: {_first_line(error)}; "
            "set MLFLOW_TRACKING_URI to a store that can be reached and written"
        ) from error


def _experiment(wanted: str, adopted: str) -> str:
    with _reachable():
        if not adopted:
            name = wanted or os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT
            mlflow.set_experiment(name)
            return name
        actual = str(_client().get_experiment(_client().get_run(adopted).info.experiment_id).name)
    if wanted and wanted != actual:
        raise UserError(
            f"experiment={wanted!r}: mlflow run put this run into {actual!r}; "
            f"give mlflow run the option --experiment-name {wanted}"
        )
    return actual


@dataclass(frozen=True)
class Run:
    """A run being written to."""

    run_id: str

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters that were given; those that `mlflow run` has logged already stay as they are."""
        known = _client().get_run(self.run_id).data.params
        given = {key: value for key, value in params.items() if value is not None and value != ""}
        fresh = [Param(key, str(value)) for key, value in given.items() if key not in known]
        _client().log_batch(self.run_id, params=fresh)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log metrics at one step, in one request."""
        mlflow.log_metrics(dict(metrics), step=step, run_id=self.run_id)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, in one request."""
        _client().log_batch(self.run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def log_table(self, frame: pd.DataFrame, name: str) -> None:
        """Keep a table as a Parquet artifact."""
        with tempfile.TemporaryDirectory() as folder:
            frame.to_parquet(Path(folder) / name, index=False)
            _client().log_artifact(self.run_id, str(Path(folder) / name))

    def log_text(self, text: str, name: str) -> None:
        """Keep a text as an artifact."""
        _client().log_text(self.run_id, text, name)

    def log_dataset(self, name: str, digest: str, context: str) -> None:
        """Name a data set as an input of the run, by our digest over all its rows."""
        dataset = MetaDataset(CodeDatasetSource({"kd.dataset": name}), name=name[:500], digest=digest)
        entity = dataset._to_mlflow_entity()
        tagged = DatasetInput(
            Dataset(entity.name, entity.digest, entity.source_type, entity.source),
            [InputTag("mlflow.data.context", context)],
        )
        _client().log_inputs(self.run_id, [tagged])


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
    reopened = continued if continued and not (adopted or parent) else ""
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
        _close(this.run_id, error)
        raise
    this.set_tags({"kd.exit_reason": "finished", **({"kd.resumable": "false"} if reopened else {})})
    mlflow.end_run("FINISHED")


def abandon(run_id: str) -> None:
    """Close an interrupted run that no process writes to any more."""
    if status(run_id) == "RUNNING":
        _client().set_tag(run_id, "kd.exit_reason", "killed")
        _client().set_terminated(run_id, "KILLED")


def _close(run_id: str, error: BaseException) -> None:
    reasons = {UserError: "bad input", Refused: "refused", Stopped: "stopped", KeyboardInterrupt: "interrupted"}
    kind = next((word for known, word in reasons.items() if isinstance(error, known)), type(error).__name__)
    status = "KILLED" if isinstance(error, Stopped | KeyboardInterrupt) else "FAILED"
    _client().set_tag(run_id, "kd.exit_reason", f"{kind}: {_first_line(error)}"[:5000])
    if isinstance(error, Stopped):
        _client().set_tag(run_id, "kd.resumable", "true")
    _client().set_terminated(run_id, status)


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


# Models and the registry


@dataclass(frozen=True)
class StoredModel:
    """A logged or registered model.

    Attributes:
        uri: with the alias resolved to a version.
        run_id: the run that made it.
        folder: its weights, configuration and tokenizer, as `save_pretrained` wrote them.
    """

    uri: str
    run_id: str
    folder: Path


def log_model(served: Path, folder: Path, example: pd.DataFrame, answer: pd.DataFrame, requirements: list[str]) -> str:
    """Log a pyfunc from code with its signature and input example into the active run; returns its URI.

    Args:
        served: file of the pyfunc.
        folder: weights (safetensors), configuration, tokenizer and kd.json.
        example: rows as the model takes them; one column of text is declared without a name, so that a string, a
            list and a table are all accepted.
        answer: what the model gives for `example`.
        requirements: exact pip requirements for serving.
    """
    taken = example.iloc[:, 0].tolist() if example.shape[1] == 1 else example
    info = mlflow.pyfunc.log_model(
        name=STORED_NAME,
        python_model=str(served),
        artifacts={STORED_NAME: str(folder)},
        signature=infer_signature(taken, answer),
        input_example=taken,
        pip_requirements=requirements,
    )
    return str(info.model_uri)


def load_served(uri: str) -> Any:
    """Load a model the way it is served."""
    return mlflow.pyfunc.load_model(uri)


def stored_model(uri: str, option: str) -> StoredModel:
    """Find `models:/...` or `runs:/...` and bring its files here.

    Raises:
        Gone: no such run, model, version or alias.
        UserError: the model was not logged by this project.
    """
    try:
        if uri.startswith("runs:/"):
            run_id = uri.removeprefix("runs:/").split("/")[0]
        elif uri.startswith("models:/m-"):
            run_id = str(mlflow.get_logged_model(uri.removeprefix("models:/")).source_run_id)
        else:
            version = model_version(uri, option)
            uri, run_id = f"models:/{version.name}/{version.version}", version.run_id
        folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri)) / "artifacts"
    except (MlflowException, OSError) as error:
        raise Gone(f"{option}={uri!r}: there is no such model in {tracking_uri()}: {_first_line(error)}") from error
    inside = next((path.parent for path in sorted(folder.glob("*/kd.json"))), None)
    if inside is None:
        raise UserError(f"{option}={uri!r} was not logged by this project: give a model that one of its stages made")
    return StoredModel(uri, run_id, inside)


def model_version(uri: str, option: str) -> ModelVersion:
    """Resolve `models:/NAME/VERSION` or `models:/NAME@ALIAS`.

    Raises:
        Gone: no such model, version or alias; says what there is.
    """
    name, _, alias = uri.removeprefix("models:/").partition("@")
    name, _, number = name.partition("/") if not alias else (name, "", "")
    try:
        if alias:
            return _client().get_model_version_by_alias(name, alias)
        return _client().get_model_version(name, number)
    except MlflowException as error:
        raise Gone(f"{option}={uri!r}: {_what_there_is(name)}") from error


def _what_there_is(name: str) -> str:
    try:
        model = _client().get_registered_model(name)
    except MlflowException:
        names = [known.name for known in _client().search_registered_models(max_results=50)]
        return f"no registered model {name!r}; there are: {', '.join(names) or 'none'}"
    aliases = ", ".join(f"@{alias} (version {number})" for alias, number in sorted(model.aliases.items()))
    found = _client().search_model_versions(f"name='{name}'", max_results=50)
    numbers = ", ".join(sorted(str(version.version) for version in found))
    return f"no such version or alias; {name!r} has versions {numbers or 'none'} and aliases {aliases or 'none'}"


def register(uri: str, run_id: str, name: str, tags: Mapping[str, str], about: tuple[str, str]) -> str:
    """Register a logged model as a new version; returns its number.

    Args:
        uri: of the logged model.
        run_id: of the run that made it.
        name: of the registered model; made where it is new.
        tags: lineage of the version.
        about: Markdown descriptions of the registered model and of the version.
    """
    client = _client()
    try:
        client.create_registered_model(name, description=about[0])
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = client.create_model_version(
        name, source=uri, run_id=run_id, tags=dict(tags), description=about[1], model_id=uri.rpartition("/")[2]
    )
    return str(version.version)


def version_of(run_id: str) -> tuple[str, str] | None:
    """Return (name, version) of the registered version a run made; None where it made none."""
    found = _client().search_model_versions(f"run_id='{run_id}'", max_results=1)
    return (found[0].name, str(found[0].version)) if found else None


def set_alias(name: str, alias: str, version: str) -> None:
    """Point an alias of a registered model at a version."""
    _client().set_registered_model_alias(name, alias, version)


def model_of(run_id: str) -> str:
    """Return the URI of the model a run logged."""
    outputs = _client().get_run(run_id).outputs.model_outputs
    return f"models:/{outputs[-1].model_id}"


# Reading runs


def runs(experiment: str, query: str = "") -> list[RunRecord]:
    """Return every finished run of an experiment that the query matches, over all pages, oldest first.

    Raises:
        Gone: no such experiment.
        UserError: MLflow does not understand the query.
    """
    found = _client().get_experiment_by_name(experiment)
    if found is None:
        raise Gone(f"experiment={experiment!r}: there is none of that name in {tracking_uri()}")
    finished = "attributes.status = 'FINISHED'" + (f" and {query}" if query else "")
    records: list[RunRecord] = []
    token: str | None = None
    while True:
        try:
            page = _client().search_runs(
                [found.experiment_id],
                finished,
                max_results=1000,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
        except MlflowException as error:
            raise UserError(f"filter={query!r}: {_first_line(error)}") from error
        records += [_record(each) for each in page]
        if not (token := page.token):
            return records


def record(run_id: str) -> RunRecord:
    """Return one run.

    Raises:
        Gone: no such run.
    """
    try:
        return _record(_client().get_run(run_id))
    except MlflowException as error:
        raise Gone(f"run {run_id!r} is not in {tracking_uri()}") from error


def status(run_id: str) -> str:
    """Return a run's status; empty where the store does not have it."""
    try:
        return str(_client().get_run(run_id).info.status)
    except MlflowException:
        return ""


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


def _client() -> mlflow.MlflowClient:
    return mlflow.MlflowClient()


def _first_line(error: BaseException) -> str:
    lines = _without_password(str(error)).splitlines()
    return next((line.strip() for line in lines if line.strip()), type(error).__name__)


def _without_password(text: str) -> str:
    return re.sub(r"//[^@/\s]*@", "//***@", text)
