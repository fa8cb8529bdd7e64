"""Logged models: writing, finding and loading them, here or in a fresh process."""

import json
import os
import subprocess
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature

from kd.base.disk import SAID, reason, temporary
from kd.base.ranks import shared
from kd.base.types import Refused, UserError
from kd.tracking.leftovers import discard_models, models_of
from kd.tracking.registry import model_version
from kd.tracking.store import absent, failed, first_line, tracking_uri

STORED_NAME = "model"
EXAMPLE = "serving_input_example.json"
"""What MLflow keeps with a model: its input example as a request."""


@dataclass(frozen=True)
class StoredModel:
    """A model: its URI without an alias, the run that made it or "", and the folder that `save_pretrained` wrote."""

    uri: str
    run_id: str
    folder: Path


def log_model(served: Path, folder: Path, example: pd.DataFrame, answer: pd.DataFrame, requirements: list[str]) -> str:
    """Log a pyfunc from code with its signature and input example into the active run; returns its URI.

    It takes the place of one that a killed process had logged into the same run.

    Args:
        served: file of the pyfunc.
        folder: weights (safetensors), configuration, tokenizer and kd.json.
        example: rows; one column of text is declared without a name, so that string, list and table are all accepted.
        answer: what the model gives for `example`.
        requirements: exact, of pip, for serving.
    """
    if (active := mlflow.active_run()) is not None:
        discard_models(active.info.run_id, whole=True)
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
    """Return the run that made `models:/...` or `runs:/...`, or ""; raises Gone for no such model, version or alias."""
    return _resolved(uri, option)[1]


def _there(uri: str, option: str) -> AbstractContextManager[None]:
    return absent(lambda error: f"{option}={uri!r}: there is no such model in {tracking_uri()}: {first_line(error)}")


def _resolved(uri: str, option: str) -> tuple[str, str]:
    """Return the URI with the alias resolved to a version, and the run that made the model. Raises Gone."""
    if uri.startswith("runs:/"):
        return uri, uri.removeprefix("runs:/").split("/")[0]
    if uri.startswith("models:/m-"):
        with _there(uri, option):
            return uri, mlflow.get_logged_model(uri.removeprefix("models:/")).source_run_id or ""
    version = model_version(uri, option)
    return f"models:/{version.name}/{version.version}", version.run_id or ""


@shared
def model_of(run_id: str) -> str:
    """Return the URI of the model a run logged."""
    return f"models:/{models_of(run_id)[-1].model_id}"


def answers_apart(uri: str) -> Any:
    """Load a model in a fresh process, pickle refused, and return its answers to its stored input example, as JSON.

    Raises:
        UserError: it has no input example.
        DiskFull: it cannot be loaded for want of room.
        Refused: it cannot be loaded, or fails to answer.
    """
    with temporary() as folder:
        try:
            request = mlflow.artifacts.download_artifacts(artifact_uri=f"{uri}/{EXAMPLE}", dst_path=str(folder))
        except (MlflowException, OSError) as error:
            if reason(error):
                raise
            raise UserError(f"{uri} has no stored input example to check it with: {first_line(error)}") from error
        out = folder / "answers.json"
        words = ["-m", "mlflow", "models", "predict", "-m", uri, "-i", request, "-t", "json", "-o", str(out)]
        done = subprocess.run(
            [sys.executable, *words, "--env-manager", "local"],
            env=os.environ | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "TMPDIR": folder},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or not out.exists():
            said = [line for line in done.stderr.splitlines() if line.strip()]
            if full := SAID.search(done.stderr):
                raise OSError(full[0])
            raise Refused(f"{uri} does not load and answer in a fresh process: {(said or ['no message'])[-1]}")
        return json.loads(out.read_text(encoding="utf-8"))["predictions"]
