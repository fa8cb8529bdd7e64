"""Log a model as it is served."""

from pathlib import Path

from datasets import Dataset

from kd import tracking
from kd.base.task import Task
from kd.serving import package


def log_served(run: tracking.Run, task: Task, validation: Dataset, folder: Path) -> str:
    """Log the model in `folder` into `run`, with its answers to an example of real inputs; returns its URI."""
    example = task.requests(validation.select(range(min(3, len(validation)))))
    given = package.answer(task.served, folder, example)
    run.log_text(given.to_json(orient="records"), tracking.ANSWERS)
    needed = package.requirements(package.read_settings(folder)["format"])
    return tracking.log_model(task.served, folder, example, given, needed)
