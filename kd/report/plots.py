"""A comparison as pictures. An arm has one colour and one marker in all of them; a picture without data is absent."""

import io
import itertools
import re
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from kd.analysis.comparison import pareto_front
from kd.analysis.slices import Details
from kd.analysis.statistics import Interval, PairedDifference
from kd.analysis.table import Arm, Table
from kd.base.busy import MARK, is_timed
from kd.base.judge import Picture
from kd.report.tables import title

Dash = Literal["-", "--", ":", "-."]
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Distinct with every kind of colour blindness (Okabe and Ito 2008), and seen on white as on black."""
GREY = "#8A8F98"
INK = "#1f2429"
"""Text, axes and rules; a page may put its own text colour in its place."""
MARKERS = {"o": "●", "s": "■", "D": "◆", "^": "▲", "v": "▼", "P": "✚"}
"""Each with the letter that a page shows for it."""
DASHES: tuple[Dash, ...] = ("-", "--", ":", "-.")
GROUND = 'style="background: white"'
"""Of a picture by itself; a page takes it away."""
MOST_SLICES = 25
PNG_DPI = 160
BARE = dict.fromkeys(("Date", "Creator", "Format", "Type"))
"""No metadata in an SVG: the same figure gives the same bytes."""
STYLE: dict[Any, Any] = {
    "text.parse_math": False,  # names are the user's, and a $ in one of them is a $
    "font.size": 9.0,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    **{f"{part}color": INK for part in ("text.", "axes.edge", "axes.label", "axes.title", "xtick.", "ytick.")},
    "svg.fonttype": "path",
}


def wrapped(text: str, width: int) -> str:
    """Break a name into lines of at most `width` letters, at its middle dots where it can be."""
    lines: list[str] = []
    for part in " ".join(text.split()).split(" · "):
        if lines and len(lines[-1]) + 3 + len(part) <= width:
            lines[-1] += f" · {part}"
        else:
            lines += textwrap.wrap(part, width, break_on_hyphens=False) or [""]
    return "\n".join(lines)


@dataclass(frozen=True)
class Look:
    """How an arm is drawn."""

    colour: str
    marker: str
    dash: Dash


def looks(table: Table) -> dict[str, Look]:
    """Return how each arm is drawn, by its key: one look an arm, colours first used up, then markers and dashes."""
    trained = [arm.key for arm in table.arms if arm.role != "trivial"]
    trivial = [arm.key for arm in table.arms if arm.role == "trivial"]
    dashes = zip(MARKERS, itertools.cycle(DASHES), strict=False)
    ways = [Look(colour, marker, dash) for marker, dash in dashes for colour in PALETTE]
    greys = [Look(GREY, marker, "-") for marker in reversed(MARKERS)]
    return {**dict(zip(trained, itertools.cycle(ways), strict=False)), **dict(zip(trivial, itertools.cycle(greys)))}


def plots(table: Table, details: Details) -> dict[str, Figure]:
    """Draw what there is to draw, by name: gain, quality_latency, quality_size, attribution, curves, slices.

    Behind them are the task's own.
    """
    with _style():
        drawn = {
            "gain": _gain(table),
            "quality_latency": _quality_cost(table, "profile/latency_ms_p50", "p50 latency of a request in ms"),
            "quality_size": _quality_cost(table, "model/size_mib", "size on disk in MiB"),
            "attribution": _attribution(table),
            "curves": _curves(table, details),
            "slices": _slices(table, details),
            **{picture.name: _of_task(picture, table, details) for picture in table.pictures},
        }
        found = {name: figure for name, figure in drawn.items() if figure is not None}
        for figure in found.values():
            _lay_out(figure)
    return found


def _lay_out(figure: Figure) -> None:
    """Place everything, once, so that PNG and SVG are alike."""
    if engine := figure.get_layout_engine():
        engine.execute(figure)
    figure.set_layout_engine("none")
    for axes in figure.axes:
        axes.set_facecolor("none")


def as_png(figure: Figure) -> bytes:
    """Return a figure as PNG on white."""
    figure.set_facecolor("white")
    out, dpi = io.BytesIO(), figure.dpi
    with _style():
        figure.dpi = PNG_DPI
        FigureCanvasAgg(figure).print_png(out)  # type: ignore[no-untyped-call]  # `savefig` draws twice
        figure.dpi = dpi
    return out.getvalue()


def as_svg(figure: Figure, name: str) -> str:
    """Return a figure as SVG. The same figure gives the same bytes; its ids begin with `name`."""
    figure.set_facecolor("none")
    with _style(), matplotlib.rc_context({"svg.hashsalt": name}):
        out = io.StringIO()
        FigureCanvasSVG(figure).print_svg(out, metadata=BARE)  # type: ignore[no-untyped-call]
    own = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", out.getvalue())
    return own.replace("<svg ", f"<svg {GROUND} ", 1)


@contextmanager
def _style() -> Iterator[None]:
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box is drawn for a letter that the fonts lack
        yield


def _sheet(size: tuple[float, float], heading: str, table: Table, note: str = "") -> tuple[Figure, Axes]:
    """Return a figure of so many inches, which names its table; a point is a pixel, so that texts can be measured."""
    figure = Figure(figsize=size, dpi=72, layout="constrained")
    letters = int(12 * size[0])
    figure.suptitle(wrapped(heading, letters), x=0.01, ha="left", fontsize=10, fontweight="bold")
    said = "\n".join(wrapped(text, int(1.1 * letters)) for text in (note, title(table)) if text)
    figure.supxlabel(said, x=0.01, ha="left", fontsize=8, alpha=0.75)
    return figure, figure.add_subplot()


def _keyed(split: str, against: str, table: Table, arms: Sequence[Arm], lines: bool) -> tuple[Figure, Axes]:
    """Return a sheet for the metric, arms named below the axes, each beside its mark and, where there are, its line."""
    names, look = [wrapped(arm.label, 46) for arm in arms], looks(table)
    columns = min(len(arms), 2)
    size = 7.2, 4.3 + sum(0.06 + 0.145 * _height(name) for name in names) / columns
    figure, axes = _sheet(size, f"{split} {table.metric} {against}", table)
    keys = [
        Line2D([], [], color=way.colour, linestyle=way.dash if lines else "none", marker=way.marker, markersize=5)
        for way in (look[arm.key] for arm in arms)
    ]
    below = axes.transAxes + ScaledTranslation(-0.5, -0.5, figure.dpi_scale_trans)
    axes.legend(keys, names, loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=below, ncols=columns,
                frameon=False, fontsize=8.5, borderaxespad=0)  # fmt: skip
    axes.set_ylabel(f"{split} {table.metric} ({'higher' if table.higher_is_better else 'lower'} is better)")
    axes.grid(alpha=0.25, linewidth=0.6)
    return figure, axes


def _of_task(picture: Picture, table: Table, details: Details) -> Figure | None:
    """Draw predictions of one run an arm as the task does."""
    arms = [arm for arm in table.arms if arm.key in details.predictions]
    look, names = looks(table), {arm.key: wrapped(arm.label, 46) for arm in arms}
    figure, axes = _sheet(picture.size, picture.heading, table, "Of one run an arm, that of its first seed.")
    tables = {names[arm.key]: details.predictions[arm.key] for arm in arms}
    if not (tables and picture.draw(axes, tables, {names[arm.key]: look[arm.key].colour for arm in arms})):
        return None
    axes.grid(alpha=0.25, linewidth=0.6)
    if axes.get_legend_handles_labels()[1]:
        below = axes.transAxes + ScaledTranslation(-0.5, -0.5, figure.dpi_scale_trans)
        axes.legend(loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=below, ncols=2, frameon=False,
                    fontsize=8.5, borderaxespad=0)  # fmt: skip
    return figure


def _height(name: str) -> int:
    return 1 + name.count("\n")


def _range(ends: Iterable[float | None]) -> tuple[float, float]:
    known = [end for end in ends if end is not None]
    low, high = min(known), max(known)
    margin = 0.09 * (high - low) or 0.05 * abs(high) or 0.05
    return low - margin, high + margin


def _quality_cost(table: Table, cost: str, words: str) -> Figure | None:
    """Quality against a cost, with intervals and the Pareto front."""
    arms = [arm for arm in table.arms if cost in arm.figures]
    if not arms:
        return None
    if is_timed(cost) and any(arm.busy for arm in arms):
        words += f" ({MARK}: on a busy machine)"
        arms = [replace(arm, label=f"{MARK} {arm.label}") if arm.busy else arm for arm in arms]
    figure, axes = _keyed(table.split, f"against {words}", table, arms, lines=False)
    widest = 1.12 * max(arm.figures[cost] for arm in arms) or 1.0
    place = dict(zip((arm.key for arm in arms), _apart([arm.figures[cost] for arm in arms], widest), strict=True))
    look, front = looks(table), pareto_front(table, cost)
    for arm in arms:
        at, interval, way = place[arm.key], arm.quality, look[arm.key]
        if interval.low is not None and interval.high is not None:
            axes.plot([at, at], [interval.low, interval.high], color=way.colour, linewidth=1.6, alpha=0.5)
        above = 4 if arm in front or arm.role != "distilled" else 3
        axes.plot(at, interval.mean, way.marker, color=way.colour, markersize=8, markeredgecolor="white", zorder=above)
    if len(front) > 1:
        corners = [(place[arm.key], arm.quality.mean) for arm in front]
        dashes: Any = {"color": INK, "linewidth": 1, "linestyle": (0, (4, 3)), "alpha": 0.6, "zorder": 1}
        axes.step(*zip(*corners, strict=True), where="post", **dashes)
    axes.set_xlim(0, widest)
    axes.set_ylim(_range(end for arm in arms for end in (arm.quality.mean, *_ends(arm.quality))))
    axes.set_xlabel(f"{words} (lower is better)")
    hints = ["↖ better" if table.higher_is_better else "↙ better"]
    hints += ["dashes: Pareto front"] * (len(front) > 1)
    hints += ["bars: 95 % intervals"] * any(arm.quality.low is not None for arm in arms)
    axes.set_title(" · ".join(hints))
    return figure


def _apart(values: Sequence[float], widest: float) -> list[float]:
    """Move values that would cover one another a little apart, by at most 1 % of the axis."""
    moved, order = np.array(values), np.argsort(values, kind="stable")
    far = np.diff(moved[order]) >= 0.006 * widest
    for group in np.split(order, np.flatnonzero(far) + 1):
        spread = widest * min(0.006 * (len(group) - 1), 0.02)
        moved[group] = moved[group[[0, -1]]].mean() + np.linspace(-spread / 2, spread / 2, len(group))
    return list(map(float, moved))


def _ends(interval: Interval | PairedDifference) -> tuple[float | None, ...]:
    """Return the ends of an interval that the axes must show: one of two seeds would leave nothing else to see."""
    return (interval.low, interval.high) if interval.n > 2 else ()


def _forest(
    heading: str, table: Table, rows: Sequence[tuple[Arm, Interval | PairedDifference, str]], more: Iterable[float] = ()
) -> tuple[Figure, Axes]:
    """Draw an arm a row: its mean and interval, and words beside them; 0 and `more` are inside the axes."""
    names = [wrapped(arm.label, 34) for arm, _, _ in rows]
    figure, axes = _sheet((8.6, 1.5 + sum(0.14 + 0.15 * max(2, _height(name)) for name in names)), heading, table)
    look = looks(table)
    for place, (arm, found, words) in enumerate(rows):
        way = look[arm.key]
        if found.low is not None and found.high is not None:
            axes.plot([found.low, found.high], [place, place], color=way.colour, linewidth=2, solid_capstyle="butt")
        axes.plot(found.mean, place, way.marker, color=way.colour, markersize=8, markeredgecolor="white", zorder=3)
        axes.text(1.02, place, words, transform=axes.get_yaxis_transform(), va="center", linespacing=1.15)
    axes.set_xlim(_range([0.0, *more, *(end for _, found, _ in rows for end in (found.mean, *_ends(found)))]))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.axvline(0, color=INK, linewidth=1, zorder=0)
    axes.set_yticks(range(len(rows)), names)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.grid(axis="x", alpha=0.25, linewidth=0.6)
    return figure, axes


def _gain(table: Table) -> Figure | None:
    """Each arm's difference as a forest plot, its verdict beside it."""
    rows = [
        (arm, gap, f"{arm.verdict}\n{gap.mean:+.3f}, {gap.n} seed{'s' * (gap.n != 1)}")
        for arm in table.arms
        if (gap := arm.difference)
    ]
    if not rows:
        return None
    figure, axes = _forest(f"{table.split} {table.metric}: difference to {table.against}", table, rows)
    axes.set_xlabel("← worse · better →" if table.higher_is_better else "← better · worse →")
    if any(gap.low is not None for _, gap, _ in rows):
        axes.set_title("bars: 95 % intervals, Holm-corrected")
    return figure


