"""What the user reads while a stage runs."""

import sys

from rich.console import Console

console = Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else 140)


def say(text: str) -> None:
    """Print one line for the user."""
    console.print(text, soft_wrap=True)
