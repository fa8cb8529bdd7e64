"""Reads a command line into the dataclass of an entry point, and words what is wrong with it plainly."""

import difflib
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any, NoReturn, TypeVar, get_args, get_type_hints

from jsonargparse import ArgumentParser, set_parsing_settings

from kd.base.types import UserError

Config = TypeVar("Config")


class _Parser(ArgumentParser):
    """Raises a wrong option as the user's mistake, in plain words."""

    types: Mapping[str, Any]

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        line = " ".join(message.split())
        if missing := re.search(r"arguments are required: (\w+)", line):
            raise UserError(f"{missing[1]} is missing: give --{missing[1]}, or see --help")
        if wrong := re.search(r'^Parser key "(\w+)".*(?:Got|Given) value: (.*)$', line):
            option, value = wrong.groups()
            raise UserError(f"{option}={value!r} is not understood: give {_plain(self.types[option])}")
        raise UserError(f"{line}; see --help")


def parse(config: type[Config], arguments: Sequence[str] | None = None) -> Config:
    """Read the command line into `config`.

    Arguments that are empty or `None` count as not given: that is how `mlflow run` passes an optional parameter.

    Raises:
        UserError: an unknown option, a value of the wrong type or out of range, a missing option.
        SystemExit: after `--help`.
    """
    hints = get_type_hints(config)
    switches = {f"--{option}" for option, kind in hints.items() if kind is bool}
    given = _without_empty(list(sys.argv[1:] if arguments is None else arguments), switches)
    known = [field.name for field in fields(config)]  # type: ignore[arg-type]
    _refuse_unknown(given, known)
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    name = config.__name__.removesuffix("Config").lower()
    parser = _Parser(prog=f"python -m entrypoints.{name}", description=config.__doc__, allow_abbrev=False)
    parser.types = hints
    parser.add_class_arguments(config, as_group=False)
    values = parser.parse_args(given)
    return config(**{option: values[option] for option in known})


def _plain(allowed: Any) -> str:
    """Say in words what a type allows."""
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    options = [option for option in get_args(allowed) if option is not type(None)]
    if options and not isinstance(options[0], str):
        return " or ".join(_plain(option) for option in options)
    return "one of " + ", ".join(options) if options else words[allowed]


def _without_empty(arguments: list[str], switches: Collection[str]) -> list[str]:
    kept: list[str] = []
    rest = list(reversed(arguments))
    while rest:
        word = rest.pop()
        if word in switches and (not rest or rest[-1].startswith("--")):
            kept += [word, "true"]
        elif word.startswith("--") and "=" not in word:
            value = rest.pop() if rest else None
            if value not in ("", "None"):
                kept += [word] if value is None else [word, value]
        elif not (word.startswith("--") and word.endswith(("=", "=None"))):
            kept.append(word)
    return kept


def _refuse_unknown(arguments: list[str], known: list[str]) -> None:
    for word in arguments:
        option = word[2:].split("=")[0]
        if word.startswith("--") and option not in (*known, "help"):
            near = difflib.get_close_matches(option, known, n=1)
            hint = f"did you mean --{near[0]}?" if near else f"known: {', '.join(known)}"
            raise UserError(f"unknown option --{option}: {hint}")
