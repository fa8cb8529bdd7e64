"""The tracking store: which experiment, whether it can be reached, and how a run that failed is closed."""

import os
import re
import shlex
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import mlflow
import requests
from mlflow import MlflowClient
from mlflow.entities import Experiment, RunInfo
from mlflow.exceptions import MlflowException, RestException
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from kd.base import disk
from kd.base.console import shown
from kd.base.harmless import without_secrets
from kd.base.processes import myself, vanished
from kd.base.ranks import from_main, shared
from kd.base.types import DiskFull, Halted, Pruned, Refused, Stopped, UserError
from kd.tracking.database import prepare, settled
from kd.tracking.leftovers import discard_models

DEFAULT_EXPERIMENT = "kd"
OWNER = "kd.process"
"""Tag of a run: the process that writes to it."""
GONE = "killed: its process is gone"
"""The reason why a run ended that a killed process left open."""
KNOCK_S = 8.0
KIND = "mlflow.experimentKind"
NOT_LET_IN = {
    "UNAUTHENTICATED": "it requires a user and a password",
    "CUSTOMER_UNAUTHORIZED": "it requires a user and a password",
    "PERMISSION_DENIED": "this user may not do that",
}
REFUSING = ("TEMPORARILY_UNAVAILABLE", *NOT_LET_IN)
"""Error codes of a store that cannot use its database, or does not let us in."""
REASONS = {DiskFull: "disk full", UserError: "bad input", Refused: "refused", Stopped: "stopped",
           KeyboardInterrupt: "interrupted", Pruned: "pruned"}  # fmt: skip
"""What a run's `kd.exit_reason` begins with, by what ended it."""
ENDED_EARLY = (Stopped, Pruned, KeyboardInterrupt)
"""What ends a run as KILLED rather than FAILED."""
SAID = r"\((?:\w+\.)+\w+\) (.+)|\[Errno \d+\] ([^'\")]+)|(too many \d+ error responses|timed out)"
"""The message of the database's driver or the operating system, within all that MLflow wraps around it."""


class Gone(UserError):
    """What is wanted is not in the tracking store or the registry."""


class Away(Halted):
    """The store failed in the middle: it cannot be reached or written any more."""


def tracking_uri() -> str:
    """Return the tracking URI without what lets somebody in."""
    return without_secrets(mlflow.get_tracking_uri())


def look(experiment: str) -> str:
    """Say how to look at the runs of an experiment in MLflow's UI."""
    uri = tracking_uri()
    page = f"#/experiments/{named_experiment(experiment).experiment_id}/runs?workflowType=machine_learning"
    if uri.startswith(("http://", "https://")):
        return f"Look at the runs: {uri}/{page}"
    return f"Look at the runs: mlflow ui --backend-store-uri {shlex.quote(uri)}, then open http://localhost:5000/{page}"


def under_mlflow_run() -> bool:
    """Say whether `mlflow run` made a run for this process, and logged the options into it."""
    return bool(os.environ.get("MLFLOW_RUN_ID"))


def is_there() -> bool:
    """Whether there is a store to look into; to look for one in a SQLite file would make it."""
    scheme, _, path = mlflow.get_tracking_uri().partition(":///")
    return scheme != "sqlite" or Path(path.partition("?")[0]).is_file()


@contextmanager
def session(experiment: str) -> Iterator[str]:
    """Open the store; yields the experiment's name. An early failure still closes the run that `mlflow run` made.

    Args:
        experiment: its name; empty means that of the run `mlflow run` made, else MLFLOW_EXPERIMENT_NAME, else `kd`.

    Raises:
        UserError: the store cannot be reached or written, or `mlflow run` already chose another experiment.
    """
    adopted = os.environ.get("MLFLOW_RUN_ID", "")
    _hide_password()
    os.environ["MLFLOW_TRACKING_URI"] = mlflow.get_tracking_uri()  # for the processes this one starts
    try:
        with unbroken():
            yield from_main(lambda: _experiment(experiment, adopted))
    except BaseException as error:
        if adopted and not isinstance(error, Away):
            with suppressed(), suppress(Gone):
                if _adopted(adopted).status == "RUNNING":
                    close(adopted, error)
        raise


@contextmanager
def unbroken(doing: str = "") -> Iterator[None]:
    """Report in one line that the store failed in the middle of something, or that a disk is full.

    Raises:
        Away: it did; the text names the store, and what to do.
        DiskFull: likewise.
    """
    try:
        with disk.told(_places()):
            yield
    except (MlflowException, SQLAlchemyError, requests.RequestException) as error:
        if not failed(error):
            raise
        reason, mend = _explained(error, "give the same command again when the store is back")
        raise Away(
            f"{doing}{': ' if doing else ''}the tracking store {tracking_uri()} cannot be reached or written any more "
            f"({reason}); what was finished is kept, a run that was open may keep the status RUNNING: {mend}"
        ) from error


