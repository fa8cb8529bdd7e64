"""A teacher's predictions on a split, kept on disk as a table."""

import hashlib
import io
import logging
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pandas as pd

log = logging.getLogger(__name__)


def kept_table(folder: Path, key: str, made: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """Return a table from `folder`, or make it and keep it there; its name carries the checksum of its bytes."""
    for path in folder.glob(f"{key}-*.parquet"):
        with suppress(OSError):  # gone meanwhile, or may not be read
            content = path.read_bytes()
            if path.stem.rpartition("-")[2] == _checksum(content):
                return pd.read_parquet(io.BytesIO(content))
    table = made()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder, key, table)
    except OSError as error:
        log.warning("the teacher's predictions are not kept in %s (%s)", folder, error.strerror or error)
    return table


def _write(folder: Path, key: str, table: pd.DataFrame) -> None:
    """Write a table in one step, or not at all."""
    handle, scratch = tempfile.mkstemp(prefix=f".{key}", dir=folder)
    os.close(handle)
    try:
        table.to_parquet(scratch, index=False)
        os.replace(scratch, folder / f"{key}-{_checksum(Path(scratch).read_bytes())}.parquet")
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
