"""The only importer of MLflow (with the served pyfunc): runs, metrics, artifacts, the registry and its aliases."""

from kd.tracking.models import (
    StoredModel,
    load_served,
    log_model,
    model_of,
    model_version,
    newest_version,
    register,
    set_alias,
    stored_model,
    version_of,
)
from kd.tracking.runs import REQUESTS, Run, abandon, code_version, record, run, runs, table, times_scored
from kd.tracking.store import Gone, reading, session, status, tracking_uri

__all__ = [
    "REQUESTS",
    "Gone",
    "Run",
    "StoredModel",
    "abandon",
    "code_version",
    "load_served",
    "log_model",
    "model_of",
    "model_version",
    "newest_version",
    "reading",
    "record",
    "register",
    "run",
    "runs",
    "session",
    "set_alias",
    "status",
    "stored_model",
    "table",
    "times_scored",
    "tracking_uri",
    "version_of",
]