def _places() -> dict[str, Path]:
    """Return the folders of the store and of the active run's artifacts, as far as they are on this machine."""
    found = {}
    uri = mlflow.get_tracking_uri()
    if uri.startswith("sqlite:") and (name := make_url(uri).database):
        found["the store"] = Path(name).absolute().parent
    if (active := mlflow.active_run()) and is_local_uri(active.info.artifact_uri):
        found["the artifacts"] = Path(local_file_uri_to_path(active.info.artifact_uri))
    return found


def failed(error: BaseException) -> bool:
    """Say whether the store itself failed, so that an answer such as "no such run" would be wrong.

    MLflow has one exception for everything; its code and what it wraps distinguish them. What a server's database
    refuses, such as writing, comes as a bad request.
    """
    code = error.error_code if isinstance(error, MlflowException) else "INTERNAL_ERROR"
    if code in REFUSING or (code == "BAD_REQUEST" and isinstance(error, RestException)):
        return True
    return code in ("INTERNAL_ERROR", "BAD_REQUEST") and _wraps_failure(error)


def _wraps_failure(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, SQLAlchemyError):
            return True
        if isinstance(error, requests.RequestException):
            answer = error.response
            return answer is None or answer.status_code in (401, 403) or answer.status_code >= 500
        error = error.__cause__ or error.__context__
    return False


def _explained(error: BaseException, mend: str) -> tuple[str, str]:
    """Return the heart of a failure, or the first line of its text, and what to do: mostly `mend`."""
    if refusal := NOT_LET_IN.get(getattr(error, "error_code", "")):
        return refusal, "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to a user who may"
    found = re.search(SAID, without_secrets(str(error)))
    return next(group for group in found.groups() if group) if found else first_line(error), mend


@contextmanager
def absent(said: Callable[[Exception], str]) -> Iterator[None]:
    """Raise Gone, with what `said` returns, where something is not there; a store that fails is another error."""
    try:
        yield
    except (MlflowException, OSError) as error:
        if failed(error) or disk.reason(error):
            raise
        raise Gone(said(error)) from error


@contextmanager
def reading(experiment: str) -> Iterator[str]:
    """Open the store to read an experiment; yields its name.

    A run made meanwhile goes into that experiment too, or stays where `mlflow run` put it.

    Raises:
        Gone: there is no such experiment. None is made.
    """
    name = experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT
    adopted = under_mlflow_run()
    if not adopted:
        _hide_password()
        with _reachable():
            prepare(mlflow.get_tracking_uri())
            named_experiment(name)
    with session("" if adopted else name) as own:
        yield experiment or own


def _adopted(run_id: str) -> RunInfo:
    """Return the run that `mlflow run` made for this process; raises Gone where the store does not have it."""
    mend = "unset MLFLOW_RUN_ID, which mlflow run sets, or name a run of this store"
    try:
        info = MlflowClient().get_run(run_id).info
    except MlflowException as error:
        if failed(error):
            raise
        raise Gone(f"MLFLOW_RUN_ID={run_id!r}: there is no such run in {tracking_uri()}: {mend}") from error
    if info.lifecycle_stage == "deleted":
        raise Gone(f"MLFLOW_RUN_ID={run_id!r} is deleted: {mend}, or give: mlflow runs restore --run-id {run_id}")
    return info


def _require_writable(location: str) -> None:
    """Write into an experiment's artifact folder, where that is on this machine, before hours of training end there.

    Raises:
        UserError: it cannot be written.
    """
    if not is_local_uri(location):
        return
    folder = Path(local_file_uri_to_path(location))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"the artifact folder {str(folder)!r} of this experiment cannot be written ({error.strerror}): make it "
            "writable, or give a new experiment where MLflow can write"
        ) from error


def require_alive(experiment: Experiment | None) -> None:
    """Raise Gone for an experiment that is deleted, with the way to bring it back."""
    if experiment is not None and experiment.lifecycle_stage == "deleted":
        raise Gone(
            f"experiment={experiment.name!r} is deleted: give another name, or give: mlflow experiments restore "
            f"--experiment-id {experiment.experiment_id}"
        )


def named_experiment(name: str) -> Experiment:
    """Return an experiment; raises Gone, which says what there is, where none has that name or it is deleted."""
    found = MlflowClient().get_experiment_by_name(name)
    if found is None:
        known = ", ".join(one.name for one in MlflowClient().search_experiments(max_results=20)) or "none"
        raise Gone(f"experiment={name!r}: there is no experiment of that name in {tracking_uri()}; there are: {known}")
    require_alive(found)
    return found


@contextmanager
def _reachable() -> Iterator[None]:
    try:
        with disk.told(_places()):
            yield
    except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
        reason, mend = _explained(error, "set MLFLOW_TRACKING_URI to a store that can be reached and written")
        raise UserError(f"the tracking store {tracking_uri()} cannot be used: {reason}; {mend}") from error


