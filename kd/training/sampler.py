"""In which order the rows are trained on."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


class LengthGroups(Sampler[int]):
    """Rows in random order, but rows of like length share a batch.

    The order is a function of (seed, epoch) alone, so a resumed training sees the rows it would have seen.
    Within each stretch of 50 global batches the rows are sorted by length; the batches are then shuffled.
    """

    def __init__(self, lengths: Sequence[int], group: int, seed: int, rows: int = 0) -> None:
        """Group `lengths` (tokens a row) by the global batch size `group`; `rows` an epoch, 0 for each row once."""
        self.lengths = np.asarray(lengths)
        self.group = group
        self.seed = seed
        self.rows = rows or len(self.lengths)
        self.epoch = 0

    def __len__(self) -> int:  # noqa: D105
        return self.rows

    def __iter__(self) -> Iterator[int]:
        """Go through all rows, and through them again, each time anew, until there are as many as asked."""
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
        whole = [batch for batch in batches if len(batch) == self.group]
        rest = [batch for batch in batches if len(batch) < self.group]
        for place in generator.permutation(len(whole)):
            yield from whole[place].tolist()
        for batch in rest:
            yield from batch.tolist()
