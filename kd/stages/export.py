"""Turn a registered version into ONNX, check it against the version it came from, and register it beside it."""

import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

from kd import packaging, tracking
from kd.config import ExportConfig, RowOptions
from kd.models.sources import load_tokenizer
from kd.onnx_export import save_onnx
from kd.promotion import TOLERANCE, Drop, largest_difference
from kd.stages.console import say
from kd.stages.identity import fingerprint
from kd.stages.parity import figures, show, tell
from kd.stages.registering import LINEAGE, about_version
from kd.stages.rescoring import rows_behind
from kd.stages.rows import Rows, predictions
from kd.stages.serving import log_served, measure_apart
from kd.tasks import TASKS
from kd.types import CALLER_ONLY, Refused, RunRecord, UserError

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


def run(config: ExportConfig) -> None:
    """Export a version.

    Raises:
        UserError: no such version, one that is itself exported, rows that are not to be had or have changed, a model
            that ONNX cannot express, or an output that is not empty.
    """
    with tracking.session(config.experiment):
        source = find(config.model)
        _require_free(config.output)
        if config.format == "safetensors":
            _write_plain(config, source)
        else:
            _export(config, source)


def find(uri: str) -> Source:
    """Find a version that was trained by this project.

    Raises:
        UserError: there is none, or it is itself exported.
    """
    version = tracking.model_version(uri, "model")
    stored = tracking.stored_model(f"models:/{version.name}/{version.version}", "model")
    trained = tracking.record(stored.run_id)
    if trained.tags.get("kd.task") not in TASKS:
        raise UserError(f"model={uri!r}: its run {stored.run_id} was not made by this project, so its rows are unknown")
    form = packaging.read_settings(stored.folder)["format"]
    if form != "safetensors":
        raise UserError(
            f"model={uri!r} is itself exported ({form}): give the version it came from, "
            f"{trained.tags.get('kd.exported_from', 'which was trained')}"
        )
    return Source(version.name, stored.uri, stored.folder, trained)


def _require_free(output: str) -> None:
    folder = Path(output).expanduser()
    if output and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"output={output!r} is not empty: give a new or an empty folder")


def _export(config: ExportConfig, source: Source) -> None:
    options, rows = rows_behind(source.trained, f"model={source.uri!r}")
    before = tracking.table(source.trained.run_id, "predictions_test.parquet")
    requests = tracking.table(source.trained.run_id, tracking.REQUESTS)
    with tempfile.TemporaryDirectory() as scratch, tracking.run(*_titled(config, source, rows)) as run:
        run.log_params(asdict(config))
        folder = Path(scratch) / "weights"
        _convert(config, source, rows, folder)
        tables = _answered(options, rows, folder)
        metrics, lost = figures(rows.task, tables, before, source.trained.tags.get("kd.teacher", ""))
        for split, table in tables.items():
            run.log_table(table, f"predictions_{split}.parquet")
        run.log_table(requests, tracking.REQUESTS)
        run.log_metrics(metrics)
        run.set_tags({"kd.test_scored": "true"})
        model = log_served(run, rows.task, rows.splits.validation, folder)
        _copy(folder, config.output)
        with tracking.run(f"measure {source.uri}", {"kd.stage": "measure"}, run) as again:
            again.log_params({"model": source.uri})
            measure_apart(source.uri, again.run_id)
        measure_apart(model, run.run_id)
        version = _register(config, source, model, run, lost)
    metric = next(iter(rows.task.directions))
    show(source.trained, tracking.record(again.run_id), tracking.record(run.run_id), metric)
    tell(metric, lost, config.allowed_drop)
    say(f"Registered {source.name} version {version} ({config.format}); no alias was moved")
    gates = "--allowed_drop 0.01 --min_parity 0.95"
    say(f"Promote it: python -m entrypoints.promote --model {source.name} --candidate {version} {gates}")


