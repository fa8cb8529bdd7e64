"""From what the user names to three checked splits: builtin, hub id, file or folder."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import get_args

import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, DatasetDict, Value

from kd.base.console import did_you_mean
from kd.base.types import STANDARD_COLUMNS, SplitName, Splits, UserError
from kd.config import RowOptions
from kd.data import files, hub
from kd.data.splits import Source, cut, identified, leaks, named_splits, refuse_shared_groups

HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?(:[\w.+-]+)?")


def load(options: RowOptions, inputs: Sequence[str], target: str) -> Splits:
    """Read, check and split rows.

    Official splits are kept. A missing validation or test split is cut from train, a tenth each. A test without targets
    is refused: validation takes its place, and a new validation is cut from train.

    Args:
        options: What to read and how to split. A builtin's own groups always count.
        inputs: Columns in which every row must have a value; at least one.
        target: Column to be learned, kept in proportion by cuts; "" when the task has none.

    Returns:
        Three splits with the original columns, `example_id` (`<file or split>:<row from 0>`, the same whatever is cut)
        and `group` (both strings), and notes that the user should read.

    Raises:
        UserError: The rows cannot be read, checked or split.
    """
    sources, notes = _read(options)
    group = _group(options)
    notes += _refuse_unlabelled_test(sources, target)
    for source in sources.values():
        notes += _check(source, inputs, target, group, options.dataset)
    _check_types(sources, [*inputs, *filter(None, [target])])
    splits = {split: identified(source, group) for split, source in sources.items()}
    if group:
        refuse_shared_groups(splits, group)
    official = [split for split in splits if split != "train"]
    missing: list[SplitName] = [split for split in ("test", "validation") if split not in splits]
    if missing:
        total = splits["train"].num_rows
        splits |= cut(splits["train"], missing, inputs, target, bool(group), options.split_seed)
        notes += [f"{s.capitalize()} was cut from train: {splits[s].num_rows} of its {total} rows." for s in missing]
    notes += leaks(splits, official, inputs)
    return Splits(splits["train"], splits["validation"], splits["test"], tuple(notes))


def load_inputs(options: RowOptions, inputs: Sequence[str]) -> Dataset:
    """Read the inputs of a source's training rows, and nothing else of it: no target, no other split.

    Returns:
        The columns of `inputs`, `example_id` and `group`, which is read where the source has such a column.

    Raises:
        UserError: the rows cannot be read, or an input is missing.
    """
    source = _read(options)[0]["train"]
    group = _group(options) if _group(options) in source.rows.column_names else ""
    _check(source, inputs, "", group, options.dataset)
    rows = identified(Source(f"transfer/{source.name}", source.rows), group)
    return rows.select_columns([*inputs, *STANDARD_COLUMNS])


def _apidocs() -> DatasetDict:
    from kd.data.builtin import apidocs

    return apidocs.load()


BUILTINS: dict[str, Callable[[], DatasetDict]] = {"apidocs": _apidocs}


def _group(options: RowOptions) -> str:
    return options.group_column or ("group" if options.dataset.startswith("builtin:") else "")


def _read(options: RowOptions) -> tuple[dict[SplitName, Source], list[str]]:
    named: dict[SplitName, str] = {
        split: file for split in get_args(SplitName) if (file := getattr(options, f"{split}_file"))
    }
    source: Callable[[], DatasetDict] | None
    path = Path(options.dataset).expanduser()
    if path.exists():
        if not files.is_saved(path):
            return files.read(path, named), []
        source = partial(files.read_saved, path)
    elif options.dataset.startswith("builtin:"):
        source = BUILTINS.get(options.dataset.removeprefix("builtin:"))
        if source is None:
            raise UserError(f"--dataset={options.dataset}: no such builtin: there are {', '.join(BUILTINS)}")
    elif path.suffix.lower() not in files.READERS and HUB_ID.fullmatch(options.dataset):
        source = partial(hub.load, options.dataset)
    else:
        raise UserError(
            f"--dataset={options.dataset}: not found: it may be builtin:NAME ({', '.join(BUILTINS)}), a file "
            f"({', '.join(files.READERS)}), a folder, or a hub id owner/name[:config]"
        )
    if named:
        raise UserError(f"--{next(iter(named))}_file: --dataset={options.dataset} has its own splits: leave it out")
    data = source()
    sources, notes = named_splits(data)
    if "train" not in sources:
        raise UserError(f"--dataset={options.dataset}: has no split 'train', only {', '.join(map(str, data))}")
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


def _check(source: Source, inputs: Sequence[str], target: str, group: str, dataset: str) -> list[str]:
    """Check one source's columns and values; return notes."""
    rows, name = source.rows, source.name
    if rows.num_rows == 0:
        raise UserError(f"--dataset={dataset}: {name} has no rows")
    roles = {**dict.fromkeys(inputs, "input"), target: "target", group: "group"}
    roles.pop("", None)
    for column, role in roles.items():
        if column not in rows.column_names:
            hint = did_you_mean(column, rows.column_names, "name another")
            raise UserError(
                f"{role} column '{column}' is not in {name}, which has {', '.join(rows.column_names)}; {hint}"
            )
        values = rows.with_format("arrow")[column][:]
        absent = pc.is_null(values, nan_is_null=True)
        if isinstance(rows.features[column], ClassLabel):  # -1 means no class
            absent = pc.or_(absent, pc.fill_null(pc.equal(values, -1), True))
        if places := pc.indices_nonzero(absent).to_pylist():
            raise UserError(
                f"{role} column '{column}' has no value in {len(places)} of {rows.num_rows} rows of {name}, first in "
                f"row {places[0]} (counted from 0): fill them or leave those rows out"
            )
    taken = [c for c in STANDARD_COLUMNS if c in rows.column_names and c != group]
    for column in taken:
        if column in roles:
            raise UserError(f"{roles[column]} column '{column}' of {name}: the name is reserved: rename the column")
    return [f"Column '{column}' of '{name}' was replaced: the name is reserved." for column in taken]


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
