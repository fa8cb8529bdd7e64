"""Rows from local files and folders. Text files are UTF-8; every field of a CSV or TSV file is read as text.

They are read by Python's `csv` and `json`, because pyarrow's readers change rows without a word: they drop a quote
within a field and one of two columns of the same name, and read JSON text that looks like a date as a time. In errors
they count rows, where a user looks for lines.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict, load_from_disk

from kd.base.console import one_line
from kd.base.types import SplitName, UserError
from kd.data.splits import SPLIT_ALIASES, Source

MAX_FIELD = 2**31 - 1
"""Longest CSV field in characters; the csv module's own limit of 131,072 is under the length of a long document."""
CHUNK = 2_000
"""Rows of a CSV or TSV file that are read at a time: as text in Python they take several times the table's room."""


def read(path: Path, named: dict[SplitName, str]) -> dict[SplitName, Source]:
    """Read a file (all train) or a folder of files; `named` are absolute, or relative to the folder (of the file).

    Raises:
        UserError: No train file, two files for one split, or a file that cannot be read.
    """
    folder = path if path.is_dir() else path.parent
    chosen: dict[SplitName, Path] = _files_by_name(path) if path.is_dir() else {"train": path}
    if path.is_file() and "train" in named:
        raise UserError(
            f"--train_file={named['train']}: --dataset={path} is a file already: give its folder as --dataset"
        )
    by_user: dict[SplitName, Path] = {split: folder / Path(name).expanduser() for split, name in named.items()}
    taken = {file.resolve() for file in by_user.values()}  # `--test_file dev.tsv` makes dev the test, and it alone
    chosen = {split: file for split, file in chosen.items() if file.resolve() not in taken} | by_user
    if "train" not in chosen:
        there = sorted(file.name for file in path.iterdir())
        shown = ", ".join(there[:10]) + (f" and {len(there) - 10} more" if len(there) > 10 else "")
        raise UserError(
            f"--dataset={path}: has no train file ({', '.join('train' + suffix for suffix in READERS)}); there: "
            f"{shown or 'nothing'}: name the file with --train_file"
        )
    names: dict[str, SplitName] = {}
    for split, file in chosen.items():
        if split in named and not file.is_file():
            raise UserError(
                f"--{split}_file={named[split]}: no file {file}: give a path that is absolute or within the folder"
            )
        name = _source_name(file, folder)
        if name in names:  # ids would not be unique; the same file twice would be scored on what it was trained on
            raise UserError(
                f"--{split}_file={file}: {names[name]} is a file '{name}' too: give another file or rename it"
            )
        names[name] = split
    return {split: Source(name, read_file(chosen[split])) for name, split in names.items()}


def read_file(path: Path) -> Dataset:
    """Read one file by its extension.

    Raises:
        UserError: The extension is unknown, or the content is not what the extension says.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: unknown extension '{path.suffix}': a file must be one of {', '.join(READERS)}")
    return reader(path)


def is_saved(path: Path) -> bool:
    """Whether this is a folder that `datasets.save_to_disk` made."""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def read_saved(path: Path) -> DatasetDict:
    """Read such a folder; one without splits is all train. Raises UserError where it is damaged."""
    try:
        data = load_from_disk(str(path))
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise UserError(
            f"--dataset={path}: not readable as saved by save_to_disk ({one_line(error)}): save it again"
        ) from error
    return DatasetDict(train=data) if isinstance(data, Dataset) else data


def _files_by_name(folder: Path) -> dict[SplitName, Path]:
    found: dict[SplitName, Path] = {}
    for file in sorted(folder.iterdir()):
        split = SPLIT_ALIASES.get(file.stem.lower())
        if split is None or file.suffix.lower() not in READERS or not file.is_file():
            continue
        if split in found:
            raise UserError(
                f"--dataset={folder}: {found[split].name} and {file.name} both mean {split}: keep one of them there"
            )
        found[split] = file
    return found


def _source_name(file: Path, folder: Path) -> str:
    """Name a file within the folder by its path there, so that ids do not depend on where the folder lies."""
    file, folder = file.resolve(), folder.resolve()
    return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else file.name


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): check its permissions") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}: byte {error.start} (line {line}) is not UTF-8: save the file as UTF-8") from error


def _read_delimited(path: Path, **dialect: Any) -> Dataset:
    """Read text with a header line; an empty field is missing, `NA`, `null` and `None` are text."""
    csv.field_size_limit(MAX_FIELD)
    batches = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = _fields(path, file, dialect)
            header = next(rows, [])
            if not header:
                raise UserError(f"{path}: the file is empty: it needs a header line and rows")
            if twice := sorted({name for name in header if header.count(name) > 1}):
                raise UserError(f"{path}: the header names column '{twice[0]}' twice: rename one")
            schema = pa.schema([(name, pa.string()) for name in header])
            while chunk := list(islice(rows, CHUNK)):
                columns = ([field or None for field in column] for column in zip(*chunk, strict=True))
                batches.append(pa.record_batch([pa.array(column, pa.string()) for column in columns], schema))
    except (OSError, UnicodeDecodeError):
        _text(path)  # says where
        raise
    return Dataset(pa.Table.from_batches(batches, schema))


def _fields(path: Path, lines: Iterable[str], dialect: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield the header, and the rows that are not blank, each with as many fields as the header."""
    reader = csv.reader(lines, strict=True, **dialect)
    start = 1
    try:
        yield (header := next(reader, []))
        start = reader.line_num + 1
        for fields in reader:
            if fields and len(fields) != len(header):
                raise UserError(
                    f"{path}: line {start} has {len(fields)} fields, the header has {len(header)}: mend the line"
                )
            if fields:
                yield fields
            start = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}: the row that starts on line {start} is malformed ({error}): mend it") from error


def _read_jsonl(path: Path) -> Dataset:
    """Read one JSON object a line; a key that a line lacks is missing there."""
    objects: list[dict[str, Any]] = []
    # not splitlines(): U+2028 and its like may occur within a JSON string
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}: line {number} is not JSON ({error.msg}): write one object a line") from error
        if not isinstance(value, dict):
            raise UserError(f"{path}: line {number} is not a JSON object: write one object a line")
        objects.append(value)
    columns = {}
    for name in dict.fromkeys(name for value in objects for name in value):
        try:
            columns[name] = pa.array([value.get(name) for value in objects])
        except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
            raise UserError(f"{path}: column '{name}' mixes types ({one_line(error)}): write one type") from error
    return Dataset(pa.table(columns))


def _read_parquet(path: Path) -> Dataset:
    try:
        return Dataset(pq.read_table(path))
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: not readable as Parquet ({one_line(error)}): write it again") from error


READERS: dict[str, Callable[[Path], Dataset]] = {
    ".csv": _read_delimited,
    ".tsv": partial(_read_delimited, delimiter="\t", quoting=csv.QUOTE_NONE),
    ".jsonl": _read_jsonl,
    ".json": _read_jsonl,
    ".parquet": _read_parquet,
}