def _titled(config: ExportConfig, source: Source, rows: Rows) -> tuple[str, dict[str, str]]:
    """Return the run's name, that of the source with the format in it, and its tags."""
    tags = source.trained.tags
    title, seed, number = source.trained.name.rpartition(" · seed ")
    return f"{title or number} · {config.format}" + (seed + number if title else ""), {
        "kd.stage": "export",
        **{tag: tags[tag] for tag in INHERITED if tag in tags},
        "kd.validation_digest": rows.validation_digest,
        "kd.arm": fingerprint({"arm": tags["kd.arm"], "format": config.format}),
        "kd.format": config.format,
        "kd.exported_from": source.uri,
    }


def _convert(config: ExportConfig, source: Source, rows: Rows, folder: Path) -> None:
    """Write the exported model; the batch it is traced with is the shortest and the longest validation row."""
    task = rows.task
    settings = packaging.read_settings(source.folder)
    model = task.load_model(source.folder, f"model={source.uri!r}", finished=True)
    tokenizer = load_tokenizer(source.folder, "model")
    encoded = task.encode(rows.splits.validation, tokenizer, settings["max_length"])
    order = np.argsort(encoded["length"])
    batch = task.collate(tokenizer)([encoded[int(order[0])], encoded[int(order[-1])]])
    inputs = {name: value for name, value in batch.items() if name not in CALLER_ONLY}
    say(f"Exporting {source.uri} to {config.format}")
    save_onnx(folder, model, tokenizer, inputs, {**settings, **task.serving(), "format": config.format})


def _answered(options: RowOptions, rows: Rows, folder: Path) -> dict[str, pd.DataFrame]:
    """Return predictions of validation and test, from what the served model answers."""
    task = rows.task
    splits = {"validation": rows.splits.validation, "test": rows.splits.test}
    asked = pd.concat([task.requests(split) for split in splits.values()], ignore_index=True)
    answers = packaging.answer(task.served, folder, asked)
    parts = (answers[: len(splits["validation"])], answers[len(splits["validation"]) :])
    return {
        name: predictions(options, task, split, task.from_served(part))
        for (name, split), part in zip(splits.items(), parts, strict=True)
    }


def _register(config: ExportConfig, source: Source, model: str, run: tracking.Run, lost: Drop) -> str:
    record = tracking.record(run.run_id)
    tags = {
        **{tag: record.tags[tag] for tag in LINEAGE if tag in record.tags},
        "kd.export_drop": f"{lost.mean:.6g}",
        "kd.export_loses": str(lost.mean > config.allowed_drop).lower(),
    }
    return tracking.register(model, run.run_id, source.name, tags, ("", about_version(record)))


def _write_plain(config: ExportConfig, source: Source) -> None:
    """Write the version's folder as it is, and check that what was written answers as the version does."""
    tags = {"kd.stage": "export", "kd.format": config.format, "kd.exported_from": source.uri}
    with tracking.run(f"export {source.uri} · {config.format}", tags) as run:
        run.log_params(asdict(config))
        requests = tracking.table(source.trained.run_id, tracking.REQUESTS)
        _copy(source.folder, config.output)
        model = tracking.load_served(source.uri).unwrap_python_model()
        before = model.predict(None, requests)
        model.load_context(SimpleNamespace(artifacts={"model": str(Path(config.output).expanduser())}))
        after = model.predict(None, requests)
        difference = largest_difference(*(pd.DataFrame(answers).to_dict("records") for answers in (before, after)))
        run.log_metrics({"export/max_difference": difference})
        if difference > TOLERANCE:
            raise Refused(f"output={config.output!r}: what was written answers otherwise, by up to {difference:.2g}")
    kind = json.loads((source.folder / "config.json").read_text(encoding="utf-8"))["architectures"][0]
    say(
        f"Written to {config.output}: its answers to {len(requests)} real inputs differ from those of {source.uri} by "
        f"at most {difference:.2g}; nothing was registered, as that version has this format already"
    )
    say(
        f"Load it: from transformers import AutoTokenizer, {kind}; "
        f"{kind}.from_pretrained({config.output!r}), AutoTokenizer.from_pretrained({config.output!r})"
    )


def _copy(folder: Path, output: str) -> None:
    if output:
        shutil.copytree(folder, Path(output).expanduser(), dirs_exist_ok=True)
