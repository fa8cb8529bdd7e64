"""A teacher that costs nothing and counts what it is asked, for tests of the cache."""

import os
import time
from pathlib import Path

import numpy as np
import torch

from kd.teacher.cache import index
from kd.teacher.signal import Caching, Wanted, teacher_signal

ROWS = 41
LENGTHS = np.random.default_rng(3).integers(2, 12, ROWS)
BOTH = ("logits", "hidden.1", "attention.0")


def outputs(row, contents, seed=0):
    """What the teacher says about one row: fixed and ragged, small and large."""
    generator = torch.Generator().manual_seed(1000 * seed + int(row))
    shapes = {"logits": (3,), "hidden.1": (int(LENGTHS[row]), 300), "attention.0": (2, *2 * (int(LENGTHS[row]),))}
    return {name: 9 * torch.randn(shapes[name], generator=generator) for name in contents}


class Teacher:
    """Answers two rows at a time.

    Attributes:
        asked: rows it was asked about to fill the cache; the two rows it is planned by are left out.
    """

    def __init__(self, contents=("logits",), seed=0):
        self.contents, self.seed = contents, seed
        self.lengths = LENGTHS
        self.asked = []

    def __call__(self, rows):
        self.asked += [int(row) for row in rows] if len(rows) > 1 else []
        for start in range(0, len(rows), 2):
            each = [outputs(row, self.contents, self.seed) for row in rows[start : start + 2]]
            yield {name: [one[name] for one in each] for name in self.contents}


class Slow(Teacher):
    """Takes its time, so that it can be killed in the middle."""

    def __call__(self, rows):
        for part in super().__call__(rows):
            time.sleep(0.004)
            yield part


def wanted(contents=("logits",), key="key", **more):
    return Wanted(key, ROWS, contents, {"teacher": "models:/t/1", "data": "d", "split": "train"}, **more)


class Together(Slow):
    """Answers no shard before another process, too, is asked about one; with `stuck`, never."""

    def __init__(self, contents, barrier, stuck):
        super().__init__(contents)
        self.barrier, self.stuck = barrier, stuck

    def __call__(self, rows):
        if len(rows) > 1 and not self.asked:
            self.barrier.wait(60)
            time.sleep(600 if self.stuck else 0)
        yield from super().__call__(rows)


def write(home, rows_a_shard, barrier=None, stuck=False):
    """Fill the cache in a process of its own; what came of it goes into a file a process."""
    os.environ["KD_HOME"] = str(home)
    index.SHARD_ROWS = rows_a_shard
    torch.set_num_threads(1)
    teacher = Slow(BOTH) if barrier is None else Together(BOTH, barrier, stuck)
    signal = teacher_signal(wanted(BOTH), lambda: teacher, Caching("on"))
    found = signal(torch.arange(ROWS))
    told = f"{signal.computed} {float(found.logits.sum())} {float(found.hidden[1].sum())}"
    Path(home, f"told.{os.getpid()}").write_text(told)
