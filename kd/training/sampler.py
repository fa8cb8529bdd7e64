"""The order in which features are trained on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from kd.base.types import Features

FILLER = -1
"""Number of a placeholder, where a process has no feature left."""


class LengthGroups(Sampler[int]):
    """Features in random order, but features of similar length share a batch.

    The order is a function of (seed, epoch) alone, so a resumed training sees the features it would have seen.
    Within each stretch of 50 global batches the features are sorted by length; the batches are then shuffled.
    """

    def __init__(self, lengths: Sequence[int], group: int, seed: int, rows: int = 0) -> None:
        """Group features of these `lengths` by the global batch size `group`; `rows` an epoch, 0 for each once."""
        self.lengths = np.asarray(lengths)
        self.group = group
        self.seed = seed
        self.rows = rows or len(self.lengths)
        self.epoch = 0

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[int]:
        """Yield all features in random order, and again in a new order, until the epoch has enough."""
        generator = np.random.default_rng((self.seed, self.epoch))
        left = self.rows
        while left > 0:
            order = generator.permutation(len(self.lengths))[:left]
            left -= len(order)
            yield from self._grouped(order, generator)

    def _grouped(self, order: np.ndarray, generator: np.random.Generator) -> Iterator[int]:
        batches: list[np.ndarray] = []
        for start in range(0, len(order), self.group * 50):
            stretch = order[start : start + self.group * 50]
            stretch = stretch[np.argsort(-self.lengths[stretch], kind="stable")]
            batches += [stretch[i : i + self.group] for i in range(0, len(stretch), self.group)]
        whole = len(order) // self.group  # a smaller batch comes last
        for place in (*generator.permutation(whole), *range(whole, len(batches))):
            yield from batches[place].tolist()


@dataclass(frozen=True)
class Batches(Sampler[list[int]]):
    """The order split into micro-batches, in turn for each process of a training, equally many for each.

    A group of the order is a step over all processes. The last step of an epoch may have fewer features than the
    others. Processes share them evenly; one that gets none gets a batch of FILLER, which counts nothing.
    """

    order: LengthGroups
    batch_size: int
    processes: int

    def __len__(self) -> int:
        whole, rest = divmod(len(self.order), self.order.group)
        return whole * (self.order.group // self.batch_size) + self._parts(rest)

    def _parts(self, rest: int) -> int:
        """Return how many micro-batches the last step has."""
        return -(-rest // (self.batch_size * self.processes)) * self.processes

    def __iter__(self) -> Iterator[list[int]]:
        order = [*self.order]
        whole = len(order) - (len(order) % self.order.group if self.processes > 1 else 0)
        yield from (order[at : at + self.batch_size] for at in range(0, whole, self.batch_size))
        if rest := order[whole:]:
            yield from (part.tolist() or [FILLER] for part in np.array_split(rest, self._parts(len(rest))))


@dataclass(frozen=True)
class Filled:
    """Features, with a placeholder at position FILLER: a copy of the first, whose number is FILLER."""

    features: Features

    def __len__(self) -> int:
        return len(self.features)

    def __getitems__(self, places: Sequence[int]) -> list[dict[str, Any]]:
        if FILLER not in places:
            return self.features.__getitems__(places)
        return [{**one, "feature": FILLER} for one in self.features.__getitems__([0])]
