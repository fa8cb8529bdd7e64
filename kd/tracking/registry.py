"""The registry: versions of registered models, their tags, descriptions and aliases."""

from collections.abc import Mapping

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from kd.base.ranks import shared
from kd.tracking.store import absent


@shared
def model_version(uri: str, option: str) -> ModelVersion:
    """Resolve `models:/NAME/VERSION` or `models:/NAME@ALIAS`; raises Gone, which says what there is."""
    name, _, alias = uri.removeprefix("models:/").partition("@")
    name, _, number = name.partition("/") if not alias else (name, "", "")
    with absent(lambda _: f"{option}={uri!r}: {_what_there_is(name)}"):
        if alias:
            return MlflowClient().get_model_version_by_alias(name, alias)
        return MlflowClient().get_model_version(name, number)


def require_model(name: str, option: str) -> None:
    """Raise Gone, which says what there is, where no registered model has this name."""
    with absent(lambda _: f"{option}={name!r}: {_what_there_is(name)}"):
        MlflowClient().get_registered_model(name)


def _what_there_is(name: str) -> str:
    try:
        model = MlflowClient().get_registered_model(name)
    except MlflowException:
        names = [known.name for known in MlflowClient().search_registered_models(max_results=50)]
        return f"no registered model {name!r}; there are: {', '.join(names) or 'none'}"
    aliases = ", ".join(f"@{alias} (version {number})" for alias, number in sorted(model.aliases.items()))
    numbers = ", ".join(str(version.version) for version in versions(name))
    return f"no such version or alias; {name!r} has versions {numbers or 'none'} and aliases {aliases or 'none'}"


def register(uri: str, run_id: str, name: str, tags: Mapping[str, str], about: tuple[str, str]) -> str:
    """Register a logged model of a run as a new version of a model, made where that is new; returns its number.

    `about` are Markdown descriptions of the registered model and of the version.
    """
    registry = MlflowClient()
    try:
        registry.create_registered_model(name, description=about[0])
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = registry.create_model_version(
        name, source=uri, run_id=run_id, tags=dict(tags), description=about[1], model_id=uri.rpartition("/")[2]
    )
    return str(version.version)


@shared
def version_of(run_id: str, name: str) -> str:
    """Return the version of a registered model that a run made; empty where it made none.

    Copies of it in other registered models name the same run.
    """
    found = MlflowClient().search_model_versions(f"run_id='{run_id}' and name={_quoted(name)}", max_results=1)
    return str(found[0].version) if found else ""


def made_by(run_id: str) -> list[ModelVersion]:
    """Return the versions of registered models that a run made."""
    return list(MlflowClient().search_model_versions(f"run_id='{run_id}'"))


@shared
def versions(name: str) -> list[ModelVersion]:
    """Return all versions of a registered model, oldest first; empty where there is no such model."""
    found = mlflow.search_model_versions(filter_string=f"name={_quoted(name)}")
    return sorted(found, key=lambda version: int(version.version))


def _quoted(name: str) -> str:
    """Quote a name for MLflow's filter, which knows no escapes."""
    return f'"{name}"' if "'" in name else f"'{name}'"


def aliased(name: str, alias: str) -> str:
    """Return the version an alias points at; empty where the model or the alias is not there."""
    found = MlflowClient().search_registered_models(f"name={_quoted(name)}")
    return str(found[0].aliases.get(alias, "")) if found else ""


def set_alias(name: str, alias: str, version: str) -> None:
    """Point an alias of a registered model at a version; an empty one takes the alias away."""
    if version:
        MlflowClient().set_registered_model_alias(name, alias, version)
    else:
        MlflowClient().delete_registered_model_alias(name, alias)


def model_tag(name: str, key: str) -> str:
    """Return a tag of a registered model; empty where the model or the tag is not there."""
    found = MlflowClient().search_registered_models(f"name={_quoted(name)}")
    return str(found[0].tags.get(key, "")) if found else ""


def tag_model(name: str, key: str, text: str) -> None:
    """Set a tag of a registered model; an empty text takes it away."""
    if text:
        MlflowClient().set_registered_model_tag(name, key, text)
    else:
        MlflowClient().delete_registered_model_tag(name, key)


def annotate(name: str, version: str, tags: Mapping[str, str], description: str = "") -> None:
    """Set tags on a version, and its Markdown description where one is given."""
    for key, value in tags.items():
        MlflowClient().set_model_version_tag(name, version, key, value[:5000])
    if description:
        MlflowClient().update_model_version(name, version, description)


def forget(name: str, version: str, prefixes: tuple[str, ...]) -> None:
    """Delete the tags of a version that begin so: what an earlier decision left."""
    for key in MlflowClient().get_model_version(name, version).tags:
        if key.startswith(prefixes):
            MlflowClient().delete_model_version_tag(name, version, key)


def copy_version(uri: str, name: str) -> str:
    """Copy a version to another registered model, made where it is new, once; returns the copy's number.

    The copy shares the artifacts of the version it was made from.
    """
    for known in versions(name):
        if known.source == uri:
            return str(known.version)
    return str(MlflowClient().copy_model_version(uri, name).version)


def source_deleted(version: ModelVersion) -> bool:
    """Say whether the run behind a version is deleted, so that `mlflow gc` would remove the version's artifacts."""
    if not version.run_id:
        return False
    try:
        return bool(MlflowClient().get_run(version.run_id).info.lifecycle_stage == "deleted")
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return True
