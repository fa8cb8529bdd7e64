"""The table of patients: what predictions can be sliced by."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from kd.base.console import did_you_mean, several
from kd.base.types import UserError
from kd.config.series import SeriesOptions
from kd.data.series.tables import heads, read

OWN = (
    "example_id", "group", "patient", "time", "step", "unit", "history", "target", "ahead", "filled",
)  # fmt: skip
"""Columns of every table of windows."""


def of_patients(options: SeriesOptions, items: Sequence[str] = ()) -> dict[str, dict[str, str]]:
    """Return what the patients' file says: value by column and patient; nothing without a file.

    Each of `items` must be in it.

    Raises:
        UserError: the file has no column id, lacks a patient or has one twice, or a column has a name of our own.
    """
    if not options.patients_file:
        return {}
    path = Path(options.patients_file).expanduser()
    named = f"patients_file={options.patients_file}"
    if path.suffix.lower() not in (".csv", ".tsv") or not path.is_file():
        raise UserError(f"{named}: is no file of CSV or TSV: give one with a column id")
    head = heads(path)[0]
    if "id" not in head.names:
        raise UserError(
            f"{named}: has no column 'id', only {several(head.names)}; "
            f"{did_you_mean('id', head.names, 'name the column of patients id')}"
        )
    if taken := [name for name in head.names if name in OWN]:
        raise UserError(f"{named}: the column {taken[0]!r} has a name of our own: rename it")
    table = read(path, head, head.names)
    ids = [text.strip() for text in table.columns["id"].to_pylist()]
    if twice := next((place for place, name in enumerate(ids) if name in ids[:place]), None):
        raise UserError(f"{table.where(twice)}: has {ids[twice]!r} a second time: keep one")
    if absent := [item for item in items if item not in ids]:
        raise UserError(
            f"{named}: has no {absent[0]!r}, only {several(ids)}: write a row of it, with the columns left empty"
        )
    others = [name for name in head.names if name != "id"]
    return {name: dict(zip(ids, table.columns[name].to_pylist(), strict=True)) for name in others}


def with_patients(table: pa.Table, known: dict[str, dict[str, str]]) -> pa.Table:
    """Return windows with what is known of their patients beside them; of others nothing."""
    for name, values in known.items():
        texts = [values.get(item, "") for item in table["patient"].to_pylist()]
        table = table.append_column(name, pa.array(texts, pa.string()))
    return table
