"""In which order the rows are trained on."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


class LengthGroups(Sampler[int]):
    """Rows in random order, but rows of like length share a batch.

    The order is a function of (seed, epoch) alone, so a resumed training sees the rows it would have seen.
    Within each stretch of 50 global batches the rows are sorted by length; the batches are then shuffled.
    """

    def __init__(self, lengths: Sequence[int], group: int, seed: int) -> None:
        """Group `lengths` (tokens a row) by the global batch size `group`."""
        self.lengths = np.asarray(lengths)
        self.group = group
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:  # noqa: D105
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:  # noqa: D105
        generator = np.random.default_rng((self.seed, self.epoch))
        order = generator.permutation(len(self.lengths))
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
