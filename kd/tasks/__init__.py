"""What is learned. A new task is one file or folder here and one line in TASKS."""

from kd.base.judge import Judge
from kd.base.types import TaskName
from kd.tasks.base import Task
from kd.tasks.classification import Classification

TASKS: dict[TaskName, type[Task]] = {"classification": Classification}


def judge_of(name: str) -> type[Judge]:
    """Return what judges the predictions of a task, by the tag `kd.task` of its runs."""
    return next(kind for word, kind in TASKS.items() if word == name)
