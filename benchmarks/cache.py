"""What keeping the teacher's outputs costs: while they are written, and at every training step that reads them.

Contenders take turns within one process, so that they share model, data and the machine's mood: the same teacher over
the same batches of tokens, bare and into the cache; and a training step, of which the reading is timed apart.
"""

import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from benchmarks.results import Result, Settings, fresh
from kd.base.types import OUTPUTS, Batch, Features, PrecisionName
from kd.config import RowOptions
from kd.data.encoded import encoded
from kd.data.sources import load
from kd.models.load import fetch_weights
from kd.models.precision import autocast_dtype, resolve_precision
from kd.models.students import build_student
from kd.objectives.distributions import soft_kl
from kd.run.signals import TOKENS_CPU
from kd.tasks.classification.task import Classification
from kd.teacher.run import TeacherPass
from kd.teacher.signal import TeacherSignal, Wanted, teacher_signal
from kd.training.sampler import LengthGroups

WRITING, READING = "Teacher cache: writing", "Teacher cache: reading"
CONTENTS = {"logits": (OUTPUTS,), "logits and 2 hidden layers": (OUTPUTS, "hidden.2", "hidden.5")}
Told = tuple[list[dict[str, float]], str]
"""Figures of each repeat, and what a reader must know."""
ROWS, STEPS, BATCH, SEED = 1024, 60, 32, 0


def measure(settings: Settings) -> list[Result]:
    """Return a line for each of writing and reading, what is kept, and precision."""
    told = []
    for precision in dict.fromkeys([resolve_precision("auto"), *([] if settings.quick else ["fp32"])]):
        told += fresh(["benchmarks.cache", json.dumps(asdict(settings)), precision])["lines"]
        print(f"cache, {precision}", file=sys.stderr, flush=True)
    return sorted((Result.of(*line) for line in told), key=lambda line: line.section, reverse=True)


def work(settings: Settings, contents: tuple[str, ...], precision: PrecisionName) -> TeacherPass:
    """Make a MiniLM-L6 with texts of the data."""
    task = Classification(settings.text_column, "", settings.label_column)
    splits = load(RowOptions(dataset=settings.dataset), task.inputs, task.target, task.holds)
    task = task.fitted(splits)
    order = np.random.default_rng(SEED).permutation(len(splits.train))[:ROWS]
    folder = fetch_weights("builtin:minilm-l6", "teacher")
    model, tokenizer = task.load(folder, "teacher", finished=False)
    return TeacherPass(
        model,
        encoded(splits.train.select(order), lambda part: task.encode(part, tokenizer), {}, {}),
        task.collate(tokenizer),
        task,
        contents,
        autocast_dtype(precision),
        tokens=TOKENS_CPU,
    )


def write(settings: Settings, contents: tuple[str, ...], precision: PrecisionName) -> Told:
    """Compare a bare pass of the teacher with one whose outputs are kept."""
    teacher = work(settings, contents, precision)
    batches = list(token_batches(teacher))
    bare(teacher, batches[:2])
    repeats = []
    for turn in range(settings.repeats):
        ticks = [ticked()]
        bare(teacher, batches)
        ticks.append(ticked())
        cached(teacher, f"{turn}")
        ticks.append(ticked())
        (pure, pure_cpu), (kept, kept_cpu) = np.diff(ticks, axis=0).tolist()
        speeds = {"pure_rows_per_s": len(teacher.lengths) / pure, "writing_rows_per_s": len(teacher.lengths) / kept}
        repeats.append(speeds | {"share_pct": 100 * pure / kept, "cpu_share_pct": 100 * pure_cpu / kept_cpu})
    padded = sum(len(taken) * int(teacher.lengths[taken].max()) for taken in batches)
    notes = f"{len(batches)} forwards of at most {TOKENS_CPU} tokens, {1 - teacher.lengths.sum() / padded:.1%} padding"
    return repeats, notes


def ticked() -> tuple[float, float]:
    """Return s by the clock, and s of work of this process, which other processes disturb less."""
    return time.perf_counter(), time.process_time()