def _attribution(table: Table) -> Figure | None:
    """How like the teacher's each arm's attributions are, and a random model's in grey."""
    key, floor = "fidelity/attribution_pearson", "fidelity/attribution_pearson_floor"
    found = [(arm, arm.figures[key]) for arm in table.arms if key in arm.figures]
    if not found:
        return None
    floors = {place: arm.figures[floor] for place, (arm, _) in enumerate(found) if floor in arm.figures}
    heading = "Attributions: correlation with the teacher's, for what the teacher predicts"
    rows = [(arm, Interval(value, None, None, 1), f"{value:.3f}") for arm, value in found]
    figure, axes = _forest(heading, table, rows, floors.values())
    for place, value in floors.items():
        axes.plot(value, place, "|", color=GREY, markersize=14, markeredgewidth=2)
    axes.set_xlabel("Pearson r, mean over examples (higher is better)")
    axes.set_title("grey: a model of random weights" * bool(floors))
    return figure


def _curves(table: Table, details: Details) -> Figure | None:
    """The validation metric by step: a colour an arm, a thin line a seed, a dot at the weights that were kept."""
    arms = [arm for arm in table.arms if details.curves.get(arm.key)]
    if not arms:
        return None
    figure, axes = _keyed("val", "by step", table, arms, lines=True)
    look = looks(table)
    for arm in arms:
        way = look[arm.key]
        for curve in details.curves[arm.key]:
            axes.plot(*zip(*curve, strict=True), color=way.colour, linestyle=way.dash, linewidth=1.1, alpha=0.85,
                      marker=way.marker, markevery=[-1], markersize=4)  # fmt: skip
    axes.set_xlabel("optimiser step")
    axes.set_title("a line a seed; the mark at its end is the checkpoint that was kept")
    return figure


