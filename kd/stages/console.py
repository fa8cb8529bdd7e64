"""What the user reads while a stage runs."""

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
