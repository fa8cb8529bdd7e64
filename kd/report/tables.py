"""A comparison in tables, for the terminal and as Markdown, and in sentences. What was not measured is shown as –."""

from collections.abc import Container
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD

from kd.analysis.comparison import SAME_STUDENT, TUNED
from kd.analysis.slices import Details
from kd.analysis.statistics import Interval, PairedDifference
from kd.analysis.table import Arm, Table
from kd.base.budgets import feasibility
from kd.base.busy import MARK, explained, is_timed
from kd.base.harmless import harmless, in_cell, in_markdown
from kd.base.judge import UNBOUNDED, Figure, FigureGroup
from kd.base.terminal import Table as RichTable
from kd.base.terminal import console

Cells = list[list[str]]
Finding = tuple[Table, Details]
"""A table, and what artifacts add to it."""
Titled = tuple[str, Cells, str]
"""A heading, its table as header and rows, and what a reader must know of it."""
MISSING = "–"
MEANS = "Means over an arm's runs."
COSTS = "Cost of a request, and of the training"
FAIRNESS = "Means over an arm's runs, of groups of 30 examples or more. Ratio: the larger value by the smaller."
NAME, WRAPPED, BROKEN, GAP = 28, 13, 40, 2
"""Width at which rows' names, and other words, are wrapped in the terminal where there is no room, and at which a word
is broken; between columns."""
WORST = 5
"""Losing slices shown of an arm."""
ANSWERS = {
    "better": ("yes, distillation helped", "better"),
    "worse": ("no, distillation hurt", "worse"),
    "no difference shown": ("no gain shown", "no difference shown"),
}
"""What a verdict says of distillation, where the difference is from the control, and else."""

P50, P95, SIZE = "profile/latency_ms_p50", "profile/latency_ms_p95", "model/size_mib"
COST = (
    Figure(P50, "p50 ms", ".1f", "cost"),
    Figure(P95, "p95 ms", ".1f", "cost"),
    Figure("profile/ram_peak_mib", "peak RAM MiB", ".0f", "cost"),
    Figure("profile/ram_model_mib", "model RAM MiB", ".0f", "cost"),
    Figure("profile/gpu_peak_mib", "GPU MiB", ".0f", "cost"),
    Figure(SIZE, "disk MiB", ".0f", "cost"),
    Figure("model/parameters", "params M", "millions", "cost"),
    Figure("cost/train_s", "train s", ".0f", "cost"),
    Figure("cost/ram_peak_mib", "train RAM MiB", ".0f", "cost"),
    Figure("cost/gpu_peak_mib", "train GPU MiB", ".0f", "cost"),
)
COST_ABOUT = (
    "Latency is of one request; RAM and GPU are peaks of the process that serves, and train RAM and train GPU of the "
    "process that trains. Feasibility is the class of p95; what fits is within a device's RAM and storage."
)


@dataclass(frozen=True)
class Section:
    """What is said before the tables of a comparison."""

    heading: str
    lines: tuple[str, ...]
    tables: tuple[Titled, ...]


def titled_tables(table: Table, details: Details) -> list[Titled]:
    """Return a comparison's tables: quality, fidelity, cost, and where a better mean hides a loss."""
    calibrated = any(figure.key.startswith("calibration/") for figure in _measured(table, "fidelity"))
    fidelity = "Fidelity to the teacher" + ", and calibration" * calibrated
    noted = f"{said}. " if (said := busy_note(table)) else ""
    return [
        ("Quality", quality_cells(table), ""),
        (fidelity, figure_cells(table, "fidelity"), _about(table, "fidelity")),
        ("Errors in detail", figure_cells(table, "errors"), _about(table, "errors")),
        ("What the errors mean to a patient", figure_cells(table, "clinical"), _about(table, "clinical")),
        ("Attributions like the teacher's", figure_cells(table, "explanation"), _about(table, "explanation")),
        (f"Answers changed from {table.against}", churn_cells(table, details), "Shares of examples; for information."),
        (COSTS, cost_cells(table), f"{noted}{MEANS} {COST_ABOUT}"),
        ("Groups that are served worst and best (for information)", fairness_cells(table, details), FAIRNESS),
        ("Slices that lose although the mean wins (for information)", slice_cells(table, details), "Not corrected."),
    ]


