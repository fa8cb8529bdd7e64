"""A teacher's predictions on a split, kept on disk as a table."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from kd.base import files

SUFFIX = ".parquet"
ABOUT = b"about"
"""Key, in the schema's metadata, of what people read about a table."""


def kept_table(folder: Path, key: str, made: Callable[[], pd.DataFrame], about: Mapping[str, str]) -> pd.DataFrame:
    """Return the table of `key` from `folder`, or make it and keep it there if possible, with `about` for people.

    The key is a hash of everything that the table depends on.
    """
    with suppress(OSError):  # deleted meanwhile, or not readable
        if (path := files.find(folder, key, SUFFIX)) is not None:
            return pd.read_parquet(path)
    table = made()
    stored = pa.Table.from_pandas(table, preserve_index=False)
    stored = stored.replace_schema_metadata({**stored.schema.metadata, ABOUT: json.dumps(dict(about))})
    files.keep(folder, key, SUFFIX, lambda path: pq.write_table(stored, path), "the teacher's predictions")
    return table


def about_of(path: Path) -> dict[str, str]:
    """Return what is known of a whole table, and its number of rows."""
    stored = pq.read_metadata(path)
    return {**json.loads(stored.metadata.get(ABOUT, "{}")), "rows": str(stored.num_rows)}


def remove(path: Path) -> None:
    """Delete a table. Raises filelock.Timeout where one is being written, OSError where it may not be deleted."""
    with files.locked(path.parent.with_suffix(".lock"), wait=False):
        path.unlink(missing_ok=True)