def _hide_password() -> None:
    """Take user and password out of a server's URI, which MLflow prints, and give them to MLflow in its variables.

    It has no variable for a name without a password, nor for a token in the query: then it prints no address. Raises
    UserError where the address ends within them: errors would show the part before.
    """
    uri = mlflow.get_tracking_uri()
    parts = urlsplit(uri)
    is_server = parts.scheme in ("http", "https")
    if is_server and parts.password is not None:
        os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username or "")
        os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password)
        mlflow.set_tracking_uri(urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])))
    elif without_secrets(uri) != uri:
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
        if is_server and "@" in uri and "@" not in parts.netloc:
            raise UserError(
                f"MLFLOW_TRACKING_URI={tracking_uri()} ends before its @: write / ? and # of a password as %2F %3F and "
                "%23, or give MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )


def _experiment(wanted: str, adopted: str) -> str:
    """Open the experiment, made where it is new, and let the UI open it on its runs and charts; returns its name."""
    with _reachable():
        uri = mlflow.get_tracking_uri()
        if uri.startswith(("http://", "https://")):  # any answer will do; MLflow's own client waits for minutes
            requests.get(uri, timeout=KNOCK_S)
        prepare(uri)
        found = settled(lambda: _entered(wanted, adopted))
    close_lost(found.experiment_id)
    if wanted and wanted != found.name:
        raise UserError(
            f"experiment={wanted!r}: mlflow run put this run into {found.name!r}; "
            f"give mlflow run the option --experiment-name {wanted}"
        )
    return str(found.name)


def _entered(wanted: str, adopted: str) -> Experiment:
    if adopted:
        found = MlflowClient().get_experiment(_adopted(adopted).experiment_id)
        MlflowClient().set_tag(adopted, OWNER, myself())
    else:
        name = wanted or os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT
        require_alive(MlflowClient().get_experiment_by_name(name))
        found = _made(name)
        # where another process made it at the same time, MLflow has returned it without entering it
        found = mlflow.set_experiment(experiment_id=found.experiment_id)
    _require_writable(found.artifact_location)
    if KIND not in found.tags:  # without it the UI opens on traces of agents
        MlflowClient().set_experiment_tag(found.experiment_id, KIND, "custom_model_development")
    return found


def _made(name: str) -> Experiment:
    try:
        return mlflow.set_experiment(name)
    except MlflowException as error:
        if failed(error) or error.error_code != "INVALID_PARAMETER_VALUE":
            raise
        raise Gone(f"experiment={shown(name)} is no name for MLflow ({first_line(error)}): give another") from error


@shared
def status(run_id: str | None) -> str:
    """Return a run's status; empty where the store does not have it."""
    try:
        return str(MlflowClient().get_run(run_id or "").info.status)
    except MlflowException as error:
        if failed(error):
            raise
        return ""


def close_lost(experiment_id: str) -> None:
    """End the runs of an experiment whose processes, on this machine, are gone: they were killed.

    Trials are left to their search, which knows how they ended.
    """
    found = MlflowClient().search_runs([experiment_id], "attributes.status = 'RUNNING'")
    for tags, run_id in [(run.data.tags, run.info.run_id) for run in found]:
        if OWNER in tags and tags.get("kd.stage") != "trial" and vanished(tags[OWNER]):
            end(run_id, "KILLED", GONE)


def was_killed(run_id: str | None) -> bool:
    """Whether a run is there that was ended because its process was gone."""
    if status(run_id) != "KILLED":
        return False
    return bool(MlflowClient().get_run(run_id or "").data.tags.get("kd.exit_reason") == GONE)


@contextmanager
def suppressed() -> Iterator[None]:
    """Pass over a failure of the store: a run is being closed, and the user needs the reason for that."""
    try:
        yield
    except MlflowException as error:
        if not failed(error):
            raise


def close(run_id: str, error: BaseException) -> None:
    """End a run that `error` interrupted, as KILLED or FAILED, with `kd.exit_reason`."""
    kind = next((word for known, word in REASONS.items() if isinstance(error, known)), type(error).__name__)
    if isinstance(error, Stopped):
        MlflowClient().set_tag(run_id, "kd.resumable", "true")
    end(run_id, "KILLED" if isinstance(error, ENDED_EARLY) else "FAILED", f"{kind}: {first_line(error)}")


def end(run_id: str, status: str, reason: str) -> None:
    """Put a run into a state; `kd.exit_reason` says why. A model that it was writing is removed."""
    if status != "FINISHED":
        discard_models(run_id)
    MlflowClient().set_tag(run_id, "kd.exit_reason", reason[:5000])
    MlflowClient().set_terminated(run_id, status)


def first_line(error: BaseException) -> str:
    """Return an error's first line that is not blank, without any password or token in it."""
    lines = without_secrets(str(error)).splitlines()
    return next((line.strip() for line in lines if line.strip()), type(error).__name__)