def quality_cells(table: Table) -> Cells:
    """Return header and rows: quality with its interval, the difference to the control, its verdict, fidelity."""
    shown = _measured(table, "quality")
    arrow = "↑" if table.higher_is_better else "↓"
    header = ["arm", "verdict", "seeds", f"{table.split} {table.metric} {arrow} [95 %]", "difference [95 % Holm]"]
    rows = [header + [figure.title for figure in shown]]
    for arm in table.arms:
        own = [arm.label, arm.verdict or MISSING, str(arm.quality.n), mean_cell(arm.quality, ".3f")]
        rows.append([*own, mean_cell(arm.difference), *_figures(arm, shown)])
    return rows


def figure_cells(table: Table, group: FigureGroup) -> Cells:
    """Return header and rows of a group of figures, for the trained arms that have any; those of cost for all."""
    shown = _measured(table, group)
    trained = [arm for arm in table.arms if arm.role != "trivial"]
    having = [arm for arm in trained if group == "cost" or any(one.key in arm.figures for one in shown)]
    return [["arm", *(figure.title for figure in shown)], *([arm.label, *_figures(arm, shown)] for arm in having)]


def cost_cells(table: Table) -> Cells:
    """Return header and rows: what a request costs, with the class of p95 and the devices that fit; then training."""
    header, *rows = figure_cells(table, "cost")
    arms = [arm for arm in table.arms if arm.role != "trivial"]
    keys = ["arm", *(figure.key for figure in _measured(table, "cost"))]
    words = []
    if any(arm.devices for arm in arms):
        training = next((place for place, key in enumerate(keys) if key.startswith("cost/")), len(keys))
        words.append((training, "fits", fitting))
    if P95 in keys:
        words.append((keys.index(P95) + 1, "feasibility", _feasibility))
    for place, heading, cell in words:  # from the last place to the first
        header.insert(place, heading)
        for row, arm in zip(rows, arms, strict=True):
            row.insert(place, cell(arm))
    return [header, *rows]


def _feasibility(arm: Arm) -> str:
    return f"{MARK * bool(arm.busy)}{feasibility(arm.figures[P95])}" if P95 in arm.figures else MISSING


def fitting(arm: Arm) -> str:
    """Name the devices that an arm's models fit, of those that they were judged for."""
    return ", ".join(name for name, fits in arm.devices.items() if fits) or ("none" if arm.devices else MISSING)


def _measured(table: Table, group: FigureGroup) -> list[Figure]:
    """Return the figures of a group that an arm has; the others get no column."""
    known = COST if group == "cost" else table.figures
    return [one for one in known if one.group == group and any(one.key in arm.figures for arm in table.arms)]


def _about(table: Table, group: FigureGroup) -> str:
    """Say what a reader must know of a group's figures."""
    said = dict.fromkeys(figure.about for figure in _measured(table, group) if figure.about)
    return "".join(f"{about[0].upper()}{about[1:]}. " for about in said) + MEANS


def churn_cells(table: Table, details: Details) -> Cells:
    """Return header and rows: shares of test examples that an arm answers otherwise than what it is compared with."""
    names = next(iter(details.churn.values()), {})
    having = [(arm.label, details.churn[arm.key]) for arm in table.arms if arm.key in details.churn]
    return [["arm", *names], *([label, *(f"{shares[name]:.1%}" for name in names)] for label, shares in having)]


def slice_cells(table: Table, details: Details) -> Cells:
    """Return header and rows: the worst slices of each arm whose mean is better than what it is compared with."""
    rows = [["arm", "slice", "examples", "arm's", "against", "difference [95 %]"]]
    sign = 1 if table.higher_is_better else -1
    for arm in table.arms:
        if arm.difference and sign * arm.difference.mean > 0:
            losing = [one for one in details.slices.get(arm.key, ()) if sign * one.difference.mean < 0]
            for one in losing[:WORST]:
                sides = [f"{mean:.3f}" for mean in (one.arm, one.against)]
                name = f"{one.column} {one.value}"
                rows.append([arm.label, name, str(one.examples), *sides, mean_cell(one.difference)])
    return rows


def fairness_cells(table: Table, details: Details) -> Cells:
    """Return header and rows: for each arm and column the worst and the best group, and their ratio."""
    rows = [["arm", "column", "worst group", f"its {table.metric}", "best group", f"its {table.metric} ", "ratio"]]
    for arm in table.arms:
        for one in details.fairness.get(arm.key, ()):
            ratio = MISSING if one.ratio is None else f"{one.ratio:.2f}"
            sides = (one.worst, f"{one.worst_value:.3f}", one.best, f"{one.best_value:.3f}")
            rows.append([arm.label, one.column, *sides, ratio])
    return rows


