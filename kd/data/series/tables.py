"""Tables of text with the line of every row, and what numbers and times they hold."""

import csv
import io
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from kd.base.console import shown
from kd.base.numbers import PLAIN
from kd.base.types import UserError
from kd.data import formats
from kd.data.columns import TEXTS
from kd.data.series.recording import Floats

MISSING = ("", "nan", "na", "null", "none")
"""Words of a column of numbers that stand for no value, in lower case."""
SEARCHED_LINES = 40
"""Lines of a file in which a header is looked for."""
DELIMITERS = ",;\t"


@dataclass(frozen=True)
class Head:
    """Where a table begins: its column names, and how its fields are separated."""

    names: tuple[str, ...]
    line: int
    """Line of the header, from 1."""
    delimiter: str


@dataclass(frozen=True)
class Table:
    """Columns of a file, those that were asked for, as text; of Parquet files as they are."""

    path: Path
    columns: Mapping[str, Any]
    """Arrow arrays."""
    lines: npt.NDArray[np.int64]
    word: str
    """What `lines` count: line, or row of a Parquet file."""
    comma: bool = False
    """Whether a comma is a decimal point."""

    def where(self, place: int) -> str:
        """Say where a row is, for messages."""
        return f"{self.path}: {self.word} {self.lines[place]}" if len(self.lines) else str(self.path)

    def at(self, places: npt.NDArray[Any]) -> "Table":
        """Return the rows at these positions."""
        taken = {name: pc.take(column, pa.array(places)) for name, column in self.columns.items()}
        return Table(self.path, taken, self.lines[places], self.word, self.comma)


def heads(path: Path) -> list[Head]:
    """Return the lines of a file, of its first ones, that may be its header; the first is the likeliest.

    Raises:
        UserError: the file cannot be read, or is empty.
    """
    if path.suffix.lower() == ".parquet":
        return [Head(formats.read_file(path, ()).names, 0, "")]
    text = formats.text_of(path)
    lines = [(number, line) for number, line in enumerate(text.split("\n")[:SEARCHED_LINES], 1) if line.strip("\r")]
    if not lines:
        raise UserError(f"{path}: the file is empty: it needs a header line and rows")
    found = []
    for number, line in lines:
        delimiter = max(DELIMITERS, key=line.count)
        try:
            names = next(csv.reader([line], delimiter=delimiter), [])
        except csv.Error:
            continue
        found.append(Head(tuple(name.strip() for name in names), number, delimiter))
    if not found:
        raise UserError(f"{path}: line {lines[0][0]} is no header: it needs a header line and rows")
    return found


def read(path: Path, head: Head, wanted: Collection[str], short: bool = False) -> Table:
    """Read the wanted columns of the rows below a header; `short` rows have no last fields, where a format writes so.

    Raises:
        UserError: a row has another number of fields than the header, or a column's name occurs twice.
    """
    if twice := sorted({name for name in wanted if head.names.count(name) > 1}):
        raise UserError(f"{path}: names column {twice[0]!r} twice: rename one")
    if not head.delimiter:
        rows = formats.read_file(path, wanted).rows.with_format("arrow")
        columns = {name: _plain(rows[name][:]) for name in rows.column_names}
        return Table(path, columns, np.arange(1, rows.num_rows + 1), "row")
    places = {name: head.names.index(name) for name in wanted if name in head.names}
    taken: dict[str, list[str]] = {name: [] for name in places}
    numbers = []
    for number, fields in _rows(path, head):
        if len(fields) != len(head.names) and not (short and len(fields) < len(head.names)):
            raise UserError(
                f"{path}: line {number} has {len(fields)} fields, the header has {len(head.names)}: mend the line"
            )
        numbers.append(number)
        for name, place in places.items():
            taken[name].append(fields[place] if place < len(fields) else "")
    columns = {name: pa.array(values, pa.string()) for name, values in taken.items()}
    return Table(path, columns, np.array(numbers, np.int64), "line", head.delimiter == ";")


def _plain(values: Any) -> Any:
    values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    values = values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
    return values.cast(pa.string()) if values.type in TEXTS else values


def _rows(path: Path, head: Head) -> Iterator[tuple[int, list[str]]]:
    """Yield each row below the header that is not blank, with the line that it starts on."""
    csv.field_size_limit(formats.MAX_FIELD)
    below = formats.text_of(path).split("\n", head.line)[head.line :]
    reader = csv.reader(io.StringIO(below[0] if below else "", newline=""), delimiter=head.delimiter, strict=True)
    start = head.line + 1
    try:
        for fields in reader:
            if any(fields):
                yield start, fields
            start = head.line + reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}: the row that starts on line {start} is malformed ({error}): mend it") from error


def numbers(table: Table, name: str, greatest: float = 1e30, least: float = -1e30) -> Floats:
    """Return a column of numbers, NaN where it has none.

    Raises:
        UserError: a value is no number, or out of range; the text names its line.
    """
    values = table.columns[name]
    if pa.types.is_string(values.type):
        values = _from_text(table, name, values)
    elif not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_null(values.type)
              or pa.types.is_decimal(values.type) or pa.types.is_boolean(values.type)):  # fmt: skip
        raise UserError(f"{table.path}: column {name!r} holds {values.type}, no numbers: name another column")
    found = np.array(values.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
    require_range(found, table.where, f"column {name!r} holds", greatest, least)
    return found


def require_range(values: Floats, where: Callable[[int], str], what: str, greatest: float, least: float) -> None:
    """Refuse the first number that is infinite or out of range."""
    wrong = np.flatnonzero(~np.isnan(values) & ~((values >= least) & (values <= greatest)))
    if len(wrong):
        raise UserError(
            f"{where(int(wrong[0]))}: {what} {values[wrong[0]]:g}: give numbers from {least:g} to {greatest:g}, and "
            "leave missing ones empty"
        )


def _from_text(table: Table, name: str, texts: Any) -> Any:
    texts = pc.utf8_trim_whitespace(texts)
    texts = pc.if_else(pc.is_in(pc.utf8_lower(texts), pa.array(MISSING)), None, texts)
    plain = pc.replace_substring(texts, ",", ".") if table.comma else texts
    wrong = pc.invert(pc.match_substring_regex(plain, f"^(?:{PLAIN.pattern})$"))
    if pc.any(wrong).as_py():
        place = pc.index(wrong, True).as_py()
        raise UserError(
            f"{table.where(place)}: column {name!r} holds {shown(texts[place].as_py())}, no number: write it as 5.6"
        )
    return pc.replace_substring_regex(plain, r"^\+", "").cast(pa.float64())
