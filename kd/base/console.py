"""What the user reads while a stage runs."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rich.console import Console
from rich.table import Table

console = Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else 140)
_HUSHED = ContextVar("hushed", default=False)


def say(text: str) -> None:
    """Print one line for the user."""
    if not _HUSHED.get():
        console.print(text, soft_wrap=True)


def lay(table: Table) -> None:
    """Print a table for the user."""
    if not _HUSHED.get():
        console.print(table)


@contextmanager
def hushed() -> Iterator[None]:
    """Say nothing meanwhile: one of many trainings is running, and a line a trial is enough."""
    token = _HUSHED.set(True)
    try:
        yield
    finally:
        _HUSHED.reset(token)


def log_plainly() -> None:
    """Show this project's own warnings as they are, and what the libraries say of a store that fails not at all."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("kd").setLevel(logging.INFO)
    for told in ("urllib3", "mlflow.store.db.utils", "mlflow.system_metrics"):
        logging.getLogger(told).setLevel(logging.CRITICAL)  # a store that fails is told in the one line at the end
