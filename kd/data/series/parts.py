"""Which stretch of a patient's time is train, validation and test: in this order, with a window between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from kd.base.types import SplitName, UserError
from kd.data.series.grid import Grid
from kd.data.series.recording import PartName

SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Stretch:
    """Points of a grid that windows are cut from."""

    grid: Grid
    first: int
    last: int
    """One past the last point."""


def parts(grids: Sequence[Grid], shares: tuple[float, float, float], window: int) -> dict[SplitName, Stretch]:
    """Divide one patient's time.

    Where files say what is test (and validation), they are; the rest is cut in the order of time. One window's length
    is left out between two parts of one file.

    Args:
        grids: Of one patient, at most one a split.
        shares: Of train, validation and test.
        window: Points of a history and its horizon.

    Raises:
        UserError: files overlap in time, or there is none to train on.
    """
    there = {grid.split: grid for grid in grids}
    whole = there.get("train") or there.get("")
    if whole is None:
        raise UserError(
            f"patient {grids[0].item} has only a {grids[0].split} file ({grids[0].source}): give its training file "
            "too, or leave the patient out of patients="
        )
    _require_order(there)
    points = len(whole.values)
    found: dict[SplitName, Stretch] = {}
    for split in ("validation", "test"):
        if split in there:
            found[split] = Stretch(there[split], 0, len(there[split].values))
    wanted = {split: share for split, share in zip(SPLITS, shares, strict=True) if split not in found}
    sizes = list(wanted.values())
    edges = [round(points * sum(sizes[:number]) / sum(sizes)) for number in range(len(sizes) + 1)]
    for number, split in enumerate(wanted):
        found[split] = Stretch(whole, edges[number] + (window if number else 0), edges[number + 1])
    return found


def _require_order(there: Mapping[PartName, Grid]) -> None:
    order = [there[split] for split in ("", "train", "validation", "test") if split in there]
    for before, after in pairwise(order):
        if after.start <= before.start + before.step * (len(before.values) - 1):
            raise UserError(
                f"patient {after.item}: {after.source} ({after.split}) begins before {before.source} "
                f"({before.split or 'train'}) ends: give files that follow each other in time"
            )
