"""Train, validation and test: which names mean which, how missing ones are cut from train, and seeded subsets.

Nothing here knows what the columns mean.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, product

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from datasets import Dataset, DatasetDict
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedShuffleSplit

from kd.base.console import several, shown
from kd.base.types import STANDARD_COLUMNS, SplitName, UserError
from kd.data.columns import names_of
from kd.data.digests import row_keys

SPLIT_ALIASES: dict[str, SplitName] = {
    "train": "train",
    **dict.fromkeys(("validation", "dev", "valid", "val", "eval"), "validation"),
    "test": "test",
}
CUT_SHARE = 0.1
"""Share of the train source's rows that one cut takes."""
MIN_ROWS = 10
"""Fewest distinct rows that are cut; also the fewest members of a class that is kept in proportion."""
DRAWS = 30
"""Random cuts tried; the one nearest to the wanted size and class proportions is taken."""

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """Rows as they were read, before anything is cut."""

    name: str
    """File name or split name; the first part of every `example_id`."""
    rows: Dataset
    """The columns that are asked for and are there."""
    names: tuple[str, ...]
    """All columns that are there, also those that were not read."""
    notes: tuple[str, ...] = ()


def named_splits(data: DatasetDict, columns: Collection[str]) -> tuple[dict[SplitName, Source], list[str]]:
    """Pick train, validation and test by split name; notes say which splits are left out, and which go by another name.

    An exact name or alias wins; else the first split whose name starts with one (`validation_matched`).
    """
    found: dict[SplitName, Source] = {}
    for fits in (str.__eq__, str.startswith):
        for name, (alias, split) in product(map(str, data), SPLIT_ALIASES.items()):
            if split not in found and fits(name.lower(), alias):
                names = data[name].column_names
                found[split] = Source(name, data[name].select_columns([n for n in names if n in columns]), tuple(names))
    used = {source.name for source in found.values()}
    notes = [f"Split {name!r} was left out." for name in data if str(name) not in used]
    notes += [f"Split {s.name!r} is used as {split}." for split, s in found.items() if s.name != split]
    return found, notes


def identified(source: Source, group: str) -> Dataset:
    """Return the rows with `example_id` (`<source name>:<row from 0>`) and `group` (the column's value, or the id)."""
    ids = pa.array([f"{source.name}:{row}" for row in range(source.rows.num_rows)])
    groups = pa.array([str(value) for value in source.rows[group][:]]) if group else ids  # of a kind that `plain` lets
    rows = source.rows.remove_columns([name for name in STANDARD_COLUMNS if name in source.rows.column_names])
    return rows.add_column("example_id", ids).add_column("group", groups)


def refuse_shared_groups(splits: dict[SplitName, Dataset], group: str) -> None:
    """Raise UserError where a group value is in two of the splits; it names up to three that are."""
    for first, second in combinations(splits, 2):
        shared = sorted(set(splits[first]["group"][:]) & set(splits[second]["group"][:]))
        if shared:
            raise UserError(
                f"group_column={group!r}: {len(shared)} of its values are in both {first} and {second} "
                f"(e.g. {', '.join(map(repr, shared[:3]))}), so a score would not show how the model does on new "
                "groups: give files that share none, or train rows alone, which are then cut by group"
            )


def leaks(splits: dict[SplitName, Dataset], official: Sequence[SplitName], inputs: Sequence[str]) -> list[str]:
    """Return a note for each official split that has rows with exactly the inputs of a train row."""
    keys = {split: list(row_keys(splits[split], inputs)) for split in official}
    shared = set(chain(*keys.values())).intersection(row_keys(splits["train"], inputs) if official else ())
    counts = {split: sum(key in shared for key in keys[split]) for split in official}
    said = "have exactly the inputs of a train row, which flatters the score."
    return [f"{count} of {len(keys[split])} rows of {split} {said}" for split, count in counts.items() if count]


def cut(
    rows: Dataset, parts: Sequence[SplitName], inputs: Sequence[str], target: str, classes: bool, seed: int
) -> tuple[dict[SplitName, Dataset], list[str]]:
    """Cut `parts` from rows, 10 % each; the rest is train. Rows keep their order.

    Rows that share a group or exact inputs, directly or through others, form one unit and never part. Of `DRAWS` seeded
    stratified draws of a tenth of the units, the one nearest to a tenth of each class's rows is taken.

    Args:
        rows: Rows with `example_id` and `group`.
        parts: Splits to cut, in this order; not empty.
        inputs: Columns; rows that are equal in them stay together.
        target: Column whose values are kept in proportion, where each is frequent enough; "" for none.
        classes: Whether train must have each of these values: those that a draw would leave without a row there, and
            those that are as rare, stay in train.
        seed: Fixes the draws.

    Returns:
        The splits, and a note on what is too rare to be cut.

    Raises:
        UserError: Too few distinct rows, or too few groups.
    """
    units, codes = _independent_units(rows, inputs), _classes(rows, target)
    grouped = rows["group"][:] != rows["example_id"][:]
    needed = len(parts) + 1 if grouped else MIN_ROWS
    cuttable, rare = np.arange(rows.num_rows), np.arange(0)
    while True:
        if (count := len(np.unique(units[cuttable]))) < needed:
            raise UserError(_too_few(rows.num_rows, count, needed, grouped, target if len(rare) else ""))
        taken = _taken(units, codes, cuttable, len(parts), seed)
        left = np.setdiff1d(np.arange(rows.num_rows), np.concatenate(taken))
        lost = np.setdiff1d(codes, codes[left]) if classes else np.arange(0)
        if not len(lost):
            break
        spread = pd.Series(units).groupby(codes).nunique()  # units of each class
        rare = np.flatnonzero(np.isin(codes, spread.index[spread <= spread[lost].max()]))
        cuttable = np.flatnonzero(~np.isin(units, units[rare]))
    chosen = {part: rows.select(places) for part, places in zip(parts, taken, strict=True)}
    values = sorted({shown(name) for name in names_of(rows.select(rare), target)}) if len(rare) else []
    note = (
        f"Values of {target!r} that are too rare to be cut stay in train alone ({len(values)}): {several(values, 5)}."
    )
    return {**chosen, "train": rows.select(left)}, [note] if len(rare) else []


