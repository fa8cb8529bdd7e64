"""Fingerprints of rows: which data a run has seen, over all rows and independent of how they are stored."""

import json
from collections.abc import Iterator, Sequence
from itertools import chain

from datasets import ClassLabel, Dataset

from kd.base.hashing import lines_digest

_ENCODER = json.JSONEncoder(default=str)


def row_keys(rows: Dataset, columns: Sequence[str]) -> Iterator[str]:
    """Yield one canonical JSON text a row; two rows have the same text exactly where `columns` have the same values.

    Stored values are used, so a class label counts by its integer and an image or a sound by its bytes and path.
    ASCII only, so that texts are equal across Python versions.
    """
    names = list(dict.fromkeys(columns))
    for batch in rows.select_columns(names).with_format("arrow").iter(batch_size=1000):
        values = (batch.column(name).to_pylist() for name in names)
        yield from map(_ENCODER.encode, zip(*values, strict=True))


def digest(rows: Dataset, columns: Sequence[str]) -> str:
    """Return 32 hexadecimal digits of all rows of a split: their `example_id` and `columns`; both orders matter.

    A class label counts by its integer and by the column's list of names. MLflow's own data set digest reads the first
    10,000 rows only; this one reads every row.
    """
    names = list(dict.fromkeys(["example_id", *columns]))
    classes = {name: rows.features[name].names for name in names if isinstance(rows.features[name], ClassLabel)}
    head = json.dumps([names, classes] if classes else names)
    return lines_digest(chain([head], row_keys(rows, names)))
