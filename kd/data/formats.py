"""Rows of a local file. Text files are UTF-8; every field of a CSV or TSV file is read as text.

They are read by Python's `csv` and `json`, because pyarrow's readers change rows without a word: they drop a quote
within a field and one of two columns of the same name, and read JSON text that looks like a date as a time. In errors
they count rows, where a user looks for lines. Of the columns only those that are asked for are read.
"""

import csv
import io
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset, DatasetInfo, Features
from datasets.features.features import generate_from_arrow_type

from kd.base.console import one_line, shown
from kd.base.types import UserError
from kd.data.columns import refuse, require_named
from kd.data.splits import Source

MAX_FIELD = 2**31 - 1
"""Longest CSV field in characters; the csv module's own limit of 131,072 is under the length of a long document."""
CHUNK = 2_000
"""Rows of a CSV or TSV file that are read at a time: as text in Python they take several times the table's room."""
KINDS = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}
"""JSON's values in words."""


def read_file(path: Path, columns: Collection[str]) -> Source:
    """Read the columns of a file that it has of those asked for, by its extension.

    Raises:
        UserError: The extension is unknown, or the content is not what the extension says.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: unknown extension '{path.suffix}': a file must be one of {', '.join(READERS)}")
    if not path.is_file():
        raise UserError(f"{path}: is no regular file: give one of {', '.join(READERS)}")
    return reader(path, columns)


def text_of(path: Path) -> str:
    """Return the text of a UTF-8 file, without its byte order mark. Raises UserError where it cannot be read."""
    try:
        data = path.read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): check its permissions") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}: byte {error.start} (line {line}) is not UTF-8: save the file as UTF-8") from error


def _read_delimited(path: Path, columns: Collection[str], **dialect: Any) -> Source:
    """Read text with a header line; an empty field is missing, `NA`, `null` and `None` are text."""
    csv.field_size_limit(MAX_FIELD)
    batches = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = _fields(path, file, dialect)
            header = next(rows, [])
            if not header:
                raise UserError(f"{path}: the file is empty: it needs a header line and rows")
            places = _places(path, header, columns)
            schema = pa.schema([(header[place], pa.string()) for place in places])
            while chunk := list(islice(rows, CHUNK)):
                fields = list(zip(*chunk, strict=True))
                arrays = [pa.array((field or None for field in fields[place]), pa.string()) for place in places]
                batches.append(pa.record_batch(arrays, schema))
    except (OSError, UnicodeDecodeError):
        text_of(path)  # says where
        raise
    return Source(path.name, Dataset(pa.Table.from_batches(batches, schema)), tuple(header))


def _places(path: Path, names: list[str], columns: Collection[str]) -> list[int]:
    """Return where the wanted columns are."""
    if twice := sorted({name for name in columns if names.count(name) > 1}):
        raise UserError(f"{path}: names column {twice[0]!r} twice: rename one")
    return [place for place, name in enumerate(names) if name in columns]


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


def _read_tsv(path: Path, columns: Collection[str]) -> Source:
    """Read fields as they stand, quotes too, unless the file shows that its quotes are those of a CSV writer."""
    if not _is_quoted(path):
        source = _read_delimited(path, columns, delimiter="\t", quoting=csv.QUOTE_NONE)
        return replace(source, notes=_half_quoted(source))
    source = _read_delimited(path, columns, delimiter="\t")
    note = (
        f"{path.name!r} encloses fields in quotes and doubles those within, as pandas does: they are read as in a CSV "
        "file (fields with quotes of their own: write JSONL)."
    )
    return replace(source, notes=(note,))


def _half_quoted(source: Source) -> tuple[str, ...]:
    """Return a note for each column in which some fields look as a CSV writer would quote them."""
    columns = {name: source.rows.with_format("arrow")[name][:] for name in source.rows.column_names}
    counts = {name: pc.sum(pc.match_substring_regex(each, '(?s)^".*"".*"$')).as_py() for name, each in columns.items()}
    return tuple(
        f"{count} fields of {name!r} in {source.name!r} are in quotes and double those within, as in CSV, but other "
        "quotes of the file are not, so all are part of the text: if they are not meant so, save the file as .csv."
        for name, count in counts.items()
        if count
    )


def _is_quoted(path: Path) -> bool:
    """Whether all quotes of a TSV file are a CSV writer's: writing what is read of its rows gives the same text.

    Quotes around whole lines of text may do so by chance: some quote must be doubled, or some line, or the header, must
    make no sense otherwise.
    """
    taken: list[str] = []
    header, quoted = "", False

    def lines(file: Iterable[str]) -> Iterator[str]:
        for line in file:
            taken.append(line)
            yield line

    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for fields in csv.reader(lines(file), strict=True, delimiter="\t"):
                raw = "".join(taken).rstrip("\r\n")
                if '"' in raw:
                    if raw not in (_written(fields, csv.QUOTE_MINIMAL), _written(fields, csv.QUOTE_ALL)):
                        return False
                    if not header:  # nobody calls a column so
                        return True
                    quoted |= '""' in raw or any(line.count("\t") != header.count("\t") for line in taken)
                header = header or raw
                taken.clear()
    except (OSError, UnicodeDecodeError, csv.Error):
        return False  # reading it says what is wrong
    return quoted


def _written(fields: list[str], quoting: Any) -> str:
    out = io.StringIO()
    csv.writer(out, delimiter="\t", quoting=quoting, lineterminator="\r\n").writerow(fields)
    return out.getvalue()[:-2]


def _read_jsonl(path: Path, columns: Collection[str]) -> Source:
    """Read one JSON object a line; a key that a line lacks is missing there."""
    numbers, names = [], dict[str, None]()
    found: dict[str, list[Any]] = {name: [] for name in columns}
    # not splitlines(): U+2028 and its like may occur within a JSON string
    for number, line in enumerate(text_of(path).split("\n"), start=1):
        if line.strip():
            value = _object(f"{path}: line {number}", line)
            numbers.append(number)
            names |= dict.fromkeys(value)
            for name, values in found.items():
                values.append(value.get(name))
    table = pa.table({name: _array(path, name, values, numbers) for name, values in found.items() if name in names})
    return Source(path.name, Dataset(table), tuple(names))


def _object(where: str, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        said = f"{error.msg.removesuffix(' at')}, character {error.colno}"
        raise UserError(f"{where} is not JSON ({said}): write one object a line") from error
    except RecursionError as error:
        raise UserError(f"{where} is nested too deeply: write one flat object a line") from error
    except ValueError as error:  # Python reads no number of more digits
        raise UserError(f"{where} has a number of more than 4,300 digits: write it as text") from error
    if not isinstance(value, dict):
        raise UserError(f"{where} is not a JSON object: write one object a line")
    if isinstance(value, _Repeated):
        raise UserError(f"{where} names a column twice: keep one")
    return value


class _Repeated(dict[str, Any]):
    """An object that names a key twice; within columns that nobody asked for that does no harm."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _Repeated(found)


