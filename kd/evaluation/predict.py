"""A model's answers for every example, in the examples' order."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from kd.base.ranks import from_all, rank, world
from kd.base.task import Collate, Record
from kd.base.types import Batch, Features


def answers(
    model: torch.nn.Module,
    features: Features,
    collate: Collate,
    answer: Callable[[Any, Batch], list[Record]],
    batch_size: int,
    autocast: torch.dtype | None = None,
) -> list[list[Record]]:
    """Let `model` answer all features once, the longest first, without gradient and without dropout.

    The examples are divided among the processes of a training; each returns all answers.

    Args:
        model: on the device to be used; its mode is restored afterwards.
        features: with columns `length` and `example`.
        collate: pads a list of features.
        answer: returns a record for each feature of a batch.
        batch_size: features in a forward.
        autocast: bfloat16 or float16; None computes in the model's own precision.

    Returns:
        For each example the records of its features, in their order.
    """
    device = next(model.parameters()).device
    examples = np.asarray(features["example"])
    order = np.argsort(-np.asarray(features["length"]), kind="stable")
    order = order[examples[order] % world() == rank() % world()]
    was_training = model.training
    model.eval()
    found: dict[int, Record] = {}
    mixed = torch.autocast(device.type, dtype=autocast) if autocast else nullcontext()
    with torch.inference_mode(), mixed:
        for start in range(0, len(order), batch_size):
            taken = order[start : start + batch_size].tolist()
            batch = collate(features.__getitems__(taken)).to(device)
            found |= zip(taken, answer(model, batch), strict=True)
    model.train(was_training)
    every = {place: record for part in from_all(found) for place, record in part.items()}
    return by_example([every[place] for place in range(len(examples))], examples)


def by_example(records: Sequence[Record], examples: np.ndarray) -> list[list[Record]]:
    """Group the records of each example's features; the last example has at least one."""
    grouped: list[list[Record]] = [[] for _ in range(int(examples.max()) + 1)]
    for record, example in zip(records, examples.tolist(), strict=True):
        grouped[example].append(record)
    return grouped
