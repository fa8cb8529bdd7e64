"""What is learned. A new task is one file or folder here and one line in TASKS.

The tasks themselves are imported when they are first needed; their options are light, and `--help` reads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

from kd.base.judge import Judge
from kd.base.types import TaskName
from kd.config import TaskOptions
from kd.tasks.classification.options import ClassificationOptions

if TYPE_CHECKING:
    from kd.base.task import Task


@dataclass(frozen=True)
class TaskEntry:
    """A task that can be named as `task`.

    Attributes:
        options: the dataclass of its own options.
        place: `module:class` of the task.
    """

    options: type[TaskOptions]
    place: str


TASKS: dict[TaskName, TaskEntry] = {
    "classification": TaskEntry(ClassificationOptions, "kd.tasks.classification.task:Classification"),
}


def task_named(name: str) -> type[Task]:
    """Return the task of that name; KeyError where there is none."""
    module, _, kind = TASKS[cast("TaskName", name)].place.partition(":")
    return cast("type[Task]", getattr(import_module(module), kind))


def judge_of(name: str) -> type[Judge]:
    """Return what judges the predictions of a task, by the tag `kd.task` of its runs; KeyError where there is none."""
    return task_named(name)


def options_of(name: str) -> type[TaskOptions]:
    """Return the dataclass of a task's own options; KeyError where there is no such task."""
    return TASKS[cast("TaskName", name)].options
