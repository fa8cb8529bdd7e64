"""A version in another format: from which version, as which run, how it answers, and what the export cost."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from rich.table import Column

from kd import tracking
from kd.analysis.gates import Drop, drop
from kd.base.busy import explained, marked, measured_model, was_busy
from kd.base.console import say
from kd.base.hashing import fingerprint
from kd.base.judge import Judge
from kd.base.terminal import Table, console
from kd.base.types import RunRecord, UserError
from kd.config import ExportConfig, RowOptions
from kd.registry.evidence import Version, light, logged, teacher_of, version_at
from kd.run.about import about_version
from kd.run.data import Rows, predictions
from kd.run.encode import encoder
from kd.run.plan import titled
from kd.run.register import LINEAGE
from kd.serving import package
from kd.serving.onnx import save_onnx

INHERITED = (
    *("kd.role", "kd.task", "kd.metric", "kd.dataset", "kd.dataset_digest", "kd.test_digest", "kd.teacher"),
    *("kd.seed", "kd.control_arm"),
)
"""Tags that an exported model has from the run that trained it."""


SHOWN = {
    "p50 ms": ("profile/latency_ms_p50", ".2f"),
    "p95 ms": ("profile/latency_ms_p95", ".2f"),
    "peak RAM MiB": ("profile/ram_peak_mib", ".0f"),
    "model RAM MiB": ("profile/ram_model_mib", ".0f"),
    "disk MiB": ("model/size_mib", ".1f"),
}


def find(uri: str) -> Version:
    """Find a version that was trained by this project; UserError for none, or one that is itself exported."""
    source = version_at(uri, "model")
    if source.exported:
        raise UserError(
            f"model={uri!r} is itself exported ({source.exported}): give the version it came from, "
            f"{source.record.tags['kd.exported_from']}"
        )
    return source


def described(config: ExportConfig, source: Version, rows: Rows) -> tuple[str, dict[str, str]]:
    """Return the name and tags of the run of an export: those of the source, with the format in its label."""
    tags = source.record.tags
    label = f"{source.record.label} · {config.format}"
    return titled(label, tags["kd.seed"]), {
        "kd.stage": "export",
        "kd.label": label,
        **{tag: tags[tag] for tag in INHERITED if tag in tags},
        "kd.validation_digest": rows.validation_digest,
        "kd.arm": fingerprint({"arm": tags["kd.arm"], "format": config.format}),
        "kd.format": config.format,
        "kd.exported_from": source.uri,
    }


def convert(config: ExportConfig, source: Version, options: RowOptions, rows: Rows, folder: Path) -> None:
    """Write the exported model; the batch it is traced with is the shortest and the longest validation row."""
    task = rows.task
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
    settings = {**package.read_settings(source.folder), **task.serving(), "format": config.format}
    save_onnx(folder, model, tokenizer, batch.inputs, settings)


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


def register(config: ExportConfig, source: Version, model: str, run: tracking.Run, lost: Drop) -> str:
    """Register an exported model beside the version it came from; returns its number."""
    record = tracking.record(run.run_id)
    tags = {
        **{tag: record.tags[tag] for tag in LINEAGE if tag in record.tags},
        "kd.export_drop": f"{lost.mean:.6g}",
        "kd.export_loses": str(lost.mean > config.allowed_drop).lower(),
    }
    return tracking.register(model, run.run_id, source.name, tags, ("", about_version(record)))


def registered_before(config: ExportConfig, source: Version) -> str:
    """Return the version that the same export had made when it was killed, and end its run; empty where there is none.

    Registering is the last thing that an export does, so nothing is missing.
    """
    for version in tracking.versions(source.name):
        from_where = (version.tags.get("kd.exported_from"), version.tags.get("kd.format"))
        if from_where == (source.uri, config.format) and tracking.was_killed(version.run_id):
            tracking.end(version.run_id, "FINISHED", "finished")
            return str(version.version)
    return ""


def figures(
    task: Judge, tables: Mapping[str, pd.DataFrame], before: pd.DataFrame, source: RunRecord
) -> tuple[dict[str, float], Drop]:
    """Return quality, calibration, fidelity to the teacher, and parity with the version before export.

    `tables` are predictions on `validation` and `test`, `before` those on test of the version it came from, made by the
    run `source`. Without predictions of its teacher on the same examples there is no fidelity.
    """
    test = tables["test"]
    metric, higher = next(iter(task.directions.items()))
    lost = drop(light(test, task), light(before, task), lambda part: task.quality(part)[metric], higher)
    found = task.fidelity(test, before)  # the version before export takes the place of a teacher
    same = {name.replace("fidelity/", "export/", 1).replace("teacher", "before"): found[name] for name in found}
    metrics = {
        **{f"val/{name}": value for name, value in task.quality(tables["validation"]).items()},
        **{f"test/{name}": value for name, value in task.quality(test).items()},
        **task.diagnostics(None, test),
        **same,
        **_max_difference(before, test, task),
        "export/drop": lost.mean,
    }
    if lost.at_most is not None:
        metrics["export/drop_at_most"] = lost.at_most
    teacher = teacher_of(source)
    guide = logged(teacher) if teacher else None
    if guide is not None and guide["example_id"].equals(test["example_id"]):
        metrics |= task.fidelity(test, guide)
    return metrics, lost


def _max_difference(before: pd.DataFrame, after: pd.DataFrame, judge: Judge) -> dict[str, float]:
    """Return the largest absolute difference of any number that was answered; nothing where answers have none."""
    numbers = [name for name in before.select_dtypes("float").columns if name not in judge.outcomes]
    if not numbers:
        return {}
    was, now = before[numbers].to_numpy(), after[numbers].to_numpy()
    gaps = np.where(np.isnan(was) & np.isnan(now), 0.0, np.abs(was - now))  # a column that was kept may lack values
    return {"export/max_difference": float(gaps.max())}


def report_drop(metric: str, lost: Drop, allowed: float) -> None:
    """Say how much quality the export cost, as a warning where that is more than was allowed."""
    change = f"{'worse' if lost.mean > 0 else 'better'} by {abs(lost.mean):.4g}" if lost.mean else "unchanged"
    bound = "" if lost.at_most is None else f" (at 95 % confidence worse by at most {max(lost.at_most, 0):.4g})"
    if lost.mean > allowed:
        say(
            f"Warning: test {metric} is {change}{bound}, more than allowed_drop={allowed:g}: registered all the "
            "same, with the tag kd.export_loses=true"
        )
    else:
        say(f"Test {metric} is {change}{bound}; allowed_drop={allowed:g}")


def show(judge: Judge, trained: RunRecord, before: RunRecord, after: RunRecord) -> None:
    """Print an exported version beside the one it came from, by the runs that trained, measured and exported."""
    metric = next(iter(judge.directions))
    alike = [figure for figure in judge.figures if figure.group == "quality" and figure.key.startswith("fidelity/")]
    parity = {figure.heading: (figure.key.replace("fidelity/", "export/", 1), ".4f") for figure in alike}
    largest = {"max difference": ("export/max_difference", ".2g")}
    known = {**SHOWN, metric: (f"test/{metric}", ".4f"), **parity, **largest}
    scored = {**before.metrics, f"test/{metric}": trained.metrics[f"test/{metric}"]}
    columns = {name: column for name, column in known.items() if column[0] in {**scored, **after.metrics}}
    headings = (Column(name, justify="right") for name in columns)
    table = Table("format", *headings, title=f"{trained.name}: before and after export")
    for run, form, figures in ((before, "safetensors", scored), (after, after.tags["kd.format"], after.metrics)):
        cells = [
            marked(f"{figures[key]:{shape}}", key, run.tags) if key in figures else "–"
            for key, shape in columns.values()
        ]
        table.add_row(form, *cells)
    if was_busy(before.tags) or was_busy(after.tags):
        say(explained(map(measured_model, (trained, after))))
    console.print(table)
