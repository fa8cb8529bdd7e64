"""An exported version against the one it came from: the same answers, the same quality, other costs."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from rich.table import Table

from kd import tracking
from kd.analysis.gates import Drop, drop
from kd.base.console import console, say
from kd.base.judge import Judge
from kd.base.types import RunRecord

SHOWN = {
    "p50 ms": ("profile/latency_ms_p50", ".2f"),
    "p95 ms": ("profile/latency_ms_p95", ".2f"),
    "peak RAM MiB": ("profile/ram_peak_mib", ".0f"),
    "model RAM MiB": ("profile/ram_model_mib", ".0f"),
    "disk MiB": ("model/size_mib", ".1f"),
}


def figures(
    task: Judge, tables: Mapping[str, pd.DataFrame], before: pd.DataFrame, teacher: str
) -> tuple[dict[str, float], Drop]:
    """Return quality, calibration, fidelity to the teacher, and parity with the version before export.

    Args:
        task: of the model.
        tables: predictions of the exported model on `validation` and `test`.
        before: predictions on test of the version it came from.
        teacher: URI; fidelity is absent where that is no registered version with predictions of the same examples.
    """
    test = tables["test"]
    metric, higher = next(iter(task.directions.items()))
    lost = drop(_light(test, task), _light(before, task), lambda part: task.quality(part)[metric], higher)
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
    guide = _teachers_predictions(teacher)
    if guide is not None and guide["example_id"].equals(test["example_id"]):
        metrics |= task.fidelity(test, guide)
    return metrics, lost


def _max_difference(before: pd.DataFrame, after: pd.DataFrame, judge: Judge) -> dict[str, float]:
    """Return the largest absolute difference of any number that was answered; nothing where answers have none."""
    numbers = [name for name in before.select_dtypes("float").columns if name not in judge.outcomes]
    if not numbers:
        return {}
    return {"export/max_difference": float(np.abs(before[numbers].to_numpy() - after[numbers].to_numpy()).max())}


def _light(table: pd.DataFrame, judge: Judge) -> pd.DataFrame:
    return table[[name for name in table.columns if not (judge.wide and name.startswith(judge.wide))]]


def _teachers_predictions(uri: str) -> pd.DataFrame | None:
    """Return the teacher's predictions on test, where it is a registered version that has them."""
    try:
        return tracking.table(tracking.model_version(uri, "teacher").run_id, "predictions_test.parquet")
    except tracking.Gone:
        return None


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
    """Print an exported version beside the one it came from.

    Args:
        judge: of their task.
        trained: the run that made the version.
        before: the run that measured it just now.
        after: the export's run.
    """
    table = Table(title=f"{trained.name}: before and after export")
    metric = next(iter(judge.directions))
    alike = [figure for figure in judge.figures if figure.group == "quality" and figure.key.startswith("fidelity/")]
    parity = {figure.heading: (figure.key.replace("fidelity/", "export/", 1), ".4f") for figure in alike}
    largest = {"max difference": ("export/max_difference", ".2g")}
    known = {**SHOWN, metric: (f"test/{metric}", ".4f"), **parity, **largest}
    scored = {**before.metrics, f"test/{metric}": trained.metrics[f"test/{metric}"]}
    columns = {name: column for name, column in known.items() if column[0] in {**scored, **after.metrics}}
    for name in ("format", *columns):
        table.add_column(name, justify="left" if name == "format" else "right")
    for form, figures in (("safetensors", scored), (after.tags["kd.format"], after.metrics)):
        cells = [f"{figures[key]:{shape}}" if key in figures else "–" for key, shape in columns.values()]
        table.add_row(form, *cells)
    console.print(table)
