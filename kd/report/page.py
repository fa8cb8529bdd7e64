"""A comparison as one HTML page that needs nothing from elsewhere: styles and pictures are in it."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from kd.analysis.comparison import Table
from kd.analysis.slices import Details
from kd.base.judge import FigureGroup
from kd.report.plots import GROUND, INK, looks
from kd.report.tables import (
    MISSING,
    Section,
    caption,
    churn_cells,
    cost_cells,
    fidelity_heading,
    figure_cells,
    measured,
    quality_cells,
    slice_cells,
    title,
)
from kd.report.words import answer

Cells = list[list[str]]
SIGNS = {"o": "●", "s": "■", "D": "◆", "^": "▲", "v": "▼", "P": "✚"}
"""A marker of the pictures as a letter."""
MEANS = "Means over an arm's runs."
HALF = 540.0
"""Points: a wider picture gets the page's whole width."""


def page(
    findings: Sequence[tuple[Table, Details]],
    drawings: Sequence[Mapping[str, str]],
    notes: Sequence[str],
    inputs: Mapping[str, str],
    sections: Sequence[Section] = (),
) -> str:
    """Write the report.

    Args:
        findings: tables and what artifacts add to them.
        drawings: for each of them SVG pictures by name.
        notes: what was left out.
        inputs: what the comparison was made from.
        sections: what is said first.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    template = environment.from_string(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    parts = [_part(*found, drawn) for found, drawn in zip(findings, drawings, strict=True)]
    said = [*notes, *(note for _, details in findings for note in details.notes)]
    return template.render(parts=parts, notes=said, inputs=inputs, sections=sections)


def _part(table: Table, details: Details, drawn: Mapping[str, str]) -> dict[str, object]:
    verdicts = Counter(arm.verdict or "cannot be said" for arm in table.arms if arm.role == "distilled")
    look = looks(table)
    signs = {arm.label: {"colour": look[arm.key].colour, "sign": SIGNS[look[arm.key].marker]} for arm in table.arms}
    return {
        "title": title(table),
        "answers": answer(table).splitlines(),
        "verdicts": verdicts,
        "signs": signs,
        "caption": caption(table),
        "tables": [
            ("Quality", quality_cells(table), ""),
            (_capital(fidelity_heading(table)), figure_cells(table, "fidelity"), _about(table, "fidelity")),
            ("Attributions like the teacher's", figure_cells(table, "explanation"), _about(table, "explanation")),
            (
                "Answers changed",
                churn_cells(table, details),
                f"Shares of examples, against {table.against}; for information.",
            ),
            ("Cost at inference", cost_cells(table), f"{MEANS} Latency is of one request."),
            ("Slices that lose although the mean wins", slice_cells(table, details), "For information: not corrected."),
            ("Tests of single seeds", seed_cells(table, details), "For information: two-sided p, not corrected."),
        ],
        "drawings": [(_inline(name, svg), _points(svg) > HALF) for name, svg in drawn.items()],
        "runs": [(arm.label, arm.run_ids) for arm in table.arms],
    }


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _about(table: Table, group: FigureGroup) -> str:
    """Say what a reader must know of a group's figures."""
    return "".join(f"{_capital(figure.about)}. " for figure in measured(table, group) if figure.about) + MEANS


def seed_cells(table: Table, details: Details) -> Cells:
    """Return header and rows: for each arm the p of its test on each seed."""
    seeds = sorted({one.seed for tests in details.tests.values() for one in tests})
    rows = [["arm", "test", *(f"seed {seed}" for seed in seeds)]]
    for arm in table.arms:
        if tests := details.tests.get(arm.key):
            found = [", ".join(_p(one.p) for one in tests if one.seed == seed) or MISSING for seed in seeds]
            rows.append([arm.label, tests[0].test, *found])
    return rows


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _points(svg: str) -> float:
    found = re.search(r'<svg[^>]* width="([\d.]+)pt"', svg)
    return float(found[1]) if found else 0.0


def _inline(name: str, svg: str) -> str:
    """Return the <svg> element alone, on the page's ground and in its text colour."""
    drawn = svg[svg.index("<svg") :].replace(GROUND, f'role="img" aria-label="{name.replace("_", " ")}"', 1)
    return drawn.replace(INK, "currentColor")
