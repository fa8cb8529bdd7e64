"""Series of a table: CSV, TSV or Parquet, long or wide, or the export of a sensor."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from kd.base.types import UserError
from kd.config import listed
from kd.config.series import MG_PER_MMOL, SeriesOptions
from kd.data.series.layouts import Layout, layout_of
from kd.data.series.ordered import ordered
from kd.data.series.recording import Events, Floats, PartName, Recording, Times
from kd.data.series.tables import Table, heads, numbers, read
from kd.data.series.times import parse

LOW, HIGH = ("low", "lo"), ("high", "hi")
"""What sensors write, in lower case, beyond their limits."""


def read_table(path: Path, item: str, split: PartName, options: SeriesOptions) -> list[Recording]:
    """Return the series of a table: one an item, in the order in which items first occur.

    Args:
        path: The file.
        item: Whose the rows are, where no column says it.
        split: What the file is for.
        options: Names of columns, and which covariates are wanted.

    Raises:
        UserError: the file cannot be read; the text names file and line.
    """
    head, layout = layout_of(path, heads(path), options)
    wanted = {name: column for name, column in layout.covariates.items() if name in listed(options.covariates)}
    layout = replace(layout, covariates=wanted)
    table = read(path, head, layout.columns, layout.short)
    if not len(table.lines):
        raise UserError(f"{path}: has no rows below its header: give a file with readings")
    items = _items(table, layout)
    readings, events = _readings(table, layout), _rows_of_events(table, layout)
    used = np.unique(np.concatenate([readings, *events.values()]))
    times = np.full(len(table.lines), np.datetime64("NaT"), "datetime64[s]")
    part = table.at(used)
    whose = None if items is None else items[used]
    times[used] = parse(_texts(part, layout), part.where, whose, layout.day_first)
    if items is None:
        return [_recording(table, layout, (item, split), times, readings, events)]
    if not len(readings):
        raise UserError(f"{path}: has no rows with a value of {layout.value!r}: give a file with readings")
    codes, names = _coded(items)
    own = _by_code(codes, readings, len(names))
    beside = {key: _by_code(codes, places, len(names)) for key, places in events.items()}
    return [
        _recording(table, layout, (name, split), times, own[code], {key: one[code] for key, one in beside.items()})
        for code, name in enumerate(names)
    ]


def _coded(items: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Number items by first appearance."""
    encoded = pa.array(items, pa.string()).dictionary_encode()
    return np.asarray(encoded.indices).astype(np.int64), encoded.dictionary.to_pylist()


def _by_code(codes: npt.NDArray[np.int64], places: npt.NDArray[np.int64], count: int) -> list[npt.NDArray[np.int64]]:
    """Return the places of each code, in their order."""
    order = places[np.argsort(codes[places], kind="stable")]
    return np.split(order, np.searchsorted(codes[order], np.arange(1, count)))


def _items(table: Table, layout: Layout) -> npt.NDArray[Any] | None:
    if not layout.item:
        return None
    column = table.columns[layout.item]
    if not (pa.types.is_integer(column.type) or pa.types.is_string(column.type)):
        raise UserError(f"{table.path}: column {layout.item!r} holds {column.type}: write ids as text or whole numbers")
    found = pc.utf8_trim_whitespace(column.cast(pa.string()))
    blank = pc.fill_null(pc.equal(found, ""), True)
    if pc.any(blank).as_py():
        raise UserError(f"{table.where(pc.index(blank, True).as_py())}: column {layout.item!r} is empty: fill it")
    return np.asarray(found.to_pylist(), dtype=object)


def _texts(table: Table, layout: Layout) -> Any:
    columns = [table.columns[name] for name in layout.time]
    if len(columns) == 1:
        column = columns[0]
        return pc.if_else(pc.equal(column, ""), None, column) if pa.types.is_string(column.type) else column
    return pc.binary_join_element_wise(*(column.cast(pa.string()) for column in columns), " ")


def _readings(table: Table, layout: Layout) -> npt.NDArray[np.int64]:
    """Return the rows that are readings of the sensor."""
    column, words = layout.kept
    every = np.arange(len(table.lines))
    if not column:
        return every
    texts = pc.utf8_lower(pc.utf8_trim_whitespace(table.columns[column]))
    fits = np.asarray(pc.is_in(texts, pa.array([word.lower() for word in words])))
    return every[fits] if fits.any() or layout.usual else every


def _rows_of_events(table: Table, layout: Layout) -> dict[str, npt.NDArray[np.int64]]:
    """Return the rows of each covariate."""
    found = {}
    for name, column in layout.covariates.items():
        there = ~np.isnan(numbers(table, column))
        if name in layout.only:
            where, word = layout.only[name]
            there &= np.asarray(pc.equal(table.columns[where], word))
        found[name] = np.flatnonzero(there)
    return found


def _recording(
    table: Table,
    layout: Layout,
    named: tuple[str, PartName],
    times: Times,
    readings: npt.NDArray[np.int64],
    events: dict[str, npt.NDArray[np.int64]],
) -> Recording:
    item, split = named
    part = table.at(readings)
    values, notes = _values(part, layout)
    when, values, more = ordered(times[readings], values, part.where, layout.any_order)
    covariates = {}
    for name, rows in events.items():
        rows = rows[np.argsort(times[rows], kind="stable")]
        amounts = numbers(table.at(rows), layout.covariates[name])
        covariates[name] = Events(times[rows], times[rows], amounts, layout.kind)
    said = tuple(f"{table.path}: {note}." for note in [*notes, *more])
    return Recording(item, split, str(table.path), when, values, layout.unit, covariates, said)


def _values(table: Table, layout: Layout) -> tuple[Floats, list[str]]:
    """Return the readings; words for what is beyond the sensor's limits become these limits."""
    texts = table.columns[layout.value]
    if layout.limits is None or not pa.types.is_string(texts.type):
        return numbers(table, layout.value), []
    words = pc.utf8_lower(pc.utf8_trim_whitespace(texts))
    notes = []
    for said, limit in zip((LOW, HIGH), layout.limits, strict=True):
        fits = pc.is_in(words, pa.array(said))
        count = pc.sum(fits).as_py() or 0
        if count:
            value = limit if layout.unit == "mg/dL" else round(limit / MG_PER_MMOL, 4)
            texts = pc.if_else(fits, f"{value:g}", texts)
            word = said[0].capitalize()
            notes.append(f"{word!r} is kept as {value:g} {layout.unit}, the sensor's limit (readings: {count})")
    return numbers(replace(table, columns={**table.columns, layout.value: texts}), layout.value), notes
