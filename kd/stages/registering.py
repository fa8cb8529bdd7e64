"""A finished run's model becomes a registered version, with its lineage."""

from kd import tracking
from kd.config import RowOptions
from kd.stages.fitting import Outcome
from kd.stages.rows import Rows, model_name
from kd.types import RunRecord

LINEAGE = (
    "kd.role",
    "kd.task",
    "kd.metric",
    "kd.dataset",
    "kd.dataset_digest",
    "kd.test_digest",
    "kd.teacher",
    "kd.seed",
    "kd.arm",
    "kd.git_commit",
    "kd.git_dirty",
)


def register(outcome: Outcome, config: RowOptions, rows: Rows) -> tuple[str, str]:
    """Register the model of a finished run, once; returns (name, version).

    Teachers have a name of their own; students and distilled students compete under one.
    """
    if already := tracking.version_of(outcome.run_id):
        return already
    record = tracking.record(outcome.run_id)
    name = model_name(config, rows.test_digest)
    if record.tags["kd.role"] == "teacher":
        name += "-teacher"
    tags = {key: record.tags[key] for key in LINEAGE if key in record.tags}
    about = (_about_model(config, record), _about_version(record))
    return name, tracking.register(outcome.model, outcome.run_id, name, tags, about)


def _about_model(config: RowOptions, record: RunRecord) -> str:
    kind = "Teachers" if record.tags["kd.role"] == "teacher" else "Students, with and without distillation,"
    return f"{kind} for {config.task.replace('_', ' ')} on `{config.dataset}`. `champion` is the version to serve."


def _about_version(record: RunRecord) -> str:
    """Say in Markdown what a version is, how it scores and what it costs."""
    lines = [f"**{record.name}**", ""]
    if teacher := record.tags.get("kd.teacher"):
        how = "Distilled from" if record.tags["kd.role"] == "distilled" else "Initialised from, without its guidance,"
        lines += [f"{how} `{teacher}`.", ""]
    wanted = ("val/", "test/", "fidelity/", "calibration/", "profile/", "model/")
    figures = {key: value for key, value in sorted(record.metrics.items()) if key.startswith(wanted)}
    lines += ["| figure | value |", "| --- | ---: |", *(f"| {key} | {value:.4g} |" for key, value in figures.items())]
    lines += [
        "",
        f"Measured on {record.tags.get('hw.cpu', 'an unnamed processor')}, one seed ({record.tags['kd.seed']}).",
    ]
    return "\n".join(lines)
