"""A store that is not there yet: made by one process, while the others wait; a SQLite file whole or not at all."""

import os
import re
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from alembic.util import CommandError
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from kd.base.files import home, locked, remove_left
from kd.base.hashing import text_digest
from kd.base.processes import mark

T = TypeVar("T")
RACE = re.compile("already exists|duplicate|unique constraint|deadlock|expected to match one row", re.IGNORECASE)
"""What databases and MLflow say where two processes make the same table or entry at once."""
PAUSES_S = (1.0, 2.0, 4.0, 8.0)
STILL_S = 5.0
"""A file with some tables that has not changed for so long is one whose maker was killed."""
POLL_S = 0.2
FIRST = {"alembic_version": 1, "workspaces": 1}
"""Rows that the tables of an empty store may have; the experiment `Default` comes last."""


def prepare(uri: str) -> None:
    """Make the tables of a SQLite store that is not there, or whose maker was killed before anything was kept in it.

    MLflow makes them one by one, so that of several processes all but one fail, and a kill leaves a file that none can
    open. Raises OSError where the file cannot be written.
    """
    name = make_url(uri).database if uri.startswith("sqlite:") else None
    if name in (None, "", ":memory:"):
        return
    path = Path(name).resolve()
    remove_left(path.parent, f".{path.name}.*")
    if not _is_to_be_made(path):
        return
    locks = home() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with locked(locks / f"store-{text_digest(str(path))[:16]}.lock"):
        if _is_to_be_made(path) and (not path.exists() or _stands_still(path)):
            _make(path)


def _is_to_be_made(path: Path) -> bool:
    """Whether there is no store yet: no file, or one with MLflow's tables, not all perhaps, and nothing in them."""
    if not path.exists():
        return True
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if tables - {"alembic_version"} and not {"experiments", "runs"} <= tables:
                return False  # another program's
            return all(
                database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] <= FIRST.get(name, 0)  # noqa: S608
                for name in tables
            )
    except sqlite3.Error:  # MLflow says what is wrong with it
        return False


def _stands_still(path: Path) -> bool:
    """Wait for whoever makes the tables now; returns whether nobody does."""
    seen, since = None, time.monotonic()
    while _is_to_be_made(path):
        if (now := path.stat()[6:]) != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > STILL_S:
            return True
        time.sleep(POLL_S)
    return False


def _make(path: Path) -> None:
    """Make a store under another name, and give it its own in one step, unless another process was quicker."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{mark()}.tmp")
    try:
        MlflowClient(f"sqlite:///{quote(str(scratch))}").search_experiments(max_results=1)
        for rest in ("-journal", "-wal", "-shm"):  # of a file that was cut short: SQLite would apply it to this one
            path.with_name(f"{path.name}{rest}").unlink(missing_ok=True)
        if path.exists():
            os.replace(scratch, path)
        else:
            _named(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def _named(scratch: Path, path: Path) -> None:
    """Give a file a second name, unless there is a file of that name."""
    try:
        os.link(scratch, path)
    except FileExistsError:
        return
    except OSError:  # a file system without links
        os.rename(scratch, path)


def settled(act: Callable[[], T]) -> T:
    """Do something with a store, again where another process was making the same tables or entries meanwhile."""
    for pause in PAUSES_S:
        try:
            return act()
        except (SQLAlchemyError, MlflowException, CommandError) as error:
            if not RACE.search(str(error)):
                raise
            time.sleep(pause)
    return act()
