"""Logged models that a killed process left in a run: half written, or written once more than is wanted."""

from contextlib import suppress

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository


def models_of(run_id: str) -> list[LoggedModel]:
    """Return the models that a run has logged, oldest first, without those that were deleted."""
    experiment = MlflowClient().get_run(run_id).info.experiment_id
    found = MlflowClient().search_logged_models([experiment], filter_string=f"source_run_id = '{run_id}'")
    return sorted(found, key=lambda model: model.creation_timestamp)


def discard_models(run_id: str, *, whole: bool = False) -> None:
    """Delete a run's models that were not written to the end, or, to write it anew, also the `whole` ones."""
    for model in models_of(run_id):
        if whole or model.status != LoggedModelStatus.READY:
            MlflowClient().delete_logged_model(model.model_id)
            with suppress(MlflowException, OSError):  # MLflow would keep the files
                get_artifact_repository(model.artifact_location).delete_artifacts()
