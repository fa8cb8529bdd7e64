"""A teacher's predictions on a split, kept on disk as a table."""

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd

log = logging.getLogger(__name__)


def kept_table(folder: Path, key: str, made: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """Return a table from `folder`, or make it and keep it there; its name carries the checksum of its bytes."""
    for path in folder.glob(f"{key}-*.parquet"):
        if path.stem.rpartition("-")[2] == hashlib.sha256(path.read_bytes()).hexdigest()[:32]:
            return pd.read_parquet(path)
    table = made()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(prefix=f".{key}", dir=folder)
        os.close(handle)
        table.to_parquet(scratch, index=False)
        checksum = hashlib.sha256(Path(scratch).read_bytes()).hexdigest()[:32]
        os.replace(scratch, folder / f"{key}-{checksum}.parquet")
    except OSError as error:
        log.warning("the teacher's predictions are not kept in %s (%s)", folder, error.strerror)
    return table