def token_batches(teacher: TeacherPass) -> Iterator[np.ndarray]:
    """Yield features, longest first, as many at a time as the teacher takes."""
    order = np.argsort(-teacher.lengths, kind="stable")
    start = 0
    while start < len(order):
        stop = start + max(teacher.tokens // int(teacher.lengths[order[start]]), 1)
        yield order[start:stop]
        start = stop


def bare(teacher: TeacherPass, batches: list[np.ndarray]) -> list[torch.Tensor]:
    """Run the model as a plain loop would: collate, forward, fetch the logits."""
    autocast = torch.autocast("cpu", dtype=teacher.autocast) if teacher.autocast else nullcontext()
    found = []
    with torch.inference_mode(), autocast:
        for taken in batches:
            batch = teacher.collate(teacher.features.__getitems__(taken.tolist()))
            found.append(teacher.model(**batch.inputs).logits.float().cpu())
    return found


def cached(teacher: TeacherPass, key: str) -> TeacherSignal:
    """Fill a cache, or open the one that is there."""
    return teacher_signal(Wanted(key, len(teacher.lengths), teacher.contents), lambda: teacher, "on")


def read(settings: Settings, contents: tuple[str, ...], precision: PrecisionName) -> Told:
    """Time the reading within a training step of a 2-layer student, the step bare of Trainer and objective's extras."""
    teacher = work(settings, contents, precision)
    cached(teacher, "read")
    student = build_student(cast(PreTrainedModel, teacher.model), 2, (0, 5), SEED).train()
    optimiser = torch.optim.AdamW(student.parameters(), lr=1e-4, fused=True)
    repeats = []
    for turn in range(settings.repeats):
        start = time.perf_counter()
        signal = cached(teacher, "read")
        opening = time.perf_counter() - start
        reading, whole = [], []
        for batch in batches_of(teacher.features, teacher.collate, turn):
            start = time.perf_counter()
            target = signal(batch.features).outputs["logits"]
            reading.append(time.perf_counter() - start)
            step(student, optimiser, batch, cast(torch.Tensor, target), teacher.autocast)
            whole.append(time.perf_counter() - start)
        rest = sum(whole) - sum(reading)
        figures = {"read_ms": 1000 * sum(reading) / len(reading), "step_ms": 1000 * rest / len(reading)}
        repeats.append(figures | {"added_pct": 100 * sum(reading) / rest, "opening_ms": 1000 * opening})
    return repeats, f"batch {BATCH}, {len(reading)} steps, rows of like length together"


def batches_of(features: Features, collate: Any, seed: int) -> Iterator[Batch]:
    """Yield training batches in the order of a training."""
    order = [*LengthGroups(features["length"], BATCH, seed)]
    for start in range(0, min(len(order), STEPS * BATCH), BATCH):
        yield collate(features.__getitems__(order[start : start + BATCH]))


def step(student: Any, optimiser: Any, batch: Batch, target: torch.Tensor, dtype: torch.dtype | None) -> None:
    """Do one update towards labels and teacher."""
    with torch.autocast("cpu", dtype=dtype) if dtype else nullcontext():
        logits = student(**batch.inputs).logits.float()
    total, count = soft_kl(logits, target, torch.ones(len(target), dtype=torch.bool), 2.0)
    (F.cross_entropy(logits, batch.truth["labels"]) + total / count).backward()
    optimiser.step()
    optimiser.zero_grad()


if __name__ == "__main__":
    given, wished = sys.argv[1:]
    lines = []
    for (section, part), (name, kept) in itertools.product({WRITING: write, READING: read}.items(), CONTENTS.items()):
        with tempfile.TemporaryDirectory() as scratch:
            os.environ["KD_HOME"] = scratch
            told, notes = part(Settings(**json.loads(given)), kept, wished)  # type: ignore[arg-type]
        lines.append([section, f"{name}, {wished}", told, notes])
    print(json.dumps({"lines": lines}))
