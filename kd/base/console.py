"""What the user reads while a command runs."""

import difflib
import logging
import os
import reprlib
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd.base.harmless import harmless
from kd.base.ranks import is_main

if TYPE_CHECKING:
    from kd.base.terminal import Table

_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = 200
_HUSHED = ContextVar("hushed", default=False)
_SAID: set[str] = set()


def program() -> str:
    """Return how a command is started where this one was: `kd`, else what works in a clone and once installed."""
    return "kd" if Path(sys.argv[0]).stem == "kd" else "python -m kd"


def command(*words: str) -> str:
    """Return the command line of a command's name and its options, for a message to the user."""
    return f"{program()} {shlex.join(words)}"


def did_you_mean(word: Any, known: Iterable[str], otherwise: str, prefix: str = "") -> str:
    """Ask whether an unknown word was meant to be the nearest known one; `otherwise` where none is like it."""
    found = difflib.get_close_matches(word[:50], known, n=1) if isinstance(word, str) else []
    return f"did you mean {prefix}{several(found)}?" if found else otherwise


def one_line(error: BaseException) -> str:
    """Return an error's text, or where it has none its kind, on one line that is not too long."""
    return harmless(" ".join(str(error).split()))[:300] or type(error).__name__


def shown(value: Any) -> str:
    """Return a value's repr on one line, cut where it is long."""
    return " ".join(_BRIEF.repr(value).split())


def several(words: Sequence[object], most: int = 20) -> str:
    """List words for a message: those with odd signs or of great length as Python writes them, and so many at most."""
    each = (word if isinstance(word, str) and word.isprintable() and len(word) <= 80 else shown(word) for word in words)
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(islice(each, most)) + more


def in_time(seconds: float) -> str:
    """Say roughly how long something takes."""
    minutes = seconds / 60
    return f"about {minutes:.0f} min" if minutes >= 1.5 else f"about {seconds:.0f} s"


def say(what: "str | Table") -> None:
    """Print a line or a table for the user; a name from data that has a line break in it begins no line."""
    if is_main() and not _HUSHED.get():
        from kd.base import terminal

        terminal.console.print(harmless(what) if isinstance(what, str) else what, soft_wrap=isinstance(what, str))


def say_once(line: str) -> None:
    """Print a line that this process has not printed this way before: each of many trainings would repeat it."""
    if not _HUSHED.get() and line not in _SAID:
        _SAID.add(line)
        say(line)


class _Plain(logging.Formatter):
    """A log line is as harmless as any other."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return harmless(super().formatMessage(record))


def print_last(text: str) -> None:
    """Print what this process prints last; `head` and pagers, which close a pipe early, make no error of it."""
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains when it ends


@contextmanager
def hushed() -> Iterator[None]:
    """Print nothing meanwhile: one of many trainings is running, and a line a trial is enough."""
    token = _HUSHED.set(True)
    try:
        yield
    finally:
        _HUSHED.reset(token)


def log_plainly() -> None:
    """Show this project's own warnings as they are, and hide those of libraries about a store that fails."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Plain("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("kd").setLevel(logging.INFO)
    for library in ("urllib3", "mlflow.store.db.utils", "mlflow.system_metrics", "mlflow.utils.databricks_utils"):
        logging.getLogger(library).setLevel(logging.CRITICAL)  # the one line at the end reports it
