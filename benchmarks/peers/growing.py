"""kd's loop with cached logits on many rows: time a row and peak RAM, after some steps and one checkpoint.

python -m benchmarks.peers.growing FOLDER --rows FOLDER_OF_ROWS --steps 200

All rows are encoded, and the logits of all of them are cached and opened. They come from a stand-in that draws them at
random, because a real teacher takes many minutes over 100,000 rows; the loop does not know the difference.
"""

import argparse
import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from datasets import load_from_disk

from benchmarks.peers.common import Workload, load_models, peak_mib
from kd.base.types import Objective, Stopped
from kd.config import FitOptions
from kd.data.encoded import encoded
from kd.objectives import Comparison
from kd.objectives.distributions import soft_kl
from kd.tasks.classification.task import Classification
from kd.teacher.signal import Wanted, teacher_signal
from kd.training.loop import Job, fit

SETTLED = 10
"""Steps before the clock starts."""


@dataclass(frozen=True)
class StandIn:
    """Random logits in the place of a teacher's."""

    lengths: np.ndarray
    options: int

    def __call__(self, features: np.ndarray) -> Iterator[dict[str, list[torch.Tensor]]]:
        """Yield logits for these features, one position each."""
        for start in range(0, len(features), 64):
            yield {"outputs.logits": list(torch.randn(len(features[start : start + 64]), 1, self.options))}


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--rows", required=True)
    parser.add_argument("--steps", type=int, required=True)
    options = parser.parse_args()
    workload = Workload.load(options.folder)
    trio = load_models(workload)
    student, names = trio.student, tuple(trio.student.config.id2label.values())
    trio.teacher = None
    with tempfile.TemporaryDirectory() as home:
        os.environ["KD_HOME"] = home
        task = Classification("text", "", "label", workload.max_length, names)
        clock = [time.perf_counter()]
        how = partial(task.encode, processor=trio.tokenizer)
        features = encoded(load_from_disk(options.rows), how, {}, {})
        clock.append(time.perf_counter())
        encoded_mib = peak_mib()
        teacher = StandIn(np.asarray(features["length"]), len(names))
        cached = teacher_signal(Wanted("0" * 32, len(features)), lambda: teacher)
        clock.append(time.perf_counter())
        seen: list[tuple[int, float]] = []

        def report(_: object, step: int) -> None:
            seen.append((step, time.perf_counter()))
            if step >= options.steps:
                os.kill(os.getpid(), signal.SIGTERM)  # a checkpoint, and an end

        epochs = -(-options.steps * workload.batch_size // len(features))
        settings = FitOptions(
            dataset="bench",
            epochs=epochs,
            batch_size=workload.batch_size,
            learning_rate=workload.learning_rate,
            warmup_ratio=workload.warmup_ratio,
            weight_decay=workload.weight_decay,
            patience=0,
            seed=workload.seed,
            checkpoint_every_s=0.0,
        )
        job = Job(
            model=student,
            features=features,
            collate=task.collate(trio.tokenizer),
            task=task,
            objective=Objective((Comparison("soft", soft_kl, (workload.temperature,)),), {}, workload.alpha),
            teacher=cached,
            validate=lambda _: {"accuracy": 0.0},
            metric=("accuracy", True),
            report=report,
            watch=None,
            folder=Path(home) / "checkpoints",
            title="",
        )
        with suppress(Stopped):
            fit(job, settings)
    settled = next(each for each in seen if each[0] >= SETTLED)
    steps, spent = (last - first for first, last in zip(settled, seen[-1], strict=True))
    figures = {
        "step_ms": 1000 * spent / steps,
        "ram_peak_mib": peak_mib(),
        "ram_peak_encoding_mib": encoded_mib,
        "encode_ms_per_1000": 1e6 * (clock[1] - clock[0]) / len(features),
        "fill_ms_per_1000": 1e6 * (clock[2] - clock[1]) / len(features),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