def in_terminal(table: Table, details: Details, brief: bool = False) -> list[str | RichTable]:
    """Lay a comparison out for the terminal: tables, the title above the first, and lines before some of them.

    Such a line is not put into the table's title: a title is wrapped at the width of the table, which would break a
    command in it that the user is to copy. The `brief` form has quality and cost alone.
    """
    (_, first, _), *others = titled_tables(table, details)
    noted = {COSTS: [note] if (note := busy_note(table)) else []}
    shown = [(heading, rows) for heading, rows, _ in others if heading == COSTS or not brief]
    return [
        part
        for heading, rows in [(title(table), first), *shown]
        if len(rows) > 1
        for part in (*noted.get(heading, ()), *rich_tables(heading, rows))
    ]


def rich_tables(heading: str, rows: Cells) -> list[RichTable]:
    """Lay out header and rows for the terminal, numbers to the right; what finds no room begins another table."""
    numbers = {position for position in range(len(rows[0])) if _numbers(rows, position)}
    found: list[RichTable] = []
    for widths in _side_by_side(rows, numbers):
        title = None if found else f"\n{harmless(heading)}"
        one = RichTable(
            title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0)
        )
        for position, width in widths.items():
            one.add_column(
                rows[0][position].replace(" %]", "\N{NO-BREAK SPACE}%]"),
                justify="right" if position in numbers else "left",
                width=width,
                overflow="fold",
            )
        for row in rows[1:]:
            one.add_row(*(row[position] for position in widths))
        found.append(one)
    return found


def _side_by_side(rows: Cells, numbers: Container[int]) -> list[dict[int, int]]:
    """Return the columns of each table that fits into the terminal, with their widths; the first column is in all.

    Cells of words and headers are wrapped, numbers are not.
    """
    longest = [max(map(len, column)) for column in zip(*rows[1:], strict=True)] or [0] * len(rows[0])
    words = [min(BROKEN, max(map(len, " ".join(column).split()), default=0)) for column in zip(*rows, strict=True)]
    least = [
        max(longest[position], *map(len, name.split()), 0)
        if position in numbers
        else max(words[position], min(longest[position], WRAPPED if position else NAME))
        for position, name in enumerate(rows[0])
    ]
    parts: list[dict[int, int]] = [{0: least[0]}]
    for position, width in enumerate(least[1:], 1):
        if len(parts[-1]) > 1 and sum(parts[-1].values()) + width + GAP * len(parts[-1]) > console.width:
            parts.append({0: least[0]})
        parts[-1][position] = width
    for part in parts:
        room = console.width - sum(part.values()) - GAP * (len(part) - 1)
        for position in [one for one in part if one not in numbers]:
            wider = min(max(longest[position] - part[position], 0), max(room, 0))
            part[position], room = part[position] + wider, room - wider
    return parts


def markdown(table: Table, details: Details) -> str:
    """Write a comparison as Markdown: title, answer, tables, caption."""
    lines = [f"### {in_markdown(title(table))}", "", *(f"{in_markdown(line)}\n" for line in answer(table).splitlines())]
    for heading, rows, _ in titled_tables(table, details):
        lines += [in_markdown(busy_note(table)), ""] if heading == COSTS and busy_note(table) else []
        lines += markdown_table(rows)
    return "\n".join([*lines, in_markdown(caption(table)), ""])


def markdown_section(section: Section) -> str:
    """Write a section as Markdown."""
    lines = [f"### {in_markdown(section.heading)}", "", *(f"{in_markdown(line)}\n" for line in section.lines)]
    for heading, rows, about in section.tables:
        lines += [f"**{heading}.** {in_cell(about)}", "", *markdown_table(rows)]
    return "\n".join(lines)


def markdown_table(rows: Cells) -> list[str]:
    """Return the lines of a Markdown table and an empty one, numbers to the right; none where there is but a header."""
    if not rows[1:]:
        return []
    rule = ["--:" if _numbers(rows, position) else ":--" for position in range(len(rows[0]))]
    lines = ([*map(in_cell, rows[0])], rule, *([*map(in_cell, row)] for row in rows[1:]))
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]


def _numbers(rows: Cells, position: int) -> bool:
    """Return whether a column contains figures; the first one names its row."""
    cells = [row[position] for row in rows[1:] if row[position] != MISSING]
    return position > 0 and bool(cells) and all(cell.lstrip(f"<+- {MARK}")[:1].isdecimal() for cell in cells)


