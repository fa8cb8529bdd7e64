"""Logged models, registered versions and their aliases."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature

from kd.tracking.store import Gone, client, first_line, tracking_uri
from kd.types import UserError

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
        raise UserError(f"model={uri!r} cannot be loaded: {first_line(error)}") from error


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
        raise Gone(f"{option}={uri!r}: there is no such model in {tracking_uri()}: {first_line(error)}") from error
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
            return client().get_model_version_by_alias(name, alias)
        return client().get_model_version(name, number)
    except MlflowException as error:
        raise Gone(f"{option}={uri!r}: {_what_there_is(name)}") from error


def _what_there_is(name: str) -> str:
    try:
        model = client().get_registered_model(name)
    except MlflowException:
        names = [known.name for known in client().search_registered_models(max_results=50)]
        return f"no registered model {name!r}; there are: {', '.join(names) or 'none'}"
    aliases = ", ".join(f"@{alias} (version {number})" for alias, number in sorted(model.aliases.items()))
    found = client().search_model_versions(f"name='{name}'", max_results=50)
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
    registry = client()
    try:
        registry.create_registered_model(name, description=about[0])
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = registry.create_model_version(
        name, source=uri, run_id=run_id, tags=dict(tags), description=about[1], model_id=uri.rpartition("/")[2]
    )
    return str(version.version)


def version_of(run_id: str) -> tuple[str, str] | None:
    """Return (name, version) of the registered version a run made; None where it made none."""
    found = client().search_model_versions(f"run_id='{run_id}'", max_results=1)
    return (found[0].name, str(found[0].version)) if found else None


def newest_version(name: str) -> str:
    """Return the URI of the newest version of a registered model; empty where there is none."""
    numbers = [int(found.version) for found in client().search_model_versions(f"name='{name}'")]
    return f"models:/{name}/{max(numbers)}" if numbers else ""


def set_alias(name: str, alias: str, version: str) -> None:
    """Point an alias of a registered model at a version."""
    client().set_registered_model_alias(name, alias, version)


def model_of(run_id: str) -> str:
    """Return the URI of the model a run logged."""
    outputs = client().get_run(run_id).outputs.model_outputs
    return f"models:/{outputs[-1].model_id}"
