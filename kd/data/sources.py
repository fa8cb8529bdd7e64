"""From what the user names to three checked splits: builtin, hub id, file or folder."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, product
from pathlib import Path
from typing import get_args

import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, DatasetDict, Value

from kd.base.console import did_you_mean, one_line, several
from kd.base.types import STANDARD_COLUMNS, Holds, SplitName, Splits, UserError
from kd.config import RowOptions, listed
from kd.data import files, hub
from kd.data.columns import names_of, near_classes, plain
from kd.data.formats import READERS
from kd.data.splits import Source, cut, identified, leaks, named_splits, refuse_shared_groups

HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?(:[\w.+-]+)?")


def load(options: RowOptions, inputs: Sequence[str], target: str, holds: Mapping[str, Holds]) -> Splits:
    """Read, check and split rows.

    Official splits are kept. A missing validation or test split is cut from train, a tenth each. A test without targets
    is refused: validation takes its place, and a new validation is cut from train.

    Args:
        options: What to read and how to split. A builtin's own groups always count.
        inputs: Columns in which every row must have a value; at least one.
        target: Column to be learned, kept in proportion by cuts; "" when the task has none.
        holds: What these columns must hold; one that is not named may hold anything.

    Returns:
        Three splits with the columns that are asked for, `example_id` (`<file or split>:<row from 0>`, the same
        whatever is cut) and `group` (both strings), and notes that the user should read.

    Raises:
        UserError: The rows cannot be read, checked or split.
    """
    group, slices = _group(options), listed(options.slice_columns)
    sources, notes = _read(options, {*inputs, target, group, *slices} - {""})
    notes += _refuse_unlabelled_test(sources, target)
    roles = {**dict.fromkeys(inputs, "input"), target: "target", group: "group"}
    roles.pop("", None)
    notes += chain(*(_check(source, roles, options) for source in sources.values()))
    _require_slices(options.slice_columns, sources)
    kinds: dict[str, Holds] = {**dict.fromkeys(slices, "value"), **({group: "name"} if group else {}), **holds}
    for split, source in sources.items():
        sources[split], more = _typed(source, kinds)
        notes += more
    _require_alike(sources, [*inputs, *filter(None, [target])])
    if holds.get(target) == "class":
        notes += near_classes(chain(*(names_of(source.rows, target) for source in sources.values())), target)
    splits = {split: identified(source, group) for split, source in sources.items()}
    if group:
        refuse_shared_groups(splits, group)
    official = [split for split in splits if split != "train"]
    missing: list[SplitName] = [split for split in ("test", "validation") if split not in splits]
    if missing:
        total = splits["train"].num_rows
        made, more = cut(splits["train"], missing, inputs, target, holds.get(target) == "class", options.split_seed)
        splits |= made
        notes += more
        notes += [f"{s.capitalize()} was cut from train: {splits[s].num_rows} of its {total} rows." for s in missing]
    notes += leaks(splits, official, inputs)
    return Splits(splits["train"], splits["validation"], splits["test"], tuple(notes))


def load_inputs(options: RowOptions, inputs: Sequence[str], holds: Mapping[str, Holds]) -> Dataset:
    """Read the inputs of a source's training rows, and nothing else of it: no target, no other split.

    Returns:
        The columns of `inputs`, `example_id` and `group`, which is read where the source has such a column.

    Raises:
        UserError: the rows cannot be read, or an input is missing.
    """
    source = _read(options, {*inputs, _group(options)} - {""})[0]["train"]
    group = _group(options) if _group(options) in source.names else ""
    _check(source, {**dict.fromkeys(inputs, "input"), **({group: "group"} if group else {})}, options)
    kinds: dict[str, Holds] = {**holds, **({group: "name"} if group else {})}
    source, _ = _typed(source, kinds)
    rows = identified(replace(source, name=f"transfer/{source.name}"), group)
    return rows.select_columns([*inputs, *STANDARD_COLUMNS])


def _apidocs() -> DatasetDict:
    from kd.data.builtin import apidocs

    return apidocs.load()


BUILTINS: dict[str, Callable[[], DatasetDict]] = {"apidocs": _apidocs}


def _group(options: RowOptions) -> str:
    return options.group_column or ("group" if options.dataset.startswith("builtin:") else "")


def _read(options: RowOptions, columns: Collection[str]) -> tuple[dict[SplitName, Source], list[str]]:
    """Return the sources of splits, with those of the columns that they have, and notes."""
    named: dict[SplitName, str] = {
        split: file for split in get_args(SplitName) if (file := getattr(options, f"{split}_file"))
    }
    source: Callable[[], DatasetDict] | None
    path = _place(options.dataset)
    if path.exists():
        if not files.is_saved(path):
            sources = files.read(path, named, columns)
            return sources, [note for one in sources.values() for note in one.notes]
        source = partial(files.read_saved, path)
    elif options.dataset.startswith("builtin:"):
        source = BUILTINS.get(options.dataset.removeprefix("builtin:"))
        if source is None:
            raise UserError(f"--dataset={options.dataset}: no such builtin: there are {', '.join(BUILTINS)}")
    elif path.suffix.lower() not in READERS and HUB_ID.fullmatch(options.dataset):
        source = partial(hub.load, options.dataset)
    else:
        raise UserError(
            f"--dataset={options.dataset}: not found: there is no {path.absolute()}; it may be a file "
            f"({', '.join(READERS)}) or a folder, given in full under `mlflow run` of another folder, builtin:NAME "
            f"({', '.join(BUILTINS)}), or a hub id owner/name[:config]"
        )
    if named:
        raise UserError(f"--{next(iter(named))}_file: --dataset={options.dataset} has its own splits: leave it out")
    data = source()
    sources, notes = named_splits(data, columns)
    if "train" not in sources:
        raise UserError(f"--dataset={options.dataset}: has no split 'train', only {several(list(data))}")
    return sources, notes


def _place(dataset: str) -> Path:
    """Return the path that a name may be; raises UserError where it cannot be looked at."""
    try:
        path = Path(dataset).expanduser()
        path.exists()
    except (OSError, RuntimeError) as error:  # too long a name, a folder that may not be read, no such user
        raise UserError(f"--dataset={dataset}: cannot be looked for ({one_line(error)}): give another path") from error
    return path


def _refuse_unlabelled_test(sources: dict[SplitName, Source], target: str) -> list[str]:
    """Take a test away that cannot be scored; validation takes its place. Changes `sources`."""
    test = sources.get("test")
    if test is None or not target:
        return []
    values = test.rows[target][:] if target in test.rows.column_names else [None]
    if not values or any(value not in (None, -1, "-1") for value in values):  # empty: `_check` says so
        return []
    del sources["test"]
    note = f"{test.name!r} was refused as a test: it has no values in {target!r}."
    if "validation" not in sources:
        return [note]
    sources["test"] = sources.pop("validation")
    return [f"{note} {sources['test'].name!r} is the test in its place."]


def _check(source: Source, roles: Mapping[str, str], options: RowOptions) -> list[str]:
    """Check that a source has rows, and that each column that plays a role is there and filled; return notes."""
    rows, name = source.rows, source.name
    if rows.num_rows == 0 and (rows.column_names or not source.names):  # without columns Arrow counts no rows
        raise UserError(f"--dataset={options.dataset}: {name} has no rows")
    for column, role in roles.items():
        if column not in source.names:
            raise _absent(column, role, source, roles, options)
        values = rows.with_format("arrow")[column][:]
        absent = pc.is_null(values, nan_is_null=True)
        if isinstance(rows.features[column], ClassLabel):  # -1 means no class
            absent = pc.or_(absent, pc.fill_null(pc.equal(values, -1), True))
        if places := pc.indices_nonzero(absent).to_pylist():
            raise UserError(
                f"{role} column {column!r} has no value in {len(places)} of {rows.num_rows} rows of {name}, first in "
                f"row {places[0]} (counted from 0): fill them or leave those rows out"
            )
    taken = [column for column in STANDARD_COLUMNS if column in source.names and roles.get(column) != "group"]
    for column in taken:
        if column in roles:
            raise UserError(f"{roles[column]} column {column!r} of {name}: the name is reserved: rename the column")
    return [
        f"Column {column!r} of {name!r} was replaced: the name is reserved (for groups give group_column)."
        for column in taken
    ]


def _absent(column: str, role: str, source: Source, roles: Mapping[str, str], options: RowOptions) -> UserError:
    """Say that a column is not there, and which may be meant: one of a like name, or the only one without a role."""
    given = {**vars(options.task_options), "group_column": options.group_column}
    option = next((name for name, value in given.items() if value == column), "")
    left = [name for name in source.names if name not in (*roles, *STANDARD_COLUMNS)]
    prefix = f"{option}=" if option else ""
    otherwise = (
        f"did you mean {prefix}{several(left)}?" if len(left) == 1 else f"name another by {option or 'its option'}"
    )
    hint = did_you_mean(column, source.names, otherwise, prefix)
    if sign := next((sign for sign in ";|\t," if len(source.names) == 1 and sign in source.names[0]), ""):
        hint = f"its header has {sign!r} between names: save it with commas as .csv, or with tabs as .tsv"
    said = f"{role} column {column!r}{f' ({option})' if option else ''} is not in {source.name}"
    return UserError(f"{said}, which has {several(source.names)}; {hint}")


def _require_slices(names: str, sources: Mapping[SplitName, Source]) -> None:
    """Predictions of validation and test keep these columns; without such a source both are cut from train."""
    official = {split: source for split, source in sources.items() if split != "train"}
    for name, source in product(listed(names), (official if len(official) == 2 else sources).values()):
        if name not in source.names:
            raise UserError(
                f"slice_columns={names!r}: there is no column {name!r}; give some of {several(source.names)}"
            )


def _typed(source: Source, holds: Mapping[str, Holds]) -> tuple[Source, list[str]]:
    """Let its columns hold what they must; returns notes too."""
    rows, notes = source.rows, []
    for column in rows.column_names:
        if column in holds:
            rows, more = plain(rows, column, holds[column], source.name)
            notes += more
    return replace(source, rows=rows), notes


def _require_alike(sources: Mapping[SplitName, Source], columns: Sequence[str]) -> None:
    """Refuse a column that is text here and a number there, or whose class names differ: scores would be wrong."""
    train = sources["train"]
    for source, column in product(sources.values(), columns):
        here, there = kind(source.rows, column), kind(train.rows, column)
        if here != there:
            raise UserError(
                f"column {column!r} is {here} in {source.name} but {there} in {train.name}: write it alike in both"
            )


def kind(rows: Dataset, column: str) -> str:
    """Return the kind of a column's values, as far as two sources must agree on it."""
    feature = rows.features[column]
    if isinstance(feature, ClassLabel):
        return f"class label {several(feature.names)}"
    if isinstance(feature, Value):
        return "text" if "string" in feature.dtype else "bool" if feature.dtype == "bool" else "number or date"
    return type(feature).__name__
