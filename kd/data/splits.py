"""Train, validation and test: which names mean which, how missing ones are cut from train, and seeded subsets.

Nothing here knows what the columns mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedShuffleSplit

from kd.base.types import SplitName, UserError
from kd.data.digests import row_keys

SPLIT_ALIASES: dict[str, SplitName] = {
    "train": "train",
    "validation": "validation",
    "dev": "validation",
    "valid": "validation",
    "val": "validation",
    "eval": "validation",
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


def named_splits(data: DatasetDict) -> tuple[dict[SplitName, Source], list[str]]:
    """Pick train, validation and test by split name.

    An exact name or alias wins; else the first split whose name starts with one (`validation_matched`).

    Returns:
        What was found, and a note for each split left out.
    """
    found: dict[SplitName, Source] = {}
    for exact in (True, False):
        for name in data:
            split = _split_of(str(name), exact)
            if split is not None and split not in found:
                found[split] = Source(str(name), data[name])
    used = {source.name for source in found.values()}
    notes = [f"Split '{name}' was left out." for name in data if str(name) not in used]
    notes += [f"Split '{s.name}' is used as {split}." for split, s in found.items() if s.name != split]
    return found, notes


def _split_of(name: str, exact: bool) -> SplitName | None:
    if exact:
        return SPLIT_ALIASES.get(name.lower())
    return next((split for alias, split in SPLIT_ALIASES.items() if name.lower().startswith(alias)), None)


def identified(source: Source, group: str) -> Dataset:
    """Return the rows with `example_id` (`<source name>:<row from 0>`) and `group` (the column's value, or the id)."""
    numbers = pa.array(np.arange(source.rows.num_rows)).cast(pa.string())
    ids = pc.binary_join_element_wise(source.name, numbers, ":")
    groups = pa.array([str(value) for value in source.rows[group][:]], pa.string()) if group else ids
    replaced = [name for name in ("example_id", "group") if name in source.rows.column_names]
    rows = source.rows.remove_columns(replaced)
    return rows.add_column("example_id", ids).add_column("group", groups)


def refuse_shared_groups(splits: dict[SplitName, Dataset], group: str) -> None:
    """Check that no group value is in two of the splits.

    Raises:
        UserError: Naming how many are shared, and up to three of them.
    """
    names = list(splits)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            shared = sorted(set(splits[first]["group"][:]) & set(splits[second]["group"][:]))
            if shared:
                raise UserError(
                    f"group_column={group!r}: {len(shared)} of its values are in both {first} and {second} "
                    f"(e.g. {', '.join(map(repr, shared[:3]))}), so a score would not show how the model does on new "
                    "groups: give files that share none, or train rows alone, which are then cut by group"
                )


def crossing_duplicates(train: Dataset, other: Dataset, inputs: Sequence[str]) -> int:
    """Return how many rows of `other` have exactly the inputs of some row of `train`."""
    keys = list(row_keys(other, inputs))
    shared = set(keys).intersection(row_keys(train, inputs))
    return sum(key in shared for key in keys)


@dataclass(frozen=True)
class CutRequest:
    """How missing splits are cut."""

    inputs: tuple[str, ...]
    """Rows with equal inputs stay together."""
    target: str
    """Column whose values are kept in proportion, where each is frequent enough; "" for none."""
    grouped: bool
    """Whether the column `group` has a user's groups rather than row ids."""
    seed: int


def cut(rows: Dataset, parts: Sequence[SplitName], request: CutRequest) -> dict[SplitName, Dataset]:
    """Cut `parts` from rows, 10 % each; the rest is train.

    Rows that share a group or exact inputs, directly or through others, form one unit and never part. Of `DRAWS` seeded
    stratified draws of a tenth of the units, the one nearest to a tenth of each class's rows is taken.

    Args:
        rows: Rows with `example_id` and `group`.
        parts: Splits to cut, in this order; not empty.
        request: What stays together and what is kept in proportion.

    Returns:
        The parts and train; rows keep their order.

    Raises:
        UserError: Too few distinct rows, or too few groups.
    """
    units = independent_units(rows, request.inputs)
    _require_units(int(units.max(initial=-1)) + 1, rows.num_rows, len(parts), request.grouped)
    targets = list(row_keys(rows, [request.target])) if request.target else [""] * rows.num_rows
    classes = _pool_rare(_codes(targets))
    size = max(1, round(CUT_SHARE * (int(units.max()) + 1)))
    left = np.arange(rows.num_rows)
    result: dict[SplitName, Dataset] = {}
    for step, part in enumerate(parts):
        aim = CUT_SHARE * rows.num_rows / len(left)
        taken = left[_draw(units[left], classes[left], size, aim, request.seed + step)]
        left = np.setdiff1d(left, taken)
        result[part] = rows.select(taken)
    return {**result, "train": rows.select(left)}


def independent_units(rows: Dataset, inputs: Sequence[str]) -> Indices:
    """Number the units of rows that share a group or exact inputs, directly or through other rows.

    Returns:
        `(rows,)`, from 0 without gaps.
    """
    groups = _codes(rows["group"][:])
    keys = _codes(list(row_keys(rows, inputs))) + groups.max(initial=-1) + 1
    nodes = int(keys.max(initial=-1)) + 1
    graph = coo_matrix((np.ones(len(groups)), (groups, keys)), shape=(nodes, nodes))
    units: Indices = connected_components(graph, directed=False)[1][groups].astype(np.int64)
    return units


def _codes(values: Sequence[str]) -> Indices:
    """Number equal values alike, from 0 without gaps, by first appearance."""
    # an object array: numpy's own text arrays give every row the room of the longest
    codes: Indices = pd.factorize(np.array(values, dtype=object))[0].astype(np.int64)
    return codes


def _require_units(units: int, rows: int, parts: int, grouped: bool) -> None:
    needed = parts + 1 if grouped else MIN_ROWS
    if units >= needed:
        return
    what = "groups that share no inputs" if grouped else "rows with distinct inputs"
    raise UserError(
        f"--dataset: the train rows ({rows}) contain {units} {what}, and cutting needs at least {needed}: "
        "give more rows, or the missing splits as files (--validation_file, --test_file)"
    )


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

    A smaller subset of the same seed is contained in a larger one.

    Args:
        rows: Rows to draw from.
        size: Number of rows, from 1; at `len(rows)` and above all rows are returned.
        seed: Fixes the draw.
        balance: Column to balance over; "" for a plain random draw.

    Returns:
        The drawn rows in their original order.

    Raises:
        UserError: `size` is under 1.
    """
    if size < 1:
        raise UserError(f"subset size {size}: must be at least 1")
    if size >= rows.num_rows:
        return rows
    values = list(row_keys(rows, [balance])) if balance else [""] * rows.num_rows
    codes = _codes(values)
    rng = np.random.default_rng(seed)
    order = rng.permutation(rows.num_rows)
    turn = rng.permutation(codes.max() + 1)  # which classes get one row more where the size does not divide evenly
    by_class = order[np.argsort(codes[order], kind="stable")]
    starts = np.cumsum(np.bincount(codes)) - np.bincount(codes)
    rank = np.arange(rows.num_rows) - starts[codes[by_class]]
    drawn = by_class[np.lexsort((turn[codes[by_class]], rank))[:size]]
    return rows.select(np.sort(drawn))
