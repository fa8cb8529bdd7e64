"""A comparison as a terminal table and as Markdown, from the same cells. What was not measured is shown as –."""

from collections.abc import Callable

from rich.table import Table as RichTable

from kd.comparison import Arm, Table
from kd.details import Details, Slice, losing
from kd.statistics import Interval, PairedDifference

MISSING = "–"
WORST = 5
"""Losing slices shown of an arm."""

Figure = tuple[str, str, Callable[[float], str]]
QUALITY: tuple[Figure, ...] = (
    ("agreement", "fidelity/agreement", lambda value: f"{value:.3f}"),
    ("ECE ↓", "calibration/ece", lambda value: f"{value:.3f}"),
)
COST: tuple[Figure, ...] = (
    ("p50 ms", "profile/latency_ms_p50", lambda value: f"{value:.1f}"),
    ("p95 ms", "profile/latency_ms_p95", lambda value: f"{value:.1f}"),
    ("peak RAM MiB", "profile/ram_peak_mib", lambda value: f"{value:.0f}"),
    ("model RAM MiB", "profile/ram_model_mib", lambda value: f"{value:.0f}"),
    ("GPU MiB", "profile/gpu_peak_mib", lambda value: f"{value:.0f}"),
    ("disk MiB", "model/size_mib", lambda value: f"{value:.0f}"),
    ("params M", "model/parameters", lambda value: f"{value / 1e6:.1f}"),
    ("train s", "cost/train_s", lambda value: f"{value:.0f}"),
)


def quality_cells(table: Table) -> list[list[str]]:
    """Return header and rows: quality with its interval, the difference to the control, its verdict, fidelity."""
    shown = _measured(table, QUALITY)
    arrow = "↑" if table.higher_is_better else "↓"
    header = ["arm", "verdict", "seeds", f"{table.split} {table.metric} {arrow} [95 %]", "difference [95 %]"]
    rows = [header + [name for name, _, _ in shown]]
    for arm in table.arms:
        own = [arm.label, arm.verdict or MISSING, str(arm.quality.n), _interval(arm.quality), _gap(arm)]
        rows.append(own + _figures(arm, shown))
    return rows


def cost_cells(table: Table) -> list[list[str]]:
    """Return header and rows: latency of a request, RAM, size, training time; a figure no arm has gets no column."""
    shown = _measured(table, COST)
    rows = [["arm", *(name for name, _, _ in shown)]]
    return rows + [[arm.label, *_figures(arm, shown)] for arm in table.arms if arm.role != "trivial"]


def slice_cells(table: Table, details: Details) -> list[list[str]]:
    """Return header and rows: the worst slices of each arm whose mean is better than what it is held against."""
    rows = [["arm", "slice", "examples", "arm's", "against", "difference [95 %]"]]
    sign = 1 if table.higher_is_better else -1
    for arm in table.arms:
        if arm.difference and sign * (arm.difference.mean or 0.0) > 0:
            for one in losing(details.slices.get(arm.key, ()), table.higher_is_better)[:WORST]:
                rows.append([arm.label, *_slice(one)])
    return rows


def rich_tables(table: Table, details: Details) -> list[RichTable]:
    """Lay a comparison out for the terminal: quality, cost, and where a better mean hides a loss."""
    parts = ((title(table), quality_cells(table), 2), ("cost at inference", cost_cells(table), 1))
    slices = ("slices that lose although the mean wins (for information)", slice_cells(table, details), 2)
    laid = []
    for heading, rows, words in (*parts, slices):
        one = RichTable(title=heading, title_justify="left")
        for position, name in enumerate(rows[0]):
            one.add_column(name, justify="left" if position < words else "right", no_wrap=position == 0)
        for row in rows[1:]:
            one.add_row(*row)
        if rows[1:]:
            laid.append(one)
    return laid


def markdown(table: Table, details: Details) -> str:
    """Write a comparison as Markdown tables with title and caption."""
    lines = [f"### {title(table)}", ""]
    for rows in (quality_cells(table), cost_cells(table), slice_cells(table, details)):
        if rows[1:]:
            rule = [":--"] + ["--:"] * (len(rows[0]) - 1)
            lines += [f"| {' | '.join(map(_cell, row))} |" for row in (rows[0], rule, *rows[1:])] + [""]
    return "\n".join([*lines, caption(table), ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _slice(one: Slice) -> list[str]:
    return [
        f"{one.column} {one.value}",
        str(one.examples),
        f"{one.arm:.3f}",
        f"{one.against:.3f}",
        _difference(one.difference),
    ]


def _measured(table: Table, figures: tuple[Figure, ...]) -> list[Figure]:
    return [figure for figure in figures if any(figure[1] in arm.figures for arm in table.arms)]


def _figures(arm: Arm, shown: list[Figure]) -> list[str]:
    return [write(arm.figures[key]) if key in arm.figures else MISSING for _, key, write in shown]


def title(table: Table) -> str:
    """Name a table's task and rows."""
    rows = "test set" if table.split == "test" else "validation set"
    return f"{table.task.replace('_', ' ')} on {table.dataset} ({rows} {table.digest[:8]})"


def caption(table: Table) -> str:
    """Say what the intervals are and what differences are taken from, and how often the test set has been scored."""
    scored = table.times_scored
    held = any(arm.difference is not None and arm.difference.examples for arm in table.arms)
    return (
        f"Means over seeds with 95 % t intervals; differences are from {table.against}, paired by seed"
        + (", with 95 % intervals over seeds and test examples" if held else "")
        + "; the verdicts are Holm-corrected."
        + (f" {scored} runs have scored this test set." if scored is not None else "")
    )


def _interval(interval: Interval) -> str:
    if interval.low is None:
        return f"{interval.mean:.3f}"
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _gap(arm: Arm) -> str:
    return _difference(arm.difference) if arm.difference else MISSING


def _difference(gap: PairedDifference) -> str:
    if gap.mean is None:
        return MISSING
    return f"{gap.mean:+.3f}" + (f" [{gap.low:+.3f}, {gap.high:+.3f}]" if gap.low is not None else "")
