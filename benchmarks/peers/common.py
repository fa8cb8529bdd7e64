"""What all contenders share, and all that they share: the same work, and the same measuring around it.

A contender is a function that trains a student. It runs once on a few other rows, because a library's first calls
cost more than later ones, and then timed: from raw texts and loaded models in memory to the trained student in memory.
Imports, loading of models and scoring are outside. Nothing of kd is imported here: peers have an environment of theirs.
"""

import copy
import json
import os
import re
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from benchmarks.results import UNSCORED

WARM_UP_ROWS = 32
SCORED_ROWS = 256
"""Of training and held-out rows each: the figures tell whether the contenders learned the same, no more."""
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class Workload:
    """One distillation, as it lies in a folder: `workload.json` beside `teacher/` and `student/`.

    Attributes:
        texts: training texts; `labels` are their classes, 0-based.
        other_texts: held-out texts, for the accuracy and the warm-up; `other_labels` are their classes.
        batch_size: rows a step.
        learning_rate: peak, with linear warm-up over `warmup_ratio` of the steps and linear decay to 0.
        max_length: tokens.
        temperature: T of the soft targets.
        alpha: weight of T^2 KL(teacher || student); the labels' loss has 1 - alpha.
    """

    folder: Path
    texts: list[str]
    labels: list[int]
    other_texts: list[str]
    other_labels: list[int]
    epochs: int
    batch_size: int
    learning_rate: float
    warmup_ratio: float
    weight_decay: float
    max_length: int
    temperature: float
    alpha: float
    seed: int

    @classmethod
    def load(cls, folder: str) -> "Workload":
        """Read it from its folder."""
        told = json.loads((Path(folder) / "workload.json").read_text(encoding="utf-8"))
        return cls(folder=Path(folder), **told)

    @property
    def steps(self) -> int:
        """Weight updates of the whole training."""
        return -(-len(self.texts) // self.batch_size) * self.epochs

    def small(self) -> "Workload":
        """Return an epoch on a few rows that are not trained on."""
        count = min(WARM_UP_ROWS, len(self.other_texts))
        return replace(self, texts=self.other_texts[:count], labels=self.other_labels[:count], epochs=1)


@dataclass
class Trio:
    """Teacher, student and their tokenizer, in memory."""

    teacher: Any
    student: Any
    tokenizer: Any


@dataclass(frozen=True)
class Trained:
    """What a contender did: updates, rows the student learned from, rows the teacher ran over while the clock ran.

    `started` and `ended` are `time.perf_counter()`, where its work is less than the whole call.
    """

    steps: int
    rows: int
    teacher_rows: int
    started: float | None = None
    ended: float | None = None


Contender = Callable[[Workload, Trio, str], Trained]
"""Trains the trio's student in place; the text is a scratch folder of its own."""


def load_models(workload: Workload) -> Trio:
    """Load teacher and student with their class heads, in float32."""
    teacher, student = (
        AutoModelForSequenceClassification.from_pretrained(workload.folder / name, dtype=torch.float32).to(DEVICE)
        for name in ("teacher", "student")
    )
    return Trio(teacher.eval(), student, AutoTokenizer.from_pretrained(workload.folder / "teacher"))


def seconds(contender: Contender, workload: Workload, trio: Trio) -> tuple[float, Trained]:
    """Train and time it."""
    with tempfile.TemporaryDirectory() as scratch:
        torch.manual_seed(workload.seed)
        start = time.perf_counter()
        trained = contender(workload, trio, scratch)
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        return (trained.ended or time.perf_counter()) - (trained.started or start), trained


def measure(contender: Contender, workload: Workload, trio: Trio) -> None:
    """Warm up, train, score where the student has the class head, and print the figures."""
    first_s, _ = seconds(contender, workload.small(), replace(trio, student=copy.deepcopy(trio.student)))
    wall_s, trained = seconds(contender, workload, trio)
    scored = trained.steps and hasattr(trio.student, "classifier") and UNSCORED not in os.environ
    figures = {
        "wall_s": wall_s,
        "steps": trained.steps,
        "rows": trained.rows,
        "teacher_rows": trained.teacher_rows,
        "ram_peak_mib": peak_mib(),
        "warmup_s": first_s,
        **(scores(workload, trio) if scored else {}),
    }
    print(json.dumps(figures))


def peak_mib() -> float:
    """Return the most RAM this process ever held, in MiB; Linux."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)[1]) / 1024  # type: ignore[index]


def scores(workload: Workload, trio: Trio) -> dict[str, float]:
    """Return the distillation loss after training on training rows, in nats, and the held-out accuracy; fp32."""
    texts, labels = workload.texts[:SCORED_ROWS], torch.tensor(workload.labels[:SCORED_ROWS])
    student, teacher = (_logits(model, trio.tokenizer, texts) for model in (trio.student, trio.teacher))
    soft, hard = (F.log_softmax(each / workload.temperature, dim=-1) for each in (student, teacher))
    divergence = F.kl_div(soft, hard, reduction="batchmean", log_target=True) * workload.temperature**2
    found = _logits(trio.student, trio.tokenizer, workload.other_texts[:SCORED_ROWS]).argmax(dim=-1)
    right = found == torch.tensor(workload.other_labels[:SCORED_ROWS])
    return {
        "end_loss": float(workload.alpha * divergence + (1 - workload.alpha) * F.cross_entropy(student, labels)),
        "test_accuracy": float(right.float().mean()),
    }


def _logits(model: Any, tokenizer: Any, texts: list[str]) -> torch.Tensor:
    model.eval()
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    result: list[torch.Tensor] = [torch.empty(0)] * len(texts)
    for start in range(0, len(order), 64):
        taken = order[start : start + 64]
        batch = tokenizer([texts[i] for i in taken], padding=True, truncation=True, max_length=128, return_tensors="pt")
        with torch.inference_mode():
            for place, row in zip(taken, model(**batch.to(DEVICE)).logits.float().cpu(), strict=True):
                result[place] = row
    return torch.stack(result)


def autocast(precision: str) -> Any:
    """Return the context in which a model computes in bf16, or in its own precision."""
    return torch.autocast(DEVICE, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()
