"""Turn a registered version into ONNX, check it against the version it came from, and register it beside it."""

import json
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pandas as pd

from kd import tracking
from kd.analysis.gates import TOLERANCE, largest_difference
from kd.analysis.table import Doubt
from kd.base.console import command, say
from kd.base.disk import temporary, told
from kd.base.files import empty_left, filling
from kd.base.types import Refused, UserError
from kd.config import ExportConfig, as_params
from kd.registry.evidence import Version, rows_behind
from kd.registry.exported import (
    answered,
    convert,
    described,
    figures,
    find,
    register,
    registered_before,
    report_drop,
    show,
)
from kd.run.register import before_promoting, doubted
from kd.serving.log import log_served
from kd.serving.package import require_whole
from kd.serving.sitting import measure_in_turn


def run(config: ExportConfig) -> None:
    """Export a version.

    Raises:
        UserError: no such version, an exported version, rows that are missing or have changed, a model that ONNX cannot
            express, or an output folder that is not empty.
    """
    with tracking.session(config.experiment):
        source = find(config.model)
        folder = Path(config.output).expanduser()
        if config.output:
            empty_left(folder)
        version = registered_before(config, source) if config.format != "safetensors" else ""
        made = tracking.stored_model(f"models:/{source.name}/{version}", "model").folder if version else None
        if config.output and folder.exists() and not _is_free(folder, made):
            raise UserError(f"output={config.output!r} is not empty: give a new or an empty folder")
        if made is not None:
            with _whole(config.output):
                _copy(made, config.output)
            say(f"Registered {source.name} version {version} ({config.format}) before the same command was killed")
        elif config.format == "safetensors":
            _write_plain(config, source)
        else:
            _export(config, source)


def _is_free(folder: Path, made: Path | None) -> bool:
    """Whether an export may be written to a folder: it is empty, or has what was `made` before."""
    if not folder.is_dir():
        return False
    found = {path.name for path in folder.iterdir()}
    return not found or (made is not None and found == {path.name for path in made.iterdir()})


def _export(config: ExportConfig, source: Version) -> None:
    options, rows = rows_behind(source.record, f"model={source.uri!r}")
    before = tracking.table(source.record.run_id, "predictions_test.parquet")
    requests = tracking.table(source.record.run_id, tracking.REQUESTS)
    against = doubted(source.record.run_id)
    with temporary() as scratch, tracking.run(*described(config, source, rows)) as run, _whole(config.output):
        run.log_params(as_params(config))
        folder = scratch / "weights"
        convert(config, source, options, rows, folder)
        tables = answered(options, rows, folder)
        metrics, lost = figures(rows.task, tables, before, source.record)
        for split, table in tables.items():
            run.log_table(table, f"predictions_{split}.parquet")
        run.log_table(requests, tracking.REQUESTS)
        run.log_metrics(metrics)
        run.set_tags({"kd.test_scored": "true"})
        model = log_served(run, rows.task, rows.splits.validation, folder)
        _copy(folder, config.output)
        with tracking.run(f"measure {source.uri}", {"kd.stage": "measure"}, run) as again:
            again.log_params({"model": source.uri})
            measure_in_turn({again.run_id: source.uri, run.run_id: model})
        version = register(config, source, model, run, lost)
    metric = next(iter(rows.task.directions))
    show(rows.task, source.record, tracking.record(again.run_id), tracking.record(run.run_id))
    report_drop(metric, lost, config.allowed_drop)
    say(f"Registered {source.name} version {version} ({config.format}); no alias was moved")
    offer(source.name, version, against)


def offer(name: str, version: str, against: Sequence[Doubt]) -> None:
    """Say how to promote a version, unless something speaks `against` the model that it was exported from."""
    gates = ("--allowed_drop", "0.01", "--min_parity", "0.95")
    offered = f"Promote it: {command('promote', '--model', name, '--candidate', version, *gates)}"
    say(before_promoting(against) or offered)


def _write_plain(config: ExportConfig, source: Version) -> None:
    """Write the version's folder as it is, and check that the written model answers as the version does."""
    tags = {"kd.stage": "export", "kd.format": config.format, "kd.exported_from": source.uri}
    with tracking.run(f"export {source.uri} · {config.format}", tags) as run, _whole(config.output):
        run.log_params(as_params(config))
        requests = tracking.table(source.record.run_id, tracking.REQUESTS)
        require_whole(source.folder, f"model={source.uri!r}")
        _copy(source.folder, config.output)
        with tracking.usable(source.uri):
            model = tracking.load_served(source.uri).unwrap_python_model()
            before = model.predict(None, requests)
            model.load_context(SimpleNamespace(artifacts={"model": str(Path(config.output).expanduser())}))
            after = model.predict(None, requests)
        difference = largest_difference(*(pd.DataFrame(answers).to_dict("records") for answers in (before, after)))
        run.log_metrics({"export/max_difference": difference})
        if difference > TOLERANCE:
            raise Refused(f"output={config.output!r}: the written model's answers differ by up to {difference:.2g}")
    kind = json.loads((source.folder / "config.json").read_text(encoding="utf-8"))["architectures"][0]
    say(
        f"Written to {config.output}: its answers to {len(requests)} real inputs differ from those of {source.uri} by "
        f"at most {difference:.2g}; nothing was registered, as that version has this format already"
    )
    say(
        f"Load it: from transformers import AutoTokenizer, {kind}; "
        f"{kind}.from_pretrained({config.output!r}), AutoTokenizer.from_pretrained({config.output!r})"
    )


def _whole(output: str) -> AbstractContextManager[None]:
    """Leave the output folder as it was, empty or not there, where the export fails: the same command works again."""
    return filling(Path(output).expanduser().resolve()) if output else nullcontext()


def _copy(folder: Path, output: str) -> None:
    if output:
        with told(at=Path(output).expanduser() / folder.name):
            shutil.copytree(folder, Path(output).expanduser(), dirs_exist_ok=True)
