"""Log a model as it is served, and measure it as it is served."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from datasets import Dataset

from kd import tracking
from kd.base.budgets import budgets_of
from kd.base.disk import SAID
from kd.base.task import Task
from kd.base.types import DiskFull, UserError
from kd.config import FitOptions
from kd.serving import package


def log_served(run: tracking.Run, task: Task, validation: Dataset, folder: Path) -> str:
    """Log the model in `folder` into `run`, with its answers to an example of real inputs; returns its URI."""
    example = task.requests(validation.select(range(min(3, len(validation)))))
    given = package.answer(task.served, folder, example)
    run.log_text(given.to_json(orient="records"), tracking.ANSWERS)
    needed = package.requirements(package.read_settings(folder)["format"])
    return tracking.log_model(task.served, folder, example, given, needed)


def is_profiled(metrics: Mapping[str, float]) -> bool:
    """Whether a run's model has been measured, on any machine."""
    return "profile/latency_ms_p50" in metrics


def measure_apart(model: str, run_id: str, budgets: FitOptions | None = None) -> None:
    """Profile a logged model in a fresh process and log the figures into a run.

    Raises:
        UserError: the model or its store cannot be used.
        RuntimeError: profiling failed for another reason.
    """
    words = [sys.executable, "-m", "kd", "measure", "--model", model, "--into_run", run_id]
    for name, value in budgets_of(budgets).items():
        words += [f"--{name}", str(value)]
    places = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(places)}
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    if done.returncode == 2 and SAID.search(last):
        raise DiskFull(last.removeprefix("error: "))
    if done.returncode == 2:
        raise UserError(last.removeprefix("error: "))
    if done.returncode:
        raise RuntimeError(f"profiling failed: {last}")
