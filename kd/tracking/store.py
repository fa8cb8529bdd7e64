"""The tracking store: which experiment, whether it can be reached, and how a run that failed is closed."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import mlflow
import requests
from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from kd.types import Refused, Stopped, UserError

DEFAULT_EXPERIMENT = "kd"
KNOCK_S = 8.0
KIND = "mlflow.experimentKind"


class Gone(UserError):
    """What was asked for is not in the tracking store or the registry."""


def tracking_uri() -> str:
    """Return the tracking URI without any password in it."""
    return without_password(mlflow.get_tracking_uri())


@contextmanager
def session(experiment: str) -> Iterator[str]:
    """Open the store; yields the experiment's name. An early failure still closes the run that `mlflow run` made.

    Args:
        experiment: asked for; empty means `kd`, or the experiment of the run that `mlflow run` made.

    Raises:
        UserError: the store cannot be reached or written, or `mlflow run` already chose another experiment.
    """
    adopted = os.environ.get("MLFLOW_RUN_ID", "")
    os.environ["MLFLOW_TRACKING_URI"] = mlflow.get_tracking_uri()  # for the processes this one starts
    try:
        yield _experiment(experiment, adopted)
    except BaseException as error:
        if adopted and status(adopted) == "RUNNING":
            close(adopted, error)
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
        found = client().get_experiment_by_name(name)
    if found is None:
        raise Gone(f"experiment={name!r}: there is none of that name in {tracking_uri()}")
    with session(name) as own:
        yield own


@contextmanager
def _reachable() -> Iterator[None]:
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
        raise UserError(
            f"the tracking store {tracking_uri()} cannot be used: {first_line(error)}; "
            "set MLFLOW_TRACKING_URI to a store that can be reached and written"
        ) from error


def _experiment(wanted: str, adopted: str) -> str:
    with _reachable():
        _knock(mlflow.get_tracking_uri())
        if not adopted:
            name = wanted or os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT
            _opens_as_training(mlflow.set_experiment(name))
            return name
        found = client().get_experiment(client().get_run(adopted).info.experiment_id)
        _opens_as_training(found)
        actual = str(found.name)
    if wanted and wanted != actual:
        raise UserError(
            f"experiment={wanted!r}: mlflow run put this run into {actual!r}; "
            f"give mlflow run the option --experiment-name {wanted}"
        )
    return actual


def _knock(uri: str) -> None:
    """Ask a server for a sign of life, within seconds: MLflow's own client waits for minutes. Any answer will do."""
    if uri.startswith(("http://", "https://")):
        requests.get(uri, timeout=KNOCK_S)


def _opens_as_training(experiment: Experiment) -> None:
    """Let the UI open the experiment on its runs and charts; without the tag it opens on traces of agents."""
    if KIND not in experiment.tags:
        client().set_experiment_tag(experiment.experiment_id, KIND, "custom_model_development")


def status(run_id: str) -> str:
    """Return a run's status; empty where the store does not have it."""
    try:
        return str(client().get_run(run_id).info.status)
    except MlflowException:
        return ""


def close(run_id: str, error: BaseException) -> None:
    """End a run that `error` interrupted, as KILLED or FAILED, with `kd.exit_reason`."""
    reasons = {UserError: "bad input", Refused: "refused", Stopped: "stopped", KeyboardInterrupt: "interrupted"}
    kind = next((word for known, word in reasons.items() if isinstance(error, known)), type(error).__name__)
    status = "KILLED" if isinstance(error, Stopped | KeyboardInterrupt) else "FAILED"
    client().set_tag(run_id, "kd.exit_reason", f"{kind}: {first_line(error)}"[:5000])
    if isinstance(error, Stopped):
        client().set_tag(run_id, "kd.resumable", "true")
    client().set_terminated(run_id, status)


def client() -> mlflow.MlflowClient:
    """Return MLflow's client for the store in use."""
    return mlflow.MlflowClient()


def first_line(error: BaseException) -> str:
    """Return an error's first line that says something, without any password in it."""
    lines = without_password(str(error)).splitlines()
    return next((line.strip() for line in lines if line.strip()), type(error).__name__)


def without_password(text: str) -> str:
    """Hide user and password of every URI in `text`."""
    return re.sub(r"//[^/\s]*@", "//***@", text)
