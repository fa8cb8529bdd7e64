"""Reads a command line into the dataclass of an entry point, and says plainly what is wrong with it."""

import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise

from kd.base.console import did_you_mean, print_last, shown
from kd.base.types import UserError
from kd.config.base import TaskOptions
from kd.config.help import described
from kd.config.options import ABSENT, Kind, Option, options_from, options_in


def parse(kind: type[Kind], tasks: Mapping[str, type[TaskOptions]], arguments: Sequence[str] | None = None) -> Kind:
    """Read the command line into options of this kind; `tasks` are what `task` may be, and the options that each adds.

    `arguments` are the words after the command's name; those of this process where not given.

    Raises:
        UserError: an unknown option, a value of the wrong type or out of range, a missing option.
        SystemExit: after `--help`.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    task, options = "", TaskOptions
    known = options_in(kind)
    if "task" in known:
        task = _named_task(words) or known["task"].default
        if task not in tasks:
            raise UserError(f"task={shown(task)} is not understood: give one of {', '.join(tasks)}")
        options = tasks[task]
        known = options_in(kind, options)
    texts = _texts(words, known)
    if "help" in texts:
        print_last(described(kind, known, tasks, task).format_help())
        sys.exit()
    if unknown := [name for name in texts if name not in known]:
        hint = did_you_mean(unknown[0], known, f"known: {', '.join(known)}", "--")
        raise UserError(f"unknown option --{unknown[0][:80]}: {hint}")
    return options_from(kind, options, texts)


def _named_task(words: Sequence[str]) -> str:
    """Return the task that is named, or "": it is needed before the options are known."""
    named = [after for word, after in pairwise([*words, ""]) if word == "--task"]
    named += [word.removeprefix("--task=") for word in words if word.startswith("--task=")]
    return named[-1] if named and named[-1] not in ABSENT else ""


def _texts(words: Sequence[str], known: Mapping[str, Option]) -> dict[str, str]:
    """Return what is given for each option, by its name; of two the last. A switch without a value is on."""
    found: dict[str, str] = {}
    rest = list(reversed(words))
    while rest:
        word = "--help" if (word := rest.pop()) == "-h" else word
        name, equals, text = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not name:
            raise UserError(f"{shown(word)} belongs to no option: give --NAME VALUE, and quote a value that has blanks")
        after = rest[-1] if rest else "--help"  # the end is no value, as an option is none
        switch = name in known and known[name].kind is bool
        if equals or name == "help":
            found[name] = text
        elif switch and after.startswith("--"):
            found[name] = "true"
        elif not (after.startswith("--") and after[2:].partition("=")[0] in {*known, "help"}):
            found[name] = rest.pop()
        elif name in known:
            raise UserError(f"{name} has no value: give {known[name].allowed}, as --{name} VALUE")
        else:
            found[name] = ""
    return found