def _array(path: Path, name: str, values: list[Any], numbers: list[int]) -> pa.Array:
    """Make a column; what cannot be one is refused by its first line of another kind, or that has no place in Arrow."""
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
        given = [
            (KINDS.get(type(value), "an object"), number)
            for value, number in zip(values, numbers, strict=True)
            if value is not None
        ]
        other = next(((kind, number) for kind, number in given if kind != given[0][0]), None)
        if other:
            raise UserError(
                f"{path}: column {name!r} mixes types: {given[0][0]} in line {given[0][1]}, {other[0]} in line "
                f"{other[1]}: write one type"
            ) from error
        for value, number in zip(values, numbers, strict=True):
            _require_storable(f"{path}: column {name!r}, line {number}:", value)
        raise UserError(f"{path}: column {name!r} mixes types ({one_line(error)}): write one type") from error


def _require_storable(where: str, value: Any) -> None:
    try:
        pa.array([value])
    except OverflowError as error:
        raise UserError(f"{where} {shown(value)} is beyond 64 bits: write it as text") from error
    except UnicodeEncodeError as error:
        raise UserError(f"{where} {shown(value)} has half of a surrogate pair, which is no text: mend it") from error
    except pa.ArrowException as error:
        raise UserError(f"{where} {shown(value)} mixes types ({one_line(error)}): write one type") from error


def _read_parquet(path: Path, columns: Collection[str]) -> Source:
    try:
        schema = pq.read_schema(path)
        names = [schema.names[place] for place in _places(path, schema.names, columns)]
        table = pq.ParquetFile(path).read(names)
        table.validate(full=True)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: not readable as Parquet ({one_line(error)}): write it again") from error
    table = table.select(names).replace_schema_metadata(None)
    for name in names:
        _require_known(table, name, path.name)
    numbers = {name for name in names if pa.types.is_integer(table[name].type)}
    labels = {name: label for name, label in _class_labels(path, schema).items() if name in numbers}
    for name, label in labels.items():
        require_named(table[name], label, "class", name, path.name)
        table = table.set_column(names.index(name), name, table[name].cast(pa.int64()))
    features = Features({**Features.from_arrow_schema(table.schema), **labels})
    return Source(path.name, Dataset(table, info=DatasetInfo(features=features)), tuple(schema.names))


def _require_known(table: pa.Table, name: str, source: str) -> None:
    try:
        generate_from_arrow_type(table.schema.field(name).type)
    except ValueError:  # maps, unions and the like, which no task can use
        refuse(table[name], name, source)


def _class_labels(path: Path, schema: pa.Schema) -> dict[str, ClassLabel]:
    """Return the columns of class labels with the classes' names, which `datasets` keeps beside the columns."""
    text = (schema.metadata or {}).get(b"huggingface")
    try:
        known = (json.loads(text).get("info") or {}).get("features") or {} if text else {}
        labels = {name: each for name, each in known.items() if each.get("_type") == "ClassLabel"}
        return {name: ClassLabel(names=each["names"]) for name, each in labels.items()}
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: its metadata 'huggingface' is damaged ({one_line(error)}): write it again, or without it"
        ) from error


READERS: dict[str, Callable[[Path, Collection[str]], Source]] = {
    ".csv": _read_delimited,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
    ".json": _read_jsonl,
    ".parquet": _read_parquet,
}
