"""Forecasting: windows a second in training, beside a plain loop that runs the teacher at every step.

    python -m benchmarks.forecasting [--patients sim-01] [--epochs 5] [--window_stride 2] [--repeats 3]

Teacher and student are Time-LLMs of six and two layers around builtin:minilm-l6, on builtin:glucose-sim. The contenders
take turns in one process: `cached` is this project's training, its teacher run once, which is in the time; `plain` is
PyTorch alone, with the same models, batches and loss. `control` has no teacher: no distillation can be faster.
"""

import argparse
import copy
import os
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import create_autospec

import torch

from kd import tracking
from kd.base.console import hushed
from kd.base.types import Objective
from kd.config import DistillConfig
from kd.models.precision import autocast_dtype, resolve_precision
from kd.run import fit as learning
from kd.run.data import Rows, load_rows
from kd.run.distill import shape, terms_between
from kd.run.encode import encoder
from kd.run.locate import Loaded, load
from kd.run.plan import Plan
from kd.run.signals import TeacherSignals
from kd.tasks.forecasting.options import ForecastingOptions
from kd.training.sampler import LengthGroups


@dataclass(frozen=True)
class Setting:
    """What all contenders train."""

    config: DistillConfig
    rows: Rows
    teacher: Loaded
    student: Loaded


def setting(given: argparse.Namespace) -> Setting:
    """Load data and models."""
    options = ForecastingOptions(
        patients=given.patients, window_stride=given.window_stride, prompt=given.prompt, prototypes=given.prototypes
    )
    config = DistillConfig(
        dataset="builtin:glucose-sim",
        task="forecasting",
        task_options=options,
        teacher="builtin:minilm-l6",
        epochs=given.epochs,
        batch_size=32,
        learning_rate=1e-3,
        precision=given.precision,
    )
    rows = load_rows(config)
    teacher = load(rows.task, "builtin:minilm-l6", "teacher", finished=False)
    rows.task.condensed(teacher.model)  # as one that is finished
    small = replace(options, backbone_layers=2)
    task = replace(rows.task, options=small)  # type: ignore[type-var]  # a task is a dataclass
    return Setting(config, rows, teacher, load(task, "builtin:minilm-l6", "student", finished=False))


def ours(one: Setting, guided: bool) -> float:
    """Return the seconds that this project trains, with an empty cache."""
    config, rows = one.config, one.rows
    model = copy.deepcopy(one.student.model)
    terms = terms_between(config, shape(model), shape(one.teacher.model)) if guided else ()
    plan = Plan(
        *("distill", "distilled", "bench", "student", config.seed),
        model=model,
        processor=one.student.processor,
        rows=rows,
        features=encoder(config, rows, one.student.processor),
        identity={},
        objective=Objective(terms, {}, config.alpha),
        teacher=one.teacher,
        signals=TeacherSignals(replace(config, cache="on"), rows, one.teacher),
    )
    run = create_autospec(tracking.Run, instance=True)
    plan.features("train")
    with tempfile.TemporaryDirectory() as scratch, hushed():
        began = time.perf_counter()
        learning._fit(plan, config, run, Path(scratch), lambda quality, epoch: None)
        return time.perf_counter() - began


def plain(one: Setting) -> float:
    """Return the seconds of a loop as written by hand, which runs the teacher at every step and validates as often."""
    config, task = one.config, one.rows.task
    features = encoder(config, one.rows, one.student.processor)("train")
    validation = encoder(config, one.rows, one.student.processor)("validation")
    collate, student, teacher = task.collate(None), copy.deepcopy(one.student.model), one.teacher.model.eval()
    dtype = autocast_dtype(resolve_precision(config.precision))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    student.to(device).train()
    teacher.to(device)
    learned = [weight for weight in student.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=config.learning_rate, weight_decay=config.weight_decay)
    order = LengthGroups(features["length"], config.batch_size, config.seed)
    began = time.perf_counter()
    for _ in range(config.epochs):
        places = list(order)
        for start in range(0, len(places), config.batch_size):
            batch = collate(features.__getitems__(places[start : start + config.batch_size])).to(device)
            with torch.autocast(device, dtype=dtype, enabled=dtype is not None):
                with torch.no_grad():
                    said = task.outputs(teacher(**batch.inputs), batch)["forecast"]
                raw = student(**batch.inputs)
                total, count = task.loss(raw, batch)
                loss = 0.5 * (task.outputs(raw, batch)["forecast"] - said).square().mean() + 0.5 * total / count
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(learned, 1.0)
            optimizer.step()
        _validate(student, validation, collate, 2 * config.batch_size, device)
    return time.perf_counter() - began


def _validate(student: Any, validation: Any, collate: Any, size: int, device: str) -> None:
    student.eval()
    with torch.inference_mode():
        for start in range(0, len(validation), size):
            places = list(range(start, min(start + size, len(validation))))
            student(**collate(validation.__getitems__(places)).to(device).inputs)
    student.train()


def main() -> None:
    """Measure, the contenders in turn, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", default="sim-01")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--window_stride", type=int, default=2)
    parser.add_argument("--prompt", default="short", choices=("none", "short", "full"))
    parser.add_argument("--prototypes", type=int, default=100)
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    one = setting(given)
    windows = len(one.rows.train) * given.epochs
    contenders = {"cached": lambda: ours(one, True), "plain": lambda: plain(one), "control": lambda: ours(one, False)}
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(given.repeats):
        for name, train in contenders.items():
            with tempfile.TemporaryDirectory() as home:
                os.environ["KD_HOME"] = home
                taken[name].append(train())
            print(f"{turn + 1}/{given.repeats} {name}: {windows / taken[name][-1]:.0f} windows/s", flush=True)
    for name, seconds in taken.items():
        print(f"{name}: {windows / median(seconds):.0f} windows a second (median of {given.repeats})")
    print(f"cached / plain: {median(taken['plain']) / median(taken['cached']):.2f}")


if __name__ == "__main__":
    main()