def _figures(arm: Arm, shown: list[Figure]) -> list[str]:
    marks = {figure.key: MARK if arm.busy and is_timed(figure.key) else "" for figure in shown}
    cells = {figure.key: figure.write(arm.figures[figure.key]) for figure in shown if figure.key in arm.figures}
    return [f"{marks[figure.key]}{cells[figure.key]}" if figure.key in cells else MISSING for figure in shown]


def busy_note(table: Table) -> str:
    """Say what is marked as measured on a busy machine, and how to measure it again; empty where nothing is."""
    return explained(model for arm in table.arms for model in arm.busy)


def title(table: Table) -> str:
    """Name a table's task and rows."""
    rows = "test set" if table.split == "test" else "validation set"
    return f"{table.task.replace('_', ' ')} on {table.dataset} ({rows} {table.digest[:8]})"


def caption(table: Table) -> str:
    """Say what intervals and differences are, and how often the test set was scored."""
    scored = table.times_scored
    over_examples = any(arm.difference and arm.difference.examples for arm in table.arms)
    return (
        f"Means over seeds with 95 % t intervals; differences are from {table.against}, paired by seed"
        + ", over seeds and test examples" * over_examples
        + "; their intervals and verdicts are Holm-corrected to 95 % over the table, so that one contains 0 unless "
        "something is claimed."
        + " Intervals are cut where the metric ends." * (table.bounds != UNBOUNDED)
        + (f" {scored} runs have scored this test set." if scored is not None else "")
    )


def answer(table: Table) -> str:
    """Say what speaks against the models, then what `verdicts` says, a sentence a line."""
    return "\n".join([*(doubt.sentence for doubt in table.doubts), verdicts(table)])


def verdicts(table: Table) -> str:
    """Answer "did distillation help?", or how it does against the baseline, in a plain sentence an arm."""
    distilled = [arm for arm in table.arms if arm.role == "distilled" and arm.label != table.against]
    if not distilled:
        return "There is no distilled student to judge among these runs."
    return "\n".join(f"{arm.label}: {_answer(table, arm)}.{_kept(table, arm)}" for arm in distilled)


def _kept(table: Table, arm: Arm) -> str:
    """Say how an arm's quality, size and speed compare with its teacher's; empty where that is not in the table."""
    guide = next((one for one in table.arms if one.key == arm.guide), None)
    if guide is None or min(arm.quality.mean, guide.quality.mean) <= 0:
        return ""
    quality, metric = arm.quality.mean / guide.quality.mean, f"its teacher's {table.split} {table.metric}"
    said = f"keeps {100 * quality:.0f} % of {metric}" if table.higher_is_better else f"has {quality:.2f} times {metric}"
    ratios = {
        key: arm.figures[key] / guide.figures[key]
        for key in (SIZE, P50)
        if key in arm.figures and guide.figures.get(key)
    }
    mark = MARK if arm.busy or guide.busy else ""
    cost = [f"{100 * ratios[SIZE]:.0f} % of its size"] if SIZE in ratios else []
    cost += [f"{mark}{1 / ratios[P50]:.1f} times its speed"] if ratios.get(P50) else []
    return f" It {said}" + (" at " if cost else "") + " and ".join(cost) + "."


def _answer(table: Table, arm: Arm) -> str:
    if (gap := arm.difference) is None:
        return f"cannot be said: {table.against}, trained on the same seed, is not among these runs"
    interval = f", 95 % interval after Holm {gap.low:+.3f} to {gap.high:+.3f}" if gap.low is not None else ""
    seeds = f"{gap.n} seed" + "s" * (gap.n != 1)
    figure = f"{table.split} {table.metric} {gap.mean:+.3f} against {table.against}{interval}, {seeds}"
    if arm.verdict not in ANSWERS:
        return f"too few seeds to say: {figure}; a claim needs at least three"
    of_distillation, of_arm = ANSWERS[arm.verdict]
    unseen = f"; a true difference under {arm.detectable:.3f} could go unseen" if arm.detectable else ""
    return f"{of_distillation if table.against in (SAME_STUDENT, TUNED) else of_arm}: {figure}{unseen}"


def mean_cell(found: Interval | PairedDifference | None, form: str = "+.3f") -> str:
    """Write a mean with its interval, where there are such; `form` is as in `format`."""
    if found is None:
        return MISSING
    return f"{found.mean:{form}}" + (f" [{found.low:{form}}, {found.high:{form}}]" if found.low is not None else "")


def p_cell(value: float | None) -> str:
    """Write a p value; one that is tiny is no zero."""
    return MISSING if value is None else f"{value:.3f}" if value >= 0.001 else "< 0.001"
