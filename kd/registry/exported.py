"""A version in another format: from which version, as which run, and how it answers."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kd import tracking
from kd.analysis.gates import Drop
from kd.base.console import say
from kd.base.hashing import fingerprint
from kd.base.types import RunRecord, UserError
from kd.config import ExportConfig, RowOptions
from kd.run.data import Rows, predictions
from kd.run.encode import encoder
from kd.run.plan import titled
from kd.run.register import LINEAGE, about_version
from kd.serving import package
from kd.serving.onnx import save_onnx
from kd.tasks import TASKS

INHERITED = (
    *("kd.role", "kd.task", "kd.metric", "kd.dataset", "kd.dataset_digest", "kd.test_digest", "kd.teacher"),
    *("kd.seed", "kd.control_arm"),
)
"""Tags that an exported model has from the run that trained it."""


@dataclass(frozen=True)
class Source:
    """The version to be exported.

    Attributes:
        name: of the registered model.
        uri: `models:/NAME/VERSION`.
        folder: its files.
        trained: the run that made it.
    """

    name: str
    uri: str
    folder: Path
    trained: RunRecord


def find(uri: str) -> Source:
    """Find a version that was trained by this project.

    Raises:
        UserError: no such version, or one that is itself exported.
    """
    version = tracking.model_version(uri, "model")
    stored = tracking.stored_model(f"models:/{version.name}/{version.version}", "model")
    trained = tracking.record(stored.run_id)
    if trained.tags.get("kd.task") not in TASKS:
        raise UserError(f"model={uri!r}: its run {stored.run_id} was not made by this project, so its rows are unknown")
    form = package.read_settings(stored.folder)["format"]
    if form != "safetensors":
        raise UserError(
            f"model={uri!r} is itself exported ({form}): give the version it came from, "
            f"{trained.tags.get('kd.exported_from', 'which was trained')}"
        )
    return Source(version.name, stored.uri, stored.folder, trained)


def described(config: ExportConfig, source: Source, rows: Rows) -> tuple[str, dict[str, str]]:
    """Return the name and tags of the run of an export: those of the source, with the format in its label."""
    tags = source.trained.tags
    label = f"{source.trained.label} · {config.format}"
    return titled(label, tags["kd.seed"]), {
        "kd.stage": "export",
        "kd.label": label,
        **{tag: tags[tag] for tag in INHERITED if tag in tags},
        "kd.validation_digest": rows.validation_digest,
        "kd.arm": fingerprint({"arm": tags["kd.arm"], "format": config.format}),
        "kd.format": config.format,
        "kd.exported_from": source.uri,
    }


def convert(config: ExportConfig, source: Source, options: RowOptions, rows: Rows, folder: Path) -> None:
    """Write the exported model; the batch it is traced with is the shortest and the longest validation row."""
    task = rows.task
    settings = package.read_settings(source.folder)
    if config.format not in task.formats:
        raise UserError(
            f"format={config.format!r}: models of task={task.name!r} cannot be exported to it: give one of "
            f"{', '.join(task.formats)}"
        )
    model, tokenizer = task.load(source.folder, f"model={source.uri!r}", finished=True)
    features = encoder(options, rows, tokenizer)("validation")
    order = np.argsort(features["length"])
    batch = task.collate(tokenizer)(features.__getitems__([int(order[0]), int(order[-1])]))
    say(f"Exporting {source.uri} to {config.format}")
    save_onnx(folder, model, tokenizer, batch.inputs, {**settings, **task.serving(), "format": config.format})


def answered(options: RowOptions, rows: Rows, folder: Path) -> dict[str, pd.DataFrame]:
    """Return predictions of validation and test, from what the served model answers."""
    task = rows.task
    splits = {"validation": rows.splits.validation, "test": rows.splits.test}
    requests = pd.concat([task.requests(split) for split in splits.values()], ignore_index=True)
    answers = package.answer(task.served, folder, requests)
    parts = (answers[: len(splits["validation"])], answers[len(splits["validation"]) :])
    return {
        name: predictions(options, task, split, task.from_served(part))
        for (name, split), part in zip(splits.items(), parts, strict=True)
    }


def register(config: ExportConfig, source: Source, model: str, run: tracking.Run, lost: Drop) -> str:
    """Register an exported model beside the version it came from; returns its number."""
    record = tracking.record(run.run_id)
    tags = {
        **{tag: record.tags[tag] for tag in LINEAGE if tag in record.tags},
        "kd.export_drop": f"{lost.mean:.6g}",
        "kd.export_loses": str(lost.mean > config.allowed_drop).lower(),
    }
    return tracking.register(model, run.run_id, source.name, tags, ("", about_version(record)))
