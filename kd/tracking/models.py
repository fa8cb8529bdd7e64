"""Logged models: writing, finding and loading them, here or in a fresh process."""

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature, infer_signature
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from kd.base.console import one_line
from kd.base.disk import SAID, reason, temporary
from kd.base.ranks import shared
from kd.base.types import Refused, UserError
from kd.tracking.leftovers import discard_models, models_of
from kd.tracking.registry import model_version
from kd.tracking.store import Gone, absent, failed, first_line, tracking_uri
from kd.tracking.stored_code import require_released

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
    """Log a pyfunc from code with its input example and what it answers into the active run; returns its URI.

    What it takes is not declared: by such a declaration MLflow turns numbers and nulls into texts and drops columns
    before the model sees them, and the model itself checks what it is given.

    It takes the place of one that a killed process had logged into the same run.

    Args:
        served: file of the pyfunc; what is stored has the mode of a new file, not this one's.
        folder: weights (safetensors), configuration, tokenizer and kd.json.
        example: rows; one column of text is kept as a list.
        answer: what the model gives for `example`.
        requirements: exact, of pip, for serving.
    """
    if (active := mlflow.active_run()) is not None:
        discard_models(active.info.run_id, whole=True)
    taken = example.iloc[:, 0].tolist() if example.shape[1] == 1 else example
    with temporary() as scratch:
        code = scratch / served.name
        code.write_bytes(served.read_bytes())
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Hint: Inferred schema contains integer")  # counts are never missing
            signature = ModelSignature(outputs=infer_signature(taken, answer).outputs)
        info = mlflow.pyfunc.log_model(
            name=STORED_NAME,
            python_model=str(code),
            artifacts={STORED_NAME: str(folder)},
            signature=signature,
            input_example=taken,
            pip_requirements=requirements,
        )
    return str(info.model_uri)


def load_served(uri: str) -> Any:
    """Load a model the way it is served.

    Raises:
        UserError: its code is not this project's, it needs to be unpickled, which is never done, or it is damaged.
    """
    folder = _released(uri)
    with usable(uri):
        return mlflow.pyfunc.load_model(str(folder))


@contextmanager
def usable(uri: str) -> Iterator[None]:
    """Report in one line that a stored model, which is loaded or asked here, is damaged: libraries raise anything then.

    Raises:
        UserError: it is. What the store or a full disk brings about passes.
    """
    try:
        yield
    except (UserError, Refused):
        raise
    except Exception as error:
        if reason(error) or failed(error):
            raise
        raise UserError(
            f"model={uri!r} cannot be loaded, or does not answer ({one_line(error)}): its files are not those that "
            "were logged; train or export it again"
        ) from error


def _released(uri: str, into: Path | None = None) -> Path:
    """Return the folder of a model, brought here, whose code may be run. Raises UserError."""
    try:
        folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=into and str(into)))
    except (MlflowException, OSError) as error:
        if reason(error) or failed(error):
            raise
        raise UserError(f"the files of {uri} cannot be had: {first_line(error)}") from error
    require_released(folder, f"model={uri!r}")
    return folder


@shared
def stored_model(uri: str, option: str) -> StoredModel:
    """Find `models:/...` or `runs:/...` and bring its files here.

    Raises:
        Gone: no such run, model, version or alias.
        UserError: the model was not logged by this project, or its code is another's.
    """
    uri, run_id = _resolved(uri, option)
    with _there(uri, option):
        folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri))
    inside = next((path.parent for path in sorted(folder.glob("artifacts/*/kd.json"))), None)
    if inside is None:
        raise UserError(f"{option}={uri!r} was not logged by this project: give a model that one of its stages made")
    require_released(folder, f"{option}={uri!r}")
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
    """Return the URI of the model a run logged; raises Gone for no such run, or one without a model."""
    with absent(lambda _: f"run {run_id!r} is not in {tracking_uri()}"):
        made = models_of(run_id)
    if not made:
        raise Gone(f"run {run_id!r} made no model")
    return f"models:/{made[-1].model_id}"


def size_of(uri: str) -> int:
    """Return the bytes of the files of `models:/...`, without bringing them here; raises Gone for no such model."""
    with _there(uri, "model"):
        files = get_artifact_repository(uri)
        waiting, size = ["artifacts"], 0
        while waiting:
            for found in files.list_artifacts(waiting.pop()):
                waiting += [found.path] if found.is_dir else []
                size += found.file_size or 0
    return size


def answers_apart(uri: str) -> Any:
    """Load a model in a fresh process, pickle refused, and return its answers to its stored input example, as JSON.

    Raises:
        UserError: its code is not this project's, or it has no input example.
        DiskFull: it cannot be loaded for want of room.
        Refused: it cannot be loaded, or fails to answer.
    """
    with temporary() as folder:
        model = _released(uri, folder)
        request = model / EXAMPLE
        if not request.is_file():
            raise UserError(f"{uri} has no stored input example to check it with: make the version again")
        out = folder / "answers.json"
        words = ["-m", "mlflow", "models", "predict", "-m", str(model), "-i", str(request), "-t", "json"]
        done = subprocess.run(
            [sys.executable, *words, "-o", str(out), "--env-manager", "local"],
            env=os.environ | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "TMPDIR": str(folder)},
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
