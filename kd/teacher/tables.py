"""A teacher's predictions on a split, kept on disk as a table."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pandas as pd

from kd.base import files

SUFFIX = ".parquet"


def kept_table(folder: Path, key: str, made: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """Return a table from `folder`, or make it and keep it there if possible.

    Args:
        folder: of all such tables.
        key: hash of everything that the table depends on.
        made: makes it.
    """
    with suppress(OSError):  # deleted meanwhile, or not readable
        if (path := files.find(folder, key, SUFFIX)) is not None:
            return pd.read_parquet(path)
    table = made()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with files.locked(folder.with_suffix(".lock")):
            files.write(folder, key, SUFFIX, lambda path: table.to_parquet(path, index=False))
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        files.warn_once(f"the teacher's predictions are not kept in {folder} ({reason})")
    return table
