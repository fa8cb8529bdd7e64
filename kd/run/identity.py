"""Everything that decides what a training learns: arms, controls and cache keys are hashes of it."""

from importlib.metadata import version
from typing import Any

from kd.base.hashing import fingerprint
from kd.base.task import Task
from kd.config import FitOptions, RowOptions
from kd.models.precision import resolve_precision
from kd.run.code import code_digest
from kd.run.data import Rows

TEACHING_CODE = ("data", "evaluation", "models", "teacher")
"""Folders that decide the teacher's outputs and predictions, and how they are kept."""
TEACHING_LIBRARIES = ("torch", "transformers", "tokenizers")


def shared_identity(config: FitOptions, rows: Rows) -> dict[str, Any]:
    """Return the options that change what is learned and that an arm shares with its control."""
    names = (
        *("max_train", "epochs", "batch_size", "gradient_accumulation"),
        *("learning_rate", "warmup_ratio", "weight_decay", "patience"),
    )
    return {
        **rows.task.identity(),
        "data": rows.full_digest,
        "validation": rows.digest("validation"),
        "precision": resolve_precision(config.precision),
        **{name: getattr(config, name) for name in names},
        **drawn(config, rows),
        **({"epoch_rows": config.epoch_rows} if config.epoch_rows else {}),
    }


def drawn(config: RowOptions, rows: Rows) -> dict[str, str]:
    """Return which training rows were drawn: whole data sets may be equal where `split_seed` is not."""
    if config.labelled:
        return {"labelled": rows.train_digest}
    return {"rows": rows.train_digest} if config.max_train else {}


def teaching_code(task: Task) -> str:
    """Return a digest of the source that the teacher's outputs depend on, and of the libraries' versions."""
    return fingerprint({"code": code_digest(task, TEACHING_CODE), "libraries": library_versions()})


def library_versions() -> list[str]:
    """Return the versions of the libraries that the teacher's outputs depend on."""
    return [version(library) for library in TEACHING_LIBRARIES]
