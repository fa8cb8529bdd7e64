"""What lines and tables are drawn with. Imported by what draws alone: rich takes a third of the time of `--help`."""

import sys
from typing import Any

from rich import table
from rich.console import Console

from kd.base.harmless import harmless

WIDTH = 100
"""Columns of a terminal that is not known, and the most that tables take."""
console = Console(markup=False, emoji=False, highlight=False, width=None if sys.stdout.isatty() else WIDTH)


class Table(table.Table):
    """A table whose cells are text that does nothing to the terminal."""

    def add_row(self, *cells: Any, **kwargs: Any) -> None:
        """Add a row."""
        super().add_row(*(harmless(cell) if isinstance(cell, str) else cell for cell in cells), **kwargs)
