"""Encoded rows: made once for a split and what encodes it, kept on disk, and read through a memory map.

`KD_HOME/encoded/KEY-CHECKSUM.arrow` is a kept file (`kd.base.files`): an Arrow stream. The key is of everything that
the rows depend on, so another key is another file.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset

from kd.base import files
from kd.base.files import home, locked, warn_once
from kd.base.hashing import SHORT, fingerprint
from kd.base.types import Features

log = logging.getLogger(__name__)
CHUNK = 1000
"""Rows encoded at a time: as lists in Python a row takes fifty times the room it has on disk."""
SUFFIX = ".arrow"
ABOUT = b"about"
"""Key, in the schema's metadata, of what people read about a file."""


class ArrowRows:
    """Rows whose columns are numbers, or lists of numbers, for a DataLoader. Nothing is copied."""

    def __init__(self, table: pa.Table) -> None:
        """Look at a table through numpy; its columns must be without nulls."""
        batches = table.to_batches()
        self._starts = np.cumsum([0, *(batch.num_rows for batch in batches)])
        self._parts = [
            {name: _views(column) for name, column in zip(batch.schema.names, batch.columns, strict=True)}
            for batch in batches
        ]

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, column: str) -> np.ndarray:
        """Return a column of numbers, `(rows,)`."""
        return np.concatenate([part[column][0] for part in self._parts])

    def __getitems__(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Return the rows at these positions: a number or an array of numbers by column.

        Raises:
            IndexError: there is no such row; positions count from 0.
        """
        if rows and not 0 <= min(rows) <= max(rows) < len(self):
            raise IndexError(f"rows {min(rows)} to {max(rows)} of {len(self)}")
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        slots = (rows - self._starts[numbers]).tolist()
        return [
            {
                name: values[slot] if starts is None else values[starts[slot] : starts[slot + 1]]
                for name, (values, starts) in self._parts[number].items()
            }
            for number, slot in zip(numbers.tolist(), slots, strict=True)
        ]


class ChosenRows:
    """Some of the encoded features; each keeps the number that it has among all, in the column `feature`."""

    def __init__(self, rows: Features, positions: np.ndarray) -> None:
        """Take those at `positions`, in this order."""
        self._rows = rows
        self._positions = positions

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, column: str) -> np.ndarray:
        """Return a column of numbers, `(rows,)`."""
        values: np.ndarray = np.asarray(self._rows[column])[self._positions]
        return values

    def __getitems__(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Return the rows at these positions: a number or an array of numbers by column."""
        return self._rows.__getitems__(self._positions[rows].tolist())


def _views(column: pa.Array) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a column's values, and for lists where each begins and the last ends."""
    if pa.types.is_list(column.type):
        return column.values.to_numpy(), column.offsets.to_numpy()
    return column.to_numpy(), None


def encoded(
    rows: Dataset, encode: Callable[[Dataset], Dataset], parts: Mapping[str, str], about: Mapping[str, str]
) -> ArrowRows:
    """Return rows as model inputs: from disk, or encoded and kept there where that can be, else in memory.

    Args:
        rows: a split.
        encode: turns rows into features, in order, each row by itself; their columns `feature` and `example` are
            numbered over all of them.
        parts: everything that the result depends on; hashed to the key.
        about: data and split, for people who look at what is kept.
    """
    about = {**about, "rows": str(len(rows))}
    key = fingerprint(parts)
    folder = home() / "encoded"
    try:
        path = files.find(folder, key, SUFFIX)
        if path is None:
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder / f"{key}.lock"):
                path = files.find(folder, key, SUFFIX) or _written(folder, key, _chunks(rows, encode), about)
        return ArrowRows(pa.ipc.open_stream(pa.memory_map(str(path))).read_all())
    except (OSError, NotImplementedError) as error:
        warn_once(f"encoded features are not kept in {folder} ({error}): they are in memory")
    sink = pa.BufferOutputStream()
    _stream(sink, _chunks(rows, encode), about)
    return ArrowRows(pa.ipc.open_stream(sink.getvalue()).read_all())


def about_of(path: Path) -> dict[str, str]:
    """Return data, split and number of rows of a whole file."""
    with pa.memory_map(str(path)) as source:
        return dict(json.loads(pa.ipc.open_stream(source).schema.metadata[ABOUT]))


def remove(path: Path) -> None:
    """Delete a file and its lock; who has it open reads on.

    Raises:
        filelock.Timeout: it is being written.
        OSError: it may not be deleted.
    """
    lock = path.with_name(f"{path.name.lstrip('.')[:SHORT]}.lock")
    with locked(lock, wait=False):
        path.unlink(missing_ok=True)
        lock.unlink(missing_ok=True)


def _written(folder: Path, key: str, chunks: Iterator[pa.Table], about: Mapping[str, str]) -> Path:
    """Write a file in one step, or not at all; the caller has the lock. Raises OSError."""
    for damaged in folder.glob(f"{key}-*{SUFFIX}"):
        log.warning("encoded features %s are damaged: they are encoded again", damaged.name)

    def fill(path: Path) -> None:
        with pa.OSFile(str(path), "wb") as sink:
            _stream(sink, chunks, about)

    return files.write(folder, key, SUFFIX, fill)


def _chunks(rows: Dataset, encode: Callable[[Dataset], Dataset]) -> Iterator[pa.Table]:
    count = 0
    for start in range(0, len(rows), CHUNK):
        made = encode(rows.select(range(start, min(start + CHUNK, len(rows)))))
        table = made.with_format("arrow")[:].combine_chunks()
        examples = pa.array(np.asarray(table["example"]) + start)
        table = table.set_column(table.schema.get_field_index("example"), "example", examples)
        yield table.append_column("feature", pa.array(np.arange(count, count + len(table))))
        count += len(table)


def _stream(sink: pa.NativeFile, chunks: Iterator[pa.Table], about: Mapping[str, str]) -> None:
    first = next(chunks)
    schema = first.schema.with_metadata({ABOUT: json.dumps(dict(about)).encode()})
    with pa.ipc.new_stream(sink, schema) as writer:
        for chunk in chain([first], chunks):
            writer.write_table(chunk.cast(schema))
