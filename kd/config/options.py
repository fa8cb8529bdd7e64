"""Options by name: listed with their types, read from text, looked up and changed, be they a command's or a task's."""

import ast
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from functools import cache
from itertools import pairwise
from types import NoneType
from typing import Any, TypeVar, get_args, get_type_hints

from kd.base.console import shown
from kd.base.numbers import number, whole
from kd.base.types import UserError
from kd.config.base import Group, Options, TaskOptions
from kd.config.objective import OBJECTIVE_NAMES, allowed_objectives

Kind = TypeVar("Kind", bound=Options)
NESTED = "task_options"
"""The one field that is no option itself: its fields are."""
ABSENT = ("", "None")
"""Texts that count as not given: that is how `mlflow run` passes an optional parameter."""


READ: Mapping[Any, Callable[[str], Any]] = {int: whole, float: number, str: str}
PLAINLY = {
    int: "a whole number, such as 12",
    float: "a finite number, such as 0.5 or 1e-5",
    bool: "true or false",
    str: "text",
}


@dataclass(frozen=True)
class Option:
    """One option, as in `--name`."""

    name: str
    kind: Any
    """Its type, beside None: int, float, str, bool or a Literal."""
    default: Any
    """Its value where it is not given; MISSING where it must be."""
    help: str
    """Its meaning, unit and range."""
    heading: str
    """What `--help` groups it under."""
    offered: tuple[str, ...] = OBJECTIVE_NAMES
    """For `objective`: the names that the task has."""

    @property
    def words(self) -> tuple[str, ...]:
        """The words it takes; empty where it is a number, a switch or free text."""
        return get_args(self.kind)

    @property
    def allowed(self) -> str:
        """What it takes, in words."""
        return f"one of {', '.join(self.words)}" if self.words else PLAINLY[self.kind]

    def read(self, text: str) -> Any:
        """Return the value that a text means. Raises UserError where it means none."""
        switch = {"true": True, "false": False}
        try:
            if self.words:
                return self.words[self.words.index(text)]
            return switch[text.lower()] if self.kind is bool else READ[self.kind](text)
        except (KeyError, ValueError):
            raise UserError(f"{self.name}={shown(text)} is not understood: give {self.allowed}") from None


def options_in(kind: type[Options], task: type[TaskOptions] = TaskOptions) -> Mapping[str, Option]:
    """Return the options of an entry point by name, its task's among them, in the order of their fields."""
    listed = [each for one in _fields_of(kind) for each in (_fields_of(task) if one.name == NESTED else [one])]
    found = {one.name: one for one in listed}
    if NESTED in _names(kind) and (twice := {*_names(task)} & {*_names(kind)}):
        raise TypeError(f"{task.__name__} and {kind.__name__} both have an option {min(twice)}")
    if "task" in found:  # tasks may be registered while this runs: `parse` is given them
        found["task"] = replace(found["task"], kind=str)
    found |= {name: replace(found[name], default=value) for name, value in task.defaults.items() if name in found}
    if "objective" in found:
        offered = ("none", *task.objectives)
        text = f"{found['objective'].help} {allowed_objectives(offered)}; a weight left out is 1."
        found["objective"] = replace(found["objective"], default=offered[1], offered=offered, help=text)
    return found


def _fields_of(kind: type[Options]) -> list[Option]:
    hints, marked, found = get_type_hints(kind), get_type_hints(kind, include_extras=True), []
    for field in fields(kind):
        hint = hints[field.name]
        plain = get_args(hint)[0] if NoneType in get_args(hint) else hint
        declaring = [base for base in kind.__mro__ if field.name in inspect.get_annotations(base)]
        texts = (_texts(base.__module__).get(base.__name__, {}).get(field.name) for base in declaring)
        groups = [one.heading for one in getattr(marked[field.name], "__metadata__", ()) if isinstance(one, Group)]
        heading = vars(declaring[-1]).get("heading", Options.heading)  # of the class that introduced it
        found.append(
            Option(field.name, plain, field.default, next(filter(None, texts), ""), next(iter(groups), heading))
        )
    return found


@cache
def _texts(module: str) -> dict[str, dict[str, str]]:
    """Return the text below each field of the classes of a module, by class and field; empty without source."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except OSError:
        return {}
    found: dict[str, dict[str, str]] = {}
    for kind in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        for one, after in pairwise(kind.body):
            if isinstance(one, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                found.setdefault(kind.name, {})[ast.unparse(one.target)] = " ".join(str(after.value.value).split())
    return found


def value_of(config: Options, name: str) -> Any:
    """Return the value of an option; KeyError where neither the entry point nor its task has it."""
    return as_params(config)[name]


def default_of(config: Options, name: str) -> Any:
    """Return what an option would be had it not been given, by the task of these options."""
    task: TaskOptions = getattr(config, NESTED, TaskOptions())
    return options_in(type(config), type(task))[name].default


def as_params(config: Options) -> dict[str, Any]:
    """Return all options by name, the task's among them: what is logged."""
    found = {name: getattr(config, name) for name in _names(type(config))}
    return found | as_params(found.pop(NESTED)) if NESTED in found else found


def as_words(config: Options) -> list[str]:
    """Return the options that differ from their defaults as words of a command line."""
    given = {name: value for name, value in as_params(config).items() if value != default_of(config, name)}
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]


def narrowed(kind: type[Kind], config: Options, **changes: Any) -> Kind:
    """Return the options that `kind` shares with `config`, with these changes; the task's may be among them."""
    values = {name: getattr(config, name) for name in _names(kind)}
    values |= {name: changes.pop(name) for name in values.keys() & changes}
    if changes:
        values[NESTED] = replace(values[NESTED], **changes)
    return kind(**values)


def with_options(config: Kind, **changes: Any) -> Kind:
    """Return options with these changes, each the entry point's or its task's."""
    return narrowed(type(config), config, **changes)


def options_from(kind: type[Kind], task: type[TaskOptions], texts: Mapping[str, str]) -> Kind:
    """Make options of their texts by name: of a command line, or what a run has logged, an old one too.

    What is absent, empty or `None` has its default; names that are no options are passed over. Raises UserError for
    a text that is not understood, a value out of range, or an option that must be given and is not.
    """
    known = options_in(kind, task)
    values = {name: known[name].read(text) for name, text in texts.items() if name in known and text not in ABSENT}
    if missing := [name for name, option in known.items() if option.default is MISSING and name not in values]:
        raise UserError(f"{missing[0]} is missing: give --{missing[0]}, or see --help")
    if NESTED in _names(kind):
        values = {name: value for name, value in task.defaults.items() if name in _names(kind)} | values
    own = {name: values.pop(name) for name in _names(task) if name in values}
    return kind(**values, **({NESTED: task(**own)} if NESTED in _names(kind) else {}))


def _names(kind: type[Options]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))