def _too_few(rows: int, count: int, needed: int, grouped: bool, rare: str) -> str:
    """Say why rows cannot be cut; `rare` is the column whose rarest values are left out, if any are."""
    what = "groups that share no inputs" if grouped else "rows with distinct inputs"
    kept = f" beside those of the rarest values of {rare!r}, which must stay in train" if rare else ""
    instead = ", or another column" if rare else ""
    return (
        f"--dataset: the train rows ({rows}) contain {count} {what}{kept}, and cutting needs at least {needed}: give "
        f"more rows, or the missing splits as files (--validation_file, --test_file){instead}"
    )


def _taken(units: Indices, codes: Indices, cuttable: Indices, parts: int, seed: int) -> list[Indices]:
    """Return the positions of each part's rows, none of which is in two."""
    strata = _pool_rare(codes[cuttable])
    size = max(1, round(CUT_SHARE * len(np.unique(units[cuttable]))))
    found: list[Indices] = []
    for step in range(parts):
        left = np.flatnonzero(~np.isin(cuttable, np.concatenate(found))) if found else np.arange(len(cuttable))
        aim = CUT_SHARE * len(cuttable) / len(left)
        places = left[_draw(units[cuttable][left], strata[left], size, aim, seed + step)]
        found.append(cuttable[places])
    return found


def _independent_units(rows: Dataset, inputs: Sequence[str]) -> Indices:
    """Number, from 0 without gaps, the units of rows that share a group or exact inputs, also through other rows."""
    groups = _codes(rows["group"][:])
    keys = _codes(list(row_keys(rows, inputs))) + groups.max(initial=-1) + 1
    nodes = int(keys.max(initial=-1)) + 1
    graph = coo_matrix((np.ones(len(groups)), (groups, keys)), shape=(nodes, nodes))
    units: Indices = connected_components(graph, directed=False)[1][groups].astype(np.int64)
    return units


def _classes(rows: Dataset, column: str) -> Indices:
    """Number the values of a column; all rows are of one class where it is ""."""
    return _codes(list(row_keys(rows, [column]))) if column else np.zeros(rows.num_rows, dtype=np.int64)


def _codes(values: Sequence[str]) -> Indices:
    """Number equal values alike, from 0 without gaps, by first appearance."""
    # an object array: numpy's own text arrays give every row the room of the longest
    codes: Indices = pd.factorize(np.array(values, dtype=object))[0].astype(np.int64)
    return codes


def _pool_rare(codes: Indices) -> Indices:
    """Count a class too small for proportions as the most frequent one, so that a long tail does not end them all."""
    counts = np.bincount(codes)
    return np.where(counts[codes] < MIN_ROWS, counts.argmax(), codes)


def _draw(units: Indices, classes: Indices, size: int, share: float, seed: int) -> Indices:
    """Return positions of the rows of `size` units, of all draws those nearest to `share` of each class's rows."""
    _, first, units = np.unique(units, return_index=True, return_inverse=True)
    counts = coo_matrix((np.ones(len(units)), (units, classes))).tocsr()
    wanted = np.bincount(classes) * share
    strata = _pool_rare(classes[first])
    draws = StratifiedShuffleSplit(DRAWS, test_size=size, random_state=seed % 2**32)
    drawn = [chosen for _, chosen in draws.split(strata, strata)]
    misses = [float(np.abs(np.asarray(counts[chosen].sum(axis=0)).ravel() - wanted).sum()) for chosen in drawn]
    return np.flatnonzero(np.isin(units, drawn[int(np.argmin(misses))]))


def subset(rows: Dataset, size: int, seed: int, balance: str) -> Dataset:
    """Return `size` rows, drawn with a seed, as evenly over the values of a column as their frequencies allow.

    A smaller subset of the same seed is contained in a larger one. Rows keep their order; from `len(rows)` on all are
    returned. Without `balance`, a column, the draw is plain.

    Raises:
        UserError: `size` is under 1.
    """
    if size < 1:
        raise UserError(f"subset size {size}: must be at least 1")
    if size >= rows.num_rows:
        return rows
    codes = _classes(rows, balance)
    rng = np.random.default_rng(seed)
    order = rng.permutation(rows.num_rows)
    turn = rng.permutation(codes.max() + 1)  # which classes get one row more where the size does not divide evenly
    drawn = codes[order]
    rank = pd.Series(drawn).groupby(drawn).cumcount()
    return rows.select(np.sort(order[np.lexsort((turn[drawn], rank))[:size]]))
