"""Names written beside the points of a picture, so that none covers another."""

import itertools
import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.path import Path
from matplotlib.transforms import Bbox

WIDTH = 34
"""Letters a line."""
GAP = 9.0
"""Pixels from a point to its name."""
SIZE = 8.5
"""Points; a pixel is a point here."""
SPACING = 1.1
"""From line to line, in heights of a line."""


@dataclass(frozen=True)
class Point:
    """A place in data coordinates, and its name."""

    x: float
    y: float
    name: str


def wrapped(text: str, width: int) -> str:
    """Break a name into lines of at most `width` letters, at its middle dots where it can be."""
    lines: list[str] = []
    for part in " ".join(text.split()).split(" · "):
        if lines and len(lines[-1]) + 3 + len(part) <= width:
            lines[-1] += f" · {part}"
        else:
            lines += textwrap.wrap(part, width, break_on_hyphens=False) or [""]
    return "\n".join(lines)


def label_points(axes: Axes, points: Sequence[Point], others: Sequence[Point], lines: Sequence[Path]) -> int:
    """Write each point's name at the best free place inside the axes, with a thin line where it is not beside it.

    Freezes the layout, so call it last.

    Args:
        axes: of a figure of 72 dots an inch, limits set.
        points: the most important first.
        others: points without a name that are not to be covered.
        lines: in data coordinates, better not written on.

    Returns:
        How many of `points` found no free place and have no name.
    """
    figure = axes.get_figure(root=True)
    if figure is None:
        raise ValueError("the axes belong to no figure")
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    inside = axes.get_window_extent(renderer)
    dots = [_dot(axes, point) for point in (*points, *others)]
    drawn = [line.transformed(axes.transData) for line in lines]
    names: list[Bbox] = []
    for point in points:
        text = axes.text(0, 0, wrapped(point.name, WIDTH), fontsize=SIZE, linespacing=SPACING)
        size = text.get_window_extent(renderer)
        text.remove()
        own = _dot(axes, point)
        found = [place for place in _places(own, size) if _holds(inside, place.box)]
        free = [place for place in found if not any(place.box.overlaps(taken) for taken in (*dots, *names))]
        free = [place for place in free if not any(place.crosses(taken) for taken in names)]
        if free:
            # to write on a line is as bad as to go 40 pixels away, and so is a leader that passes over another point
            best = min(free, key=lambda place: place.away + 40 * place.hits(drawn, [dot for dot in dots if dot != own]))
            names.append(best.box.padded(2, 3))
            _write(axes, point, best)
    return len(points) - len(names)


@dataclass(frozen=True)
class _Place:
    """Where a name could stand: right (1) or left (-1) of its point, `away` pixels from it."""

    box: Bbox
    side: int
    away: float
    at: tuple[float, float]

    @property
    def end(self) -> tuple[float, float]:
        """Where the line from the point meets the name."""
        return self.box.x0 if self.side > 0 else self.box.x1, (self.box.y0 + self.box.y1) / 2

    def crosses(self, box: Bbox) -> bool:
        """Say whether the line from the point to the name goes through a box."""
        return bool(Path([self.at, self.end]).intersects_bbox(box, filled=False))

    def hits(self, lines: Sequence[Path], dots: Sequence[Bbox]) -> int:
        """Count the lines under the name, and the points under its leader."""
        under = sum(line.intersects_bbox(self.box, filled=False) for line in lines)
        return under + sum(map(self.crosses, dots))


def _dot(axes: Axes, point: Point) -> Bbox:
    x, y = axes.transData.transform((point.x, point.y))
    return Bbox.from_bounds(x - 6, y - 6, 12, 12)


def _holds(outer: Bbox, inner: Bbox) -> bool:
    across = outer.x0 <= inner.x0 and inner.x1 <= outer.x1
    return bool(across and outer.y0 <= inner.y0 and inner.y1 <= outer.y1)


def _places(dot: Bbox, size: Bbox) -> Iterator[_Place]:
    x, y = (dot.x0 + dot.x1) / 2, (dot.y0 + dot.y1) / 2
    for far, step, side in itertools.product((GAP, 3 * GAP, 7 * GAP), range(-40, 41), (1, -1)):
        left = x + far if side > 0 else x - far - size.width
        rise = 6.0 * step
        box = Bbox.from_bounds(left, y + rise - size.height / 2, size.width, size.height)
        yield _Place(box, side, math.hypot(far, rise) + (side < 0), (x, y))


def _write(axes: Axes, point: Point, place: _Place) -> None:
    across, rise = place.end[0] - place.at[0], place.end[1] - place.at[1]
    right = place.side > 0
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
        wrapped(point.name, WIDTH),
        (point.x, point.y),
        xytext=(across, rise),
        textcoords="offset points",
        fontsize=SIZE,
        ha="left" if right else "right",
        va="center",
        linespacing=SPACING,
        arrowprops=None if abs(across) <= GAP + 1 and abs(rise) < 8 else leader,
    )
