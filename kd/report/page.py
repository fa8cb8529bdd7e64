"""A comparison as one HTML page that needs nothing from elsewhere: styles and pictures are in it."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from kd.analysis.slices import Details
from kd.analysis.table import Table
from kd.report.plots import GROUND, INK, MARKERS, looks
from kd.report.tables import MISSING, Cells, Finding, Section, caption, p_cell, title, titled_tables, verdicts

HALF = 540.0
"""Points: a wider picture gets the page's whole width."""


def page(
    findings: Sequence[Finding],
    drawings: Sequence[Mapping[str, str]],
    notes: Sequence[str],
    inputs: Mapping[str, str],
    sections: Sequence[Section] = (),
) -> str:
    """Write the report; `drawings` are SVG pictures by name for each of the findings, and sections come first."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    template = environment.from_string(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    parts = [_part(*found, drawn) for found, drawn in zip(findings, drawings, strict=True)]
    return template.render(parts=parts, notes=notes, inputs=inputs, sections=sections)


def _part(table: Table, details: Details, drawn: Mapping[str, str]) -> dict[str, object]:
    look = looks(table)
    tests = ("Tests of single seeds (for information)", seed_cells(table, details), "Two-sided p, not corrected.")
    return {
        "title": title(table),
        "doubts": [doubt.sentence for doubt in table.doubts],
        "answers": verdicts(table).splitlines(),
        "verdicts": Counter(arm.verdict or "cannot be said" for arm in table.arms if arm.role == "distilled"),
        "signs": {arm.label: (look[arm.key].colour, MARKERS[look[arm.key].marker]) for arm in table.arms},
        "caption": caption(table),
        "tables": [*titled_tables(table, details), tests],
        "drawings": [(_inline(name, svg), _wide(svg)) for name, svg in drawn.items()],
        "runs": [(arm.label, arm.run_ids) for arm in table.arms],
    }


def seed_cells(table: Table, details: Details) -> Cells:
    """Return header and rows: for each arm the p of its test on each seed."""
    seeds = sorted({one.seed for tests in details.tests.values() for one in tests})
    rows = [["arm", "test", *(f"seed {seed}" for seed in seeds)]]
    for arm in table.arms:
        if tests := details.tests.get(arm.key):
            found = [", ".join(p_cell(one.p) for one in tests if one.seed == seed) or MISSING for seed in seeds]
            rows.append([arm.label, tests[0].test, *found])
    return rows


def _wide(svg: str) -> bool:
    return any(float(points) > HALF for points in re.findall(r'<svg[^>]* width="([\d.]+)pt"', svg))


def _inline(name: str, svg: str) -> str:
    """Return the <svg> element alone, on the page's ground and in its text colour."""
    drawn = svg[svg.index("<svg") :].replace(GROUND, f'role="img" aria-label="{name.replace("_", " ")}"', 1)
    return drawn.replace(INK, "currentColor")
