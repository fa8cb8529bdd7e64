"""From what the user names to three checked splits: builtin, hub id, file or folder."""

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import get_args

import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, DatasetDict, Value

from kd.base.types import STANDARD_COLUMNS, SplitName, Splits, UserError
from kd.data import files, hub
from kd.data.splits import Source, cut, identified, leaks, named_splits, refuse_shared_groups

HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?(:[\w.+-]+)?")


@dataclass(frozen=True)
class DataRequest:
    """Which rows, which of their columns, and how they are split."""

    dataset: str
    """`builtin:NAME`, a hub id `owner/name[:config]`, a file or a folder."""
    inputs: tuple[str, ...]
    """Columns in which every row must have a value; at least one."""
    target: str
    """Column to be learned, kept in proportion by cuts; "" when the task has none."""
    group: str = ""
    """Column whose values never cross splits; "" when rows are independent. A builtin's own groups always count."""
    train_file: str = ""
    """File for train: absolute, or relative to the data set's folder; "" to find it by name."""
    validation_file: str = ""
    """As `train_file`, for validation."""
    test_file: str = ""
    """As `train_file`, for test."""
    split_seed: int = 0
    """Fixes which rows are cut."""


def load(request: DataRequest) -> Splits:
    """Read, check and split rows.

    Official splits are kept. A missing validation or test split is cut from train, a tenth each. A test without targets
    is refused: validation takes its place, and a new validation is cut from train.

    Args:
        request: What to read and how to split.

    Returns:
        Three splits with the original columns, `example_id` (`<file or split>:<row from 0>`, the same whatever is cut)
        and `group` (both strings), and notes that the user should read.

    Raises:
        UserError: The rows cannot be read, checked or split.
    """
    sources, notes = _read(request)
    if request.dataset.startswith("builtin:"):
        request = replace(request, group=request.group or "group")
    notes += _refuse_unlabelled_test(sources, request.target)
    for source in sources.values():
        notes += _check(source, request)
    _check_types(sources, [*request.inputs, *filter(None, [request.target])])
    splits = {split: identified(source, request.group) for split, source in sources.items()}
    if request.group:
        refuse_shared_groups(splits, request.group)
    official = [split for split in splits if split != "train"]
    missing: list[SplitName] = [split for split in ("test", "validation") if split not in splits]
    if missing:
        total = splits["train"].num_rows
        splits |= cut(splits["train"], missing, request.inputs, request.target, bool(request.group), request.split_seed)
        notes += [f"{s.capitalize()} was cut from train: {splits[s].num_rows} of its {total} rows." for s in missing]
    notes += leaks(splits, official, request.inputs)
    return Splits(splits["train"], splits["validation"], splits["test"], tuple(notes))


def load_inputs(request: DataRequest) -> Dataset:
    """Read the inputs of a source's training rows, and nothing else of it: no target, no other split.

    Args:
        request: its `target` plays no part; its `group` is read where the source has such a column.

    Returns:
        The columns of `inputs`, `example_id` and `group`.

    Raises:
        UserError: the rows cannot be read, or an input is missing.
    """
    sources, _ = _read(request)
    source = sources["train"]
    group = request.group or ("group" if request.dataset.startswith("builtin:") else "")
    request = replace(request, target="", group=group if group in source.rows.column_names else "")
    _check(source, request)
    rows = identified(Source(f"transfer/{source.name}", source.rows), request.group)
    return rows.select_columns([*request.inputs, *STANDARD_COLUMNS])


def _apidocs() -> DatasetDict:
    from kd.data.builtin import apidocs

    return apidocs.load()


BUILTINS: dict[str, Callable[[], DatasetDict]] = {"apidocs": _apidocs}


