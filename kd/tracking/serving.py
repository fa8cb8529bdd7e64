"""Answers of a registered model in a fresh process, loaded the way a server loads it."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException

from kd.base.types import Refused, UserError
from kd.tracking.store import first_line

EXAMPLE = "serving_input_example.json"
"""What MLflow keeps with a model: its input example as a request."""


def answers_apart(uri: str) -> Any:
    """Load a model in a fresh process, pickle refused, and return its answers to its stored input example, as JSON.

    Raises:
        UserError: it has no input example.
        Refused: it cannot be loaded, or fails to answer.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            request = mlflow.artifacts.download_artifacts(artifact_uri=f"{uri}/{EXAMPLE}", dst_path=folder)
        except (MlflowException, OSError) as error:
            raise UserError(f"{uri} has no stored input example to check it with: {first_line(error)}") from error
        out = Path(folder) / "answers.json"
        words = ["-m", "mlflow", "models", "predict", "-m", uri, "-i", request, "-t", "json", "-o", str(out)]
        done = subprocess.run(
            [sys.executable, *words, "--env-manager", "local"],
            env=os.environ | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or not out.exists():
            said = [line for line in done.stderr.splitlines() if line.strip()]
            raise Refused(f"{uri} does not load and answer in a fresh process: {(said or ['no message'])[-1]}")
        return json.loads(out.read_text(encoding="utf-8"))["predictions"]
