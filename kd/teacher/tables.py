"""A teacher's predictions on a split, kept on disk as a table."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from kd.base import files
from kd.base.home import home

SUFFIX = ".parquet"


def kept_table(key: str, made: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """Return the table of this key from `KD_HOME/predictions`, or make it and keep it there where that can be.

    Args:
        key: fingerprint of everything that the table depends on.
        made: makes it.
    """
    folder = home() / "predictions"
    if (path := files.find(folder, key, SUFFIX)) is not None:
        return pd.read_parquet(path)
    table = made()

    def fill(target: Path) -> None:
        table.to_parquet(target, index=False)

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with files.locked(folder / f"{key}.lock"):
            files.write(folder, key, SUFFIX, fill)
    except (OSError, NotImplementedError) as error:
        files.warn_once(f"the teacher's predictions are not kept in {folder} ({error})")
    return table
