"""A version in words, for the registry."""

from kd.base.busy import explained, marked, measured_model, was_busy
from kd.base.harmless import in_cell, in_code, in_markdown
from kd.base.judge import OF_TASKS
from kd.base.types import RunRecord


def about_version(record: RunRecord) -> str:
    """Describe a version in Markdown: what it is, how it scores and what it costs."""
    lines = [f"**{in_cell(record.name)}**", ""]
    if origin := record.tags.get("kd.exported_from"):
        lines += [f"Exported from {in_code(origin)} as {record.tags['kd.format']}.", ""]
    if teacher := record.tags.get("kd.teacher"):
        how = "Distilled from" if record.tags["kd.role"] == "distilled" else "Initialised from, without its guidance,"
        lines += [f"{how} {in_code(teacher)}.", ""]
    wanted = ("test/", "val/", *OF_TASKS, "export/", "profile/", "model/")
    figures = [(key, value) for part in wanted for key, value in sorted(record.metrics.items()) if key.startswith(part)]
    cells = [(key, f"{value:.4g}" if value < 1e4 else f"{value:,.0f}") for key, value in figures]
    rows = [f"| {in_cell(key)} | {marked(cell, key, record.tags)} |" for key, cell in cells]
    note = explained([measured_model(record)]) if was_busy(record.tags) else ""
    machine = record.tags.get("hw.cpu", "an unnamed processor")
    lines += [in_markdown(note), ""] if note else []
    lines += ["| figure | value |", "| --- | ---: |", *rows, ""]
    return "\n".join([*lines, f"Measured on {in_cell(machine)}, one seed ({record.tags['kd.seed']})."])
