"""The options of an entry point by their names: today all are fields of one dataclass."""

from dataclasses import fields, replace
from typing import Any, TypeVar, get_type_hints

Config = TypeVar("Config")


def value_of(config: Any, name: str) -> Any:
    """Return the value of an option."""
    return getattr(config, name)


def with_options(config: Config, **changes: Any) -> Config:
    """Return options with other values of some."""
    return replace(config, **changes)  # type: ignore[type-var]


def options_in(kind: type, task_options_kind: type | None = None) -> dict[str, Any]:
    """Return option -> its type, of an entry point's dataclass and of the task's own."""
    return get_type_hints(kind) | (get_type_hints(task_options_kind) if task_options_kind else {})


def defaults_in(config: Any) -> dict[str, Any]:
    """Return option -> its default; an option that must be given has none."""
    return {field.name: field.default for field in fields(config)}
