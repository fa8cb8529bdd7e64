"""A teacher that costs nothing and counts what it is asked, for tests of the cache."""

import os
import time
from pathlib import Path

import numpy as np
import torch

from kd.teacher.cache import index
from kd.teacher.signal import Wanted, teacher_signal

ROWS = 41
LENGTHS = np.random.default_rng(3).integers(2, 12, ROWS)
BOTH = ("outputs", "hidden.1", "attention.0")
POSITIONS = np.random.default_rng(5).integers(0, 4, ROWS)
"""Valid positions of each feature, of which some have none; they do not follow its length."""


def outputs(row, contents, seed=0):
    """What the teacher says about one feature: fixed and ragged, small and large."""
    length = int(LENGTHS[row])
    shapes = {"outputs.logits": (1, 3), "hidden.1": (length, 300), "attention.0": (2, length, length)}
    kinds = {name.partition(".")[0] for name in contents}
    return drawn(row, {name: shape for name, shape in shapes.items() if name.partition(".")[0] in kinds}, seed)


def at_positions(row, contents, seed=0):
    """Two outputs of a task that has some valid positions a feature: numbers, and scores of five options."""
    count = int(POSITIONS[row])
    return drawn(row, {"outputs.start": (count,), "outputs.tags": (count, 5)}, seed)


def drawn(row, shapes, seed):
    generator = torch.Generator().manual_seed(1000 * seed + int(row))
    return {name: 9 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


class Teacher:
    """Answers two features at a time.

    Attributes:
        asked: features it ran over to fill the cache; those it is planned by are left out.
    """

    def __init__(self, contents=("outputs",), seed=0, answer=outputs):
        self.contents, self.seed, self.answer = contents, seed, answer
        self.lengths = LENGTHS
        self.asked = []

    def plans(self, rows):
        """Whether a call is for the plan: it looks at some features of all lengths, which no shard has."""
        extremes = {self.lengths.min(), self.lengths.max()} <= {*self.lengths[rows].tolist()}
        return extremes and len(rows) < len(self.lengths)

    def __call__(self, rows):
        self.asked += [] if self.plans(rows) else [int(row) for row in rows]
        for start in range(0, len(rows), 2):
            each = [self.answer(row, self.contents, self.seed) for row in rows[start : start + 2]]
            yield {name: [one[name] for one in each] for name in each[0]}


class Slow(Teacher):
    """Takes its time, so that it can be killed in the middle."""

    def __call__(self, rows):
        for part in super().__call__(rows):
            time.sleep(0.004)
            yield part


def wanted(contents=("outputs",), key="key", **more):
    return Wanted(key, ROWS, contents, {"teacher": "models:/t/1", "data": "d", "split": "train"}, **more)


class Together(Slow):
    """Answers no shard before another process, too, is asked about one; with `stuck`, never."""

    def __init__(self, contents, barrier, stuck):
        super().__init__(contents)
        self.barrier, self.stuck = barrier, stuck

    def __call__(self, rows):
        if not self.asked and not self.plans(rows):
            self.barrier.wait(60)
            time.sleep(600 if self.stuck else 0)
        yield from super().__call__(rows)


def write(home, rows_a_shard, barrier=None, stuck=False):
    """Fill the cache in a process of its own; what came of it goes into a file a process."""
    os.environ["KD_HOME"] = str(home)
    index.SHARD_ROWS = rows_a_shard
    torch.set_num_threads(1)
    teacher = Slow(BOTH) if barrier is None else Together(BOTH, barrier, stuck)
    signal = teacher_signal(wanted(BOTH), lambda: teacher, "on")
    found = signal(np.arange(ROWS))
    told = f"{signal.computed} {float(found.outputs['logits'].sum())} {float(found.hidden[1].sum())}"
    Path(home, f"told.{os.getpid()}").write_text(told)
