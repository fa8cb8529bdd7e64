"""What a column holds is checked once, whatever it was read from: text is text, and a class is one value.

Nothing else is turned into text, so that no model learns how Python or Arrow writes a list.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from math import isfinite
from typing import NoReturn

import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, DatasetInfo, Features, Value

from kd.base.console import several, shown
from kd.base.types import Holds, UserError

ALLOWED: dict[Holds, tuple[str, ...]] = {
    "text": ("text",),
    "class": ("text", "whole numbers", "true and false"),
    "name": ("text", "whole numbers", "true and false", "dates"),
    "value": ("text", "whole numbers", "true and false", "dates", "fractions"),
}
"""What a column may hold, in words of `kind_in_words`."""
KINDS: tuple[tuple[Callable[[pa.DataType], bool], str], ...] = (
    (lambda kind: pa.types.is_struct(kind) or pa.types.is_map(kind), "objects"),
    (lambda kind: pa.types.is_nested(kind), "lists"),
    (lambda kind: pa.types.is_boolean(kind), "true and false"),
    (lambda kind: pa.types.is_integer(kind), "whole numbers"),
    (lambda kind: pa.types.is_floating(kind) or pa.types.is_decimal(kind), "fractions"),
    (lambda kind: pa.types.is_date(kind) or pa.types.is_timestamp(kind), "dates"),
)
TEXTS = (pa.string(), pa.large_string(), pa.string_view())


def is_bytes(kind: pa.DataType) -> bool:
    """Whether an Arrow type is one of bytes that are not known to be text."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
                or pa.types.is_binary_view(kind))  # fmt: skip


def plain(rows: Dataset, column: str, holds: Holds, source: str) -> tuple[Dataset, list[str]]:
    """Return rows in which a column holds what it must, and a note where that was not so as it stood in the source.

    Bytes that are UTF-8 become text, and whole numbers written as 1.0 become 1; missing values stay.

    Raises:
        UserError: the column holds something else; the text names column, row and value.
    """
    values = rows.with_format("arrow")[column][:]
    if isinstance(rows.features[column], ClassLabel):
        require_named(values, rows.features[column], holds, column, source)
        return rows, []
    found, note = _plain(values, holds, column, source)
    if found is values:
        return rows, []
    table = rows.with_format("arrow")[:]
    table = table.set_column(table.schema.get_field_index(column), column, found).replace_schema_metadata(None)
    features = Features({**rows.features, column: Value(str(found.type))})
    notes = [f"Column {column!r} of {source!r}: {note}."] if note else []
    return Dataset(table, info=DatasetInfo(features=features)), notes


def _plain(values: pa.ChunkedArray, holds: Holds, column: str, source: str) -> tuple[pa.ChunkedArray, str]:
    """Return the values as they are wanted, the same where they are that already, and in words what was changed."""
    kind = values.type
    if is_bytes(kind):
        return _decoded(values, holds, column, source), "its bytes were read as UTF-8 text"
    if kind in TEXTS:
        values = values.cast(pa.string()) if kind == pa.string_view() else values
        if holds in ("class", "name"):
            _require_none(pc.match_substring(values, "\0"), values, holds, column, source, "a NUL character")
        return values, ""
    if pa.types.is_null(kind):
        return values.cast(pa.string()), ""
    word = kind_in_words(kind)
    if word == "fractions" and holds in ("class", "name"):
        return _whole(values, holds, column, source), "its whole numbers, written as 1.0, were read as 1"
    if word not in ALLOWED[holds]:
        refuse(values, column, source, holds)
    return values, ""


def _whole(values: pa.ChunkedArray, holds: Holds, column: str, source: str) -> pa.ChunkedArray:
    try:
        return values.cast(pa.int64())
    except pa.ArrowInvalid:
        is_whole = pa.array([value is None or (isfinite(value) and value % 1 == 0) for value in values.to_pylist()])
        _require_none(pc.invert(is_whole), values, holds, column, source, "fractions")
        refuse(values, column, source, holds, "numbers beyond 64 bits")


def _decoded(values: pa.ChunkedArray, holds: Holds, column: str, source: str) -> pa.ChunkedArray:
    try:
        return pa.chunked_array([[None if value is None else bytes(value).decode() for value in values.to_pylist()]])
    except UnicodeDecodeError as error:
        wrong = pa.chunked_array([[None if value != error.object else value for value in values.to_pylist()]])
        refuse(wrong, column, source, holds, "bytes that are not UTF-8")


def require_named(values: pa.ChunkedArray, feature: ClassLabel, holds: Holds, column: str, source: str) -> None:
    """Refuse numbers of classes as text, and a number that has no name."""
    if holds == "text":
        refuse(values, column, source, holds, "numbers of classes")
    numbers = values.cast(pa.float64(), safe=False)  # Arrow compares no uint64 with -1
    beyond = pc.or_(pc.less(numbers, -1), pc.greater_equal(numbers, feature.num_classes))
    _require_none(beyond, values, holds, column, source, f"a number beyond its {feature.num_classes} class names")


def _require_none(wrong: pa.ChunkedArray, values: pa.ChunkedArray, holds: Holds, *named: str) -> None:
    """Refuse the first value at which `wrong` is true; `named` are column, source, and what it holds."""
    if pc.any(wrong).as_py():
        column, source, what = named
        refuse(pc.if_else(wrong, values, None), column, source, holds, what)


def refuse(values: pa.ChunkedArray, column: str, source: str, holds: Holds = "value", what: str = "") -> NoReturn:
    """Raise UserError for the first of the values that is not missing."""
    row = next((place for place, value in enumerate(values) if value.is_valid), 0)
    what, value = what or kind_in_words(values.type), values[row].as_py()
    said = shown(value) if isinstance(value, str | bytes | list | dict) else str(value)
    raise UserError(
        f"column {column!r} of {source!r} holds {what}, first in row {row} (counted from 0): "
        f"{said}; write {', '.join(ALLOWED[holds])}, or name another column"
    )


def kind_in_words(kind: pa.DataType) -> str:
    """Say what values of an Arrow type are, in the plural."""
    if kind in TEXTS:
        return "text"
    if is_bytes(kind):
        return "bytes"
    return next((words for fits, words in KINDS if fits(kind)), str(kind))


def names_of(rows: Dataset, column: str) -> list[object]:
    """Return a column's values, of class labels their names; None where there is none."""
    feature, values = rows.features[column], rows[column][:]
    if not isinstance(feature, ClassLabel):
        return list(values)
    return [None if value is None else feature.names[value] for value in values]


def near_classes(values: Iterable[object], column: str) -> list[str]:
    """Return a note where texts differ by blanks or case alone: they are classes of their own, and seldom meant so."""
    alike: dict[str, set[str]] = defaultdict(set)
    for value in values:
        if isinstance(value, str):
            alike[" ".join(value.casefold().split())].add(value)
    pairs = [" and ".join(map(repr, sorted(each))) for each in alike.values() if len(each) > 1]
    if not pairs:
        return []
    return [
        f"Values of {column!r} differ by blanks or case only, and are classes of their own: {several(pairs, 5)}; if "
        "they are the same, write them alike in the file."
    ]
