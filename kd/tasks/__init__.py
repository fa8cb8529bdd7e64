"""What is learned. A new task is one file or folder here and one line in TASKS."""

from kd.base.task import Task
from kd.base.types import TaskName
from kd.tasks.classification import Classification

TASKS: dict[TaskName, type[Task]] = {"classification": Classification}