def _slices(table: Table, details: Details) -> Figure | None:
    """Arm by slice: blue where the arm is better, red where it is worse, the slices with the greatest losses."""
    arms = [arm for arm in table.arms if details.slices.get(arm.key)]
    if not arms:
        return None
    cells = [(one.column, one.value, one.examples, arm.key, one.difference.mean)
             for arm in arms for one in details.slices[arm.key]]  # fmt: skip
    *name, key, gap = columns = ["column", "value", "examples", "arm", "gap"]
    gaps = pd.DataFrame(cells, columns=columns).pivot_table(gap, name, key, "first")[[arm.key for arm in arms]]
    losses = (gaps if table.higher_is_better else -gaps).min(axis=1).sort_values(kind="stable")
    shown = gaps.loc[losses.index[:MOST_SLICES]]
    rows = [wrapped(f"{column} {value} ({examples})", 44) for column, value, examples in shown.index]
    names = [wrapped(arm.label, 36) for arm in arms]
    upright = len(arms) > 3
    wide = max(0.6, 0.17 * max(map(_height, names))) if upright else 2.3
    letters = max(len(line) for name in names for line in name.split("\n"))
    tall = 0.25 * sum(map(_height, rows)) + (1.6 + 0.075 * letters if upright else 2.0)
    hidden = len(gaps) - len(shown)
    note = "In brackets: examples." + f" {hidden} slices with smaller losses are left out." * (hidden > 0)
    heading = f"{table.split} {table.metric} by slice: difference to {table.against}"
    figure, axes = _sheet((4.6 + wide * len(arms), tall), heading, table, note)
    _heat(axes, shown.to_numpy(), table)
    axes.set_yticks(range(len(rows)), rows, fontsize=8.5)
    axes.set_xticks(range(len(arms)), names, fontsize=8.5, rotation=90 if upright else 0)
    axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    return figure


def _heat(axes: Axes, values: np.ndarray, table: Table) -> None:
    most = float(np.nanmax(np.abs(values))) or 1.0
    colours = matplotlib.colormaps["RdBu" if table.higher_is_better else "RdBu_r"]
    image = axes.imshow(values, cmap=colours, vmin=-most, vmax=most, aspect="auto", interpolation="none")
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if abs(value) > 0.6 * most else "black"
        words, colour = ("–", INK) if np.isnan(value) else (f"{value:+.3f}", colour)
        said = axes.text(column, row, words, ha="center", va="center", fontsize=8, color=colour)
        said.set_in_layout(False)  # up to a thousand, all inside the axes
    bar = axes.figure.colorbar(image, ax=axes, location="right", shrink=0.6, aspect=25, pad=0.02)
    bar.set_label("blue: better, red: worse", fontsize=8.5)
    bar.outline.set_visible(False)
