"""Rows without a target beside those that have one: none that gives validation or test away, joined in one table."""

import json
from collections.abc import Sequence

import pyarrow as pa
from datasets import Dataset, DatasetInfo

from kd.base.types import STANDARD_COLUMNS, UserError
from kd.data.digests import row_keys
from kd.data.sources import kind


def without_shared(rows: Dataset, others: Sequence[Dataset], inputs: Sequence[str]) -> Dataset:
    """Leave out the rows that have the inputs, or the group, of a row of `others`.

    Texts that differ in case or white space alone are the same: many tokenizers read them alike. All have the columns
    of `inputs`, `example_id` and `group`; where the two are equal, there are no groups.
    """
    keys = {_plain(key) for other in others for key in row_keys(other, inputs)}
    groups = {group for other in others for group in _groups(other) if group is not None}
    pairs = zip(map(_plain, row_keys(rows, inputs)), _groups(rows), strict=True)
    return rows.select([place for place, (key, group) in enumerate(pairs) if key not in keys and group not in groups])


def _plain(key: str) -> str:
    values = json.loads(key)
    return json.dumps([" ".join(value.casefold().split()) if isinstance(value, str) else value for value in values])


def _groups(rows: Dataset) -> list[str | None]:
    """Return each row's group; None where it is the row's own id."""
    pairs = zip(rows["group"][:], rows["example_id"][:], strict=True)
    return [group if group != own else None for group, own in pairs]


def joined(rows: Dataset, more: Dataset, inputs: Sequence[str], target: str) -> Dataset:
    """Put rows without a target behind those that have one; their target is null.

    Raises:
        UserError: an input is of another type.
    """
    for name in inputs:
        here, there = kind(rows, name), kind(more, name)
        if here != there:
            raise UserError(f"column '{name}' is {there} there but {here} in the data set: write it alike in both")
    names = [*inputs, target, *STANDARD_COLUMNS]
    known = rows.select_columns(names)
    schema = known.features.arrow_schema
    blank = pa.nulls(len(more), schema.field(target).type)
    tables = known.with_format("arrow")[:], more.with_format("arrow")[:].append_column(target, blank).select(names)
    whole = pa.concat_tables([table.cast(schema) for table in tables])
    return Dataset(whole, info=DatasetInfo(features=known.features))
