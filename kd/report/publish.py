"""Shows a comparison, and keeps it with its pictures and exact inputs in a run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kd import tracking
from kd.analysis.table import Doubt
from kd.base.console import say
from kd.base.disk import temporary
from kd.base.harmless import harmless, in_cell, in_markdown
from kd.config import CompareConfig, as_params
from kd.report.data import as_csv, as_json
from kd.report.page import page
from kd.report.plots import as_png, as_svg, plots
from kd.report.tables import Finding, Section, answer, caption, in_terminal, markdown, markdown_section, title

REPORT = "report.html"
AS_PNG = ("gain", "quality_latency")
"""Pictures kept as PNG beside SVG, to be shown elsewhere: a PNG takes twice the time of an SVG."""


def show(findings: list[Finding], notes: list[str], brief: bool = False) -> None:
    """Print answers, and below them the tables; the `brief` form leaves to the report what is not quality or cost."""
    for table, details in findings:
        say("")
        say("Did distillation help?")
        for line in answer(table).splitlines():
            say(line)
        for part in in_terminal(table, details, brief):
            say(part)
        say(caption(table))
    for note in notes:
        say(f"Note: {note}")


def publish(
    findings: list[Finding],
    notes: list[str],
    config: CompareConfig,
    run: tracking.Run,
    sections: Sequence[Section] = (),
) -> str:
    """Keep the comparison with its pictures and exact inputs as artifacts of a run; returns the HTML report.

    Its `sections` come before the findings, and what speaks against the models before all.
    """
    against = tuple(doubt.sentence for doubt in doubts_of(findings))
    sections = [replace(one, lines=(*against, *one.lines)) if not place else one for place, one in enumerate(sections)]
    pages = [*map(markdown_section, sections)]
    pages += [markdown(table, details) for table, details in findings]
    run.log_text("\n".join([*pages, *(f"Note: {in_cell(note)}" for note in notes)]), "comparison.md")
    run.log_text(as_json(findings, notes, inputs(config)), "comparison.json")
    run.log_text(as_csv(findings), "comparison.csv")
    lines = []
    for table, _ in findings:
        lines += [f"**{in_cell(title(table))}**", *map(in_markdown, answer(table).splitlines())]
    run.describe("\n\n".join([*lines, f"Tables and pictures: Artifacts, {REPORT}."]))
    drawings = []
    with temporary() as scratch:
        for place, (table, details) in enumerate(findings):
            folder = Path(scratch) / "plots" / f"{table.task}-{table.digest[:8]}"
            folder.mkdir(parents=True)
            figures = plots(table, details)
            drawings.append({name: as_svg(figure, f"{name}-{place}") for name, figure in figures.items()})
            for name, figure in figures.items():
                (folder / f"{name}.svg").write_text(drawings[-1][name], encoding="utf-8")
                if name in AS_PNG:
                    (folder / f"{name}.png").write_bytes(as_png(figure))
        report = page(findings, drawings, notes, inputs(config), sections)
        (Path(scratch) / REPORT).write_text(report, encoding="utf-8")
        run.log_folder(Path(scratch))
    return report


def doubts_of(findings: Sequence[Finding]) -> list[Doubt]:
    """Return what speaks against the models of all tables."""
    return [doubt for table, _ in findings for doubt in table.doubts]


def where(run: tracking.Run) -> str:
    """Say how to open the report of a run."""
    path = tracking.local_artifact(run.run_id, REPORT)
    return f"Report: {path or f'mlflow artifacts download --run-id {run.run_id} --artifact-path {REPORT} --dst-path .'}"


def inputs(config: CompareConfig) -> dict[str, str]:
    """Return what a comparison depends on beside the runs: its options that were given, and the code."""
    given = {name: harmless(str(value)) for name, value in as_params(config).items() if value and name != "output"}
    return {**given, **tracking.code_version()}