def _read(request: DataRequest) -> tuple[dict[SplitName, Source], list[str]]:
    named: dict[SplitName, str] = {
        split: file for split in get_args(SplitName) if (file := getattr(request, f"{split}_file"))
    }
    source: Callable[[], DatasetDict] | None
    path = Path(request.dataset).expanduser()
    if request.dataset and path.exists():
        if not files.is_saved(path):
            return files.read(path, named), []
        source = partial(files.read_saved, path)
    elif request.dataset.startswith("builtin:"):
        source = BUILTINS.get(request.dataset.removeprefix("builtin:"))
        if source is None:
            raise UserError(f"--dataset={request.dataset}: no such builtin: there are {', '.join(BUILTINS)}")
    elif path.suffix.lower() not in files.READERS and HUB_ID.fullmatch(request.dataset):
        source = partial(hub.load, request.dataset)
    else:
        raise UserError(
            f"--dataset={request.dataset}: not found: it may be builtin:NAME ({', '.join(BUILTINS)}), a file "
            f"({', '.join(files.READERS)}), a folder, or a hub id owner/name[:config]"
        )
    if named:
        raise UserError(f"--{next(iter(named))}_file: --dataset={request.dataset} has its own splits: leave it out")
    data = source()
    sources, notes = named_splits(data)
    if "train" not in sources:
        raise UserError(f"--dataset={request.dataset}: has no split 'train', only {', '.join(map(str, data))}")
    return sources, notes


def _refuse_unlabelled_test(sources: dict[SplitName, Source], target: str) -> list[str]:
    """Take a test away that cannot be scored; validation takes its place. Changes `sources`."""
    test = sources.get("test")
    if test is None or not target:
        return []
    values = test.rows[target][:] if target in test.rows.column_names else [None]
    if not values or any(value is not None and str(value) != "-1" for value in values):  # empty: `_check` says so
        return []
    del sources["test"]
    note = f"'{test.name}' was refused as a test: it has no values in '{target}'."
    if "validation" not in sources:
        return [note]
    sources["test"] = sources.pop("validation")
    return [f"{note} '{sources['test'].name}' is the test in its place."]


def _check(source: Source, request: DataRequest) -> list[str]:
    """Check one source's columns and values; return notes."""
    rows, name = source.rows, source.name
    if rows.num_rows == 0:
        raise UserError(f"--dataset={request.dataset}: {name} has no rows")
    roles = {**dict.fromkeys(request.inputs, "input"), request.target: "target", request.group: "group"}
    roles.pop("", None)
    for column, role in roles.items():
        if column not in rows.column_names:
            near = difflib.get_close_matches(column, rows.column_names, n=1)
            hint = f" (did you mean '{near[0]}'?)" if near else ""
            raise UserError(f"{role} column '{column}' is not in {name}{hint}: it has {', '.join(rows.column_names)}")
        absent = _missing(rows, column)
        if absent:
            raise UserError(
                f"{role} column '{column}' has no value in {len(absent)} of {rows.num_rows} rows of {name}, first in "
                f"row {absent[0]} (counted from 0): fill them or leave those rows out"
            )
    taken = [c for c in STANDARD_COLUMNS if c in rows.column_names and c != request.group]
    for column in taken:
        if column in roles:
            raise UserError(f"{roles[column]} column '{column}' of {name}: the name is reserved: rename the column")
    return [f"Column '{column}' of '{name}' was replaced: the name is reserved." for column in taken]


def _missing(rows: Dataset, column: str) -> list[int]:
    """Return the rows with null, NaN, or the -1 that means no class label."""
    values = rows.with_format("arrow")[column][:]
    absent = pc.is_null(values, nan_is_null=True)
    if isinstance(rows.features[column], ClassLabel):
        absent = pc.or_(absent, pc.fill_null(pc.equal(values, -1), True))
    found: list[int] = pc.indices_nonzero(absent).to_pylist()
    return found


def _check_types(sources: dict[SplitName, Source], columns: list[str]) -> None:
    """Refuse a column that is text here and a number there, or whose class names differ: scores would be wrong."""
    train = sources["train"]
    for source, column in product(sources.values(), columns):
        here, there = kind(source.rows, column), kind(train.rows, column)
        if here != there:
            raise UserError(
                f"column '{column}' is {here} in {source.name} but {there} in {train.name}: write it alike in both"
            )


def kind(rows: Dataset, column: str) -> str:
    """Return the kind of a column's values, as far as two sources must agree on it."""
    feature = rows.features[column]
    if isinstance(feature, ClassLabel):
        return f"class label {feature.names}"
    if isinstance(feature, Value):
        return "text" if "string" in feature.dtype else "bool" if feature.dtype == "bool" else "number or date"
    return type(feature).__name__
