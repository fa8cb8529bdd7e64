"""The tasks. A new task is a folder here, a line in TASKS and a word in TaskName.

A task is imported when it is first needed; its options import nothing heavy, because `--help` reads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

from kd.base.types import TaskName
from kd.config import TaskOptions
from kd.tasks.classification.options import ClassificationOptions
from kd.tasks.forecasting.options import ForecastingOptions

if TYPE_CHECKING:
    from kd.base.task import Task


@dataclass(frozen=True)
class TaskEntry:
    """A value of the option `task`: the dataclass of its own options, and `module:class` of the task."""

    options: type[TaskOptions]
    place: str


TASKS: dict[TaskName, TaskEntry] = {
    "classification": TaskEntry(ClassificationOptions, "kd.tasks.classification.task:Classification"),
    "forecasting": TaskEntry(ForecastingOptions, "kd.tasks.forecasting.task:Forecasting"),
}


def task_named(name: str) -> type[Task]:
    """Return the task of that name; raises KeyError for an unknown name."""
    module, _, kind = TASKS[cast("TaskName", name)].place.partition(":")
    return cast("type[Task]", getattr(import_module(module), kind))


def options_of(name: str) -> type[TaskOptions]:
    """Return the dataclass of a task's own options; raises KeyError for an unknown name."""
    return TASKS[cast("TaskName", name)].options
