"""One mutated input and what became of it."""

import random
import re
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from kd.base.types import UserError

Kind: TypeAlias = Callable[[random.Random, Path], Iterable[str]]
"""Makes an input in an empty folder, reads it by the function that commands use, and returns the notes a user reads.

All chance comes from the generator, so that the number of an input makes it again. Raises UserError where the input is
refused, and AssertionError where it was read as something else.
"""
Class = Literal["read", "read with a note", "refused in one line", "fault"]
LONGEST = 1_500
"""Characters of a message that a user still reads."""
NO_WORDS = re.compile(r"Traceback|<class '| object at 0x|[\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff]")
"""What is no message for a user: of Python's own, of several lines, or with signs that no terminal shows."""


@dataclass(frozen=True)
class Outcome:
    """What became of an input: its class, and the words that say it, or the stack trace."""

    number: int
    kind: Class
    said: str = ""


def tried(kind: Kind, number: int, folder: Path) -> Outcome:
    """Make input `number` of a kind in an empty folder, and read it."""
    try:
        notes = list(kind(random.Random(number), folder))  # noqa: S311
    except UserError as error:
        return _judged(number, "refused in one line", [str(error)])
    except Exception:
        return Outcome(number, "fault", traceback.format_exc(limit=-12))
    return _judged(number, "read with a note" if notes else "read", notes)


def _judged(number: int, kind: Class, messages: list[str]) -> Outcome:
    wrong = [said for said in messages if not said or len(said) > LONGEST or NO_WORDS.search(said)]
    return (
        Outcome(number, "fault", f"no message for a user: {wrong[0]!r}")
        if wrong
        else Outcome(number, kind, " | ".join(messages))
    )


def some(chance: random.Random, values: Iterable[Any], most: int) -> list[Any]:
    """Draw up to `most` of the values, none of them twice; zero is as likely as any number."""
    known = list(values)
    return chance.sample(known, chance.randint(0, min(most, len(known))))
