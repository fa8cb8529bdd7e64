"""A comparison as a terminal table and as Markdown, from the same cells. What was not measured is shown as –."""

from collections.abc import Callable

from rich.table import Table as RichTable

from kd.comparison import Arm, Table
from kd.statistics import Interval, PairedDifference

MISSING = "–"

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
    header = ["arm", "verdict", "seeds", f"test {table.metric} {arrow} [95 %]", "against control [95 %]"]
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


def rich_tables(table: Table) -> list[RichTable]:
    """Lay a comparison out for the terminal: quality, then cost."""
    laid = []
    for title, rows, words in ((_title(table), quality_cells(table), 2), ("cost at inference", cost_cells(table), 1)):
        one = RichTable(title=title, title_justify="left")
        for position, name in enumerate(rows[0]):
            one.add_column(name, justify="left" if position < words else "right", no_wrap=position == 0)
        for row in rows[1:]:
            one.add_row(*row)
        laid.append(one)
    return laid


def markdown(table: Table) -> str:
    """Write a comparison as two Markdown tables with title and caption."""
    lines = [f"### {_title(table)}", ""]
    for rows in (quality_cells(table), cost_cells(table)):
        rule = [":--"] + ["--:"] * (len(rows[0]) - 1)
        lines += [f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:])] + [""]
    return "\n".join([*lines, caption(table), ""])


def _measured(table: Table, figures: tuple[Figure, ...]) -> list[Figure]:
    return [figure for figure in figures if any(figure[1] in arm.figures for arm in table.arms)]


def _figures(arm: Arm, shown: list[Figure]) -> list[str]:
    return [write(arm.figures[key]) if key in arm.figures else MISSING for _, key, write in shown]


def _title(table: Table) -> str:
    return f"{table.task.replace('_', ' ')} on {table.dataset} (test set {table.test_digest[:8]})"


def caption(table: Table) -> str:
    """Say what the intervals are, and how often the test set has been scored."""
    return (
        f"Means over seeds with 95 % t intervals; differences are paired by seed and Holm-corrected. "
        f"{table.times_scored} trained runs have scored this test set."
    )


def _interval(interval: Interval) -> str:
    if interval.low is None:
        return f"{interval.mean:.3f}"
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _gap(arm: Arm) -> str:
    gap: PairedDifference | None = arm.difference
    if gap is None or gap.mean is None:
        return MISSING
    return f"{gap.mean:+.3f}" + (f" [{gap.low:+.3f}, {gap.high:+.3f}]" if gap.low is not None else "")
