"""Logged models: writing, loading and finding them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature

from kd.base.ranks import shared
from kd.base.types import UserError
from kd.tracking.registry import model_version
from kd.tracking.store import Gone, client, failed, first_line, tracking_uri

STORED_NAME = "model"


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
    """Load a model the way it is served.

    Raises:
        UserError: it needs to be unpickled, which is never done, or is damaged.
    """
    try:
        return mlflow.pyfunc.load_model(uri)
    except MlflowException as error:
        if failed(error):
            raise
        raise UserError(f"model={uri!r} cannot be loaded: {first_line(error)}") from error


@shared
def stored_model(uri: str, option: str) -> StoredModel:
    """Find `models:/...` or `runs:/...` and bring its files here.

    Raises:
        Gone: no such run, model, version or alias.
        UserError: the model was not logged by this project.
    """
    uri, run_id = _resolved(uri, option)
    with _there(uri, option):
        folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri)) / "artifacts"
    inside = next((path.parent for path in sorted(folder.glob("*/kd.json"))), None)
    if inside is None:
        raise UserError(f"{option}={uri!r} was not logged by this project: give a model that one of its stages made")
    return StoredModel(uri, run_id, inside)


@shared
def maker(uri: str, option: str) -> str:
    """Return the run that made `models:/...` or `runs:/...`; empty where none did.

    Raises:
        Gone: no such model, version or alias.
    """
    return _resolved(uri, option)[1] or ""


@contextmanager
def _there(uri: str, option: str) -> Iterator[None]:
    """Raise Gone where a model is not there; a store that fails is another error."""
    try:
        yield
    except (MlflowException, OSError) as error:
        if failed(error):
            raise
        raise Gone(f"{option}={uri!r}: there is no such model in {tracking_uri()}: {first_line(error)}") from error


def _resolved(uri: str, option: str) -> tuple[str, str]:
    """Return the URI with the alias resolved to a version, and the run that made the model. Raises Gone."""
    if uri.startswith("runs:/"):
        return uri, uri.removeprefix("runs:/").split("/")[0]
    if uri.startswith("models:/m-"):
        with _there(uri, option):
            return uri, str(mlflow.get_logged_model(uri.removeprefix("models:/")).source_run_id)
    version = model_version(uri, option)
    return f"models:/{version.name}/{version.version}", version.run_id


@shared
def model_of(run_id: str) -> str:
    """Return the URI of the model a run logged."""
    outputs = client().get_run(run_id).outputs.model_outputs
    return f"models:/{outputs[-1].model_id}"
