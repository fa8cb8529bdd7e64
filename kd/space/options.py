"""The options of an entry point by their names: today all are fields of one dataclass."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar, get_type_hints

Config = TypeVar("Config")


@dataclass(frozen=True)
class Option:
    """An option: its type, and its default, which is dataclasses.MISSING where it must be given."""

    name: str
    kind: Any
    default: Any


def options_in(kind: type, task: type | None = None) -> Mapping[str, Option]:
    """Return the options of an entry point by name, those of the task among them."""
    found: dict[str, Option] = {}
    for each in (kind, *([task] if task else [])):
        hints = get_type_hints(each)
        found |= {one.name: Option(one.name, hints[one.name], one.default) for one in fields(each)}
    return found


def value_of(config: Any, name: str) -> Any:
    """Return the value of an option."""
    return getattr(config, name)


def default_of(config: Any, name: str) -> Any:
    """Return what an option would be had it not been given."""
    return options_in(type(config))[name].default


def with_options(config: Config, **changes: Any) -> Config:
    """Return options with these changes."""
    return replace(config, **changes)  # type: ignore[type-var]
