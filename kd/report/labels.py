"""Names written beside the points of a picture, so that none covers another."""

import itertools
import math
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.transforms import Bbox

WIDTH = 34
"""Letters a line."""
FONT: dict[str, Any] = {"fontsize": 8.5, "linespacing": 1.1}
GAP = 9.0
"""Pixels from a point to its name; a pixel is a point (1/72 inch) here."""
PLACES = tuple(itertools.product((GAP, -GAP, 3 * GAP, -3 * GAP, 7 * GAP, -7 * GAP), range(-240, 241, 6)))
"""Pixels right of a point and above it where its name may begin, or end where it is to the left."""
Point = tuple[float, float, str]
"""A place in data coordinates, and its name."""


def wrapped(text: str, width: int) -> str:
    """Break a name into lines of at most `width` letters, at its middle dots where it can be."""
    lines: list[str] = []
    for part in " ".join(text.split()).split(" · "):
        if lines and len(lines[-1]) + 3 + len(part) <= width:
            lines[-1] += f" · {part}"
        else:
            lines += textwrap.wrap(part, width, break_on_hyphens=False) or [""]
    return "\n".join(lines)


def label_points(figure: Figure, points: Sequence[Point], others: Sequence[Point], lines: Sequence[Path]) -> int:
    """Write each point's name at the best free place inside the axes, with a thin line where it is not beside it.

    Freezes the layout, so call it last.

    Args:
        figure: of 72 dots an inch, with one pair of axes whose limits are set.
        points: the most important first.
        others: points without a name that are not to be covered.
        lines: in data coordinates, better not written on.

    Returns:
        How many of `points` found no free place and have no name.
    """
    (axes,) = figure.axes
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    inside = axes.get_window_extent(renderer)
    centres = axes.transData.transform([(x, y) for x, y, _ in (*points, *others)])
    dots = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in centres]
    drawn = [line.transformed(axes.transData) for line in lines]
    names: list[Bbox] = []
    for (x, y, name), centre, dot in zip(points, centres, dots, strict=False):
        text = axes.text(0, 0, wrapped(name, WIDTH), **FONT)
        size = text.get_window_extent(renderer)
        text.remove()
        free = []
        for across, rise in PLACES:
            box, leader = _placed(centre, size, across, rise)
            taken = any(box.overlaps(other) for other in (*dots, *names)) or _crossed(leader, names)
            if not taken and inside.count_contains(box.corners()) == 4:
                # to write on a line is as bad as to go 40 pixels away, and so is a leader that crosses another point
                bad = sum(line.intersects_bbox(box, filled=False) for line in drawn)
                bad += _crossed(leader, [other for other in dots if other is not dot])
                free.append((math.hypot(across, rise) + (across < 0) + 40 * bad, across, rise, box))
        if free:
            _, across, rise, box = min(free, key=lambda place: place[0])
            names.append(box.padded(2, 3))
            _write(axes, (x, y), wrapped(name, WIDTH), (across, rise))
    return len(points) - len(names)


def _placed(centre: Sequence[float], size: Bbox, across: float, rise: float) -> tuple[Bbox, Path]:
    """Return the box of a name so far from its point, and the line from the point to it."""
    x, y = centre[0] + across, centre[1] + rise
    box = Bbox.from_bounds(x - size.width * (across < 0), y - size.height / 2, size.width, size.height)
    return box, Path([centre, (x, y)])


def _crossed(leader: Path, boxes: Sequence[Bbox]) -> int:
    return sum(leader.intersects_bbox(box, filled=False) for box in boxes)


def _write(axes: Axes, at: tuple[float, float], name: str, place: tuple[float, float]) -> None:
    across, rise = place
    right = across > 0
    leader = {
        "arrowstyle": "-",
        "linewidth": 0.6,
        "color": matplotlib.rcParams["text.color"],
        "alpha": 0.5,
        "relpos": (0.0 if right else 1.0, 0.5),
        "shrinkA": 1,
        "shrinkB": 5,
    }
    axes.annotate(
        name,
        at,
        xytext=place,
        textcoords="offset points",
        ha="left" if right else "right",
        va="center",
        arrowprops=None if abs(across) == GAP and abs(rise) < 8 else leader,
        **FONT,
    )
