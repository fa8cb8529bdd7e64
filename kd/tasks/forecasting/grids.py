"""Clinical error grids: which zone a forecast of glucose is in, from A (accurate) to E (harmful). All in mg/dL.

Clarke: Clarke, Cox, Gonder-Frederick, Carter and Pohl 1987, Evaluating clinical accuracy of systems for self-monitoring
of blood glucose, Diabetes Care 10:622-628, which has a figure and words but no formulas. Borders are those of its
figure as all known implementations read it; the upper C ends where the figure does, at a reference of 290.
Parkes: Parkes, Slatin, Pardo and Ginsberg 2000, A new consensus error grid, Diabetes Care 23:1143-1148, by the vertices
of type 1 diabetes in table 1 of Pfuetzner, Klonoff, Pardo and Parkes 2013, Technical aspects of the Parkes error grid,
Journal of Diabetes Science and Technology 7:1275-1281. Past the last vertex the last line of a border continues.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Zone = Literal["A", "B", "C", "D", "E"]
ZONES: tuple[Zone, ...] = ("A", "B", "C", "D", "E")
PARKES: dict[tuple[Literal["upper", "lower"], Zone], tuple[tuple[int, int], ...]] = {
    ("upper", "B"): ((0, 50), (30, 50), (140, 170), (280, 380), (430, 550)),
    ("lower", "B"): ((50, 0), (50, 30), (170, 145), (385, 300), (550, 450)),
    ("upper", "C"): ((0, 60), (30, 60), (50, 80), (70, 110), (260, 550)),
    ("lower", "C"): ((120, 0), (120, 30), (260, 130), (550, 250)),
    ("upper", "D"): ((0, 100), (25, 100), (50, 125), (80, 215), (125, 550)),
    ("lower", "D"): ((250, 0), (250, 40), (550, 150)),
    ("upper", "E"): ((0, 150), (35, 155), (50, 550)),
}
"""Where a zone begins above or below the diagonal: (reference, forecast). On a sloping line a pair is in the zone
before it, on an upright one in the zone itself."""
CLARKE: tuple[tuple[tuple[float, float], ...], ...] = (
    ((0, 70), (175 / 3, 70), (1000 / 3, 400)),
    ((70, 0), (70, 56), (400, 320)),
    ((70, 84), (70, 400)),
    ((0, 180), (70, 180), (290, 400)),
    ((130, 0), (180, 70), (400, 70)),
    ((180, 0), (180, 70)),
    ((240, 70), (240, 180), (400, 180)),
)
"""Lines of the grid, to be drawn."""


def clarke(reference: Array, forecast: Array) -> npt.NDArray[np.str_]:
    """Return the zone of each pair in Clarke's grid, the first that applies of A, E, C, D and B.

    A: within 20 % of the reference, 20 % included, or both below 70. E: low taken for high or the reverse (at most 70,
    at least 180). C: a forecast over 110 above a reference of 70 to 290, or one of at most 7/5 reference - 182 at 130
    to 180. D: 70 to 180 is forecast where the reference is at most 70, or at least 240. B: all else.

    Args:
        reference: `(n,)`, in mg/dL.
        forecast: `(n,)`, in mg/dL.

    Raises:
        ValueError: a number is not finite.
    """
    x, y = _checked(reference, forecast)
    within = 5 * np.abs(y - x) <= x  # whole numbers are exact so, and a fifth is not
    between = (y >= 70) & (y <= 180)
    rules: list[tuple[npt.NDArray[np.bool_], Zone]] = [
        (within | ((x < 70) & (y < 70)), "A"),
        (((x <= 70) & (y >= 180)) | ((x >= 180) & (y <= 70)), "E"),
        (((x >= 70) & (x <= 290) & (y > x + 110)) | ((x >= 130) & (x <= 180) & (y <= 7 * x / 5 - 182)), "C"),
        (((x <= 70) | (x >= 240)) & between, "D"),
    ]
    return np.select([where for where, _ in rules], [zone for _, zone in rules], "B")


def parkes(reference: Array, forecast: Array) -> npt.NDArray[np.str_]:
    """Return the zone of each pair in Parkes' grid of type 1 diabetes; its lower side has no E.

    Args:
        reference: `(n,)`, in mg/dL.
        forecast: `(n,)`, in mg/dL.

    Raises:
        ValueError: a number is not finite.
    """
    x, y = _checked(reference, forecast)
    zones = np.full(x.shape, "A")
    for (side, zone), vertices in PARKES.items():  # a worse zone lies within the better ones
        line = _line(x, vertices)
        zones[(y > line) if side == "upper" else (x >= vertices[0][0]) & (y < line)] = zone
    return zones


def shares(zones: npt.NDArray[np.str_]) -> dict[Zone, float]:
    """Return the share of the pairs, 0 to 1, that is in each zone, A to E."""
    return {zone: float((zones == zone).mean()) for zone in ZONES}


def _checked(reference: Array, forecast: Array) -> tuple[Array, Array]:
    x, y = (np.asarray(side, dtype=float) for side in (reference, forecast))
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("a reference or forecast is not finite, so that it is in no zone")
    return x, y


def _line(x: Array, vertices: tuple[tuple[int, int], ...]) -> Array:
    """Return the height of a border at x; of an upright part the upper end."""
    at, height = np.array(vertices[1:] if vertices[0][0] == vertices[1][0] else vertices, dtype=float).T
    slope = (height[-1] - height[-2]) / (at[-1] - at[-2])
    line: Array = np.where(x > at[-1], height[-1] + slope * (x - at[-1]), np.interp(x, at, height))
    return line
