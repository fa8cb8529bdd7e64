"""Read any rows of the teacher's outputs from disk, many at a time; RAM does not grow with the number of rows."""

import errno
import mmap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from weakref import WeakSet

import numpy as np
import torch

from kd.base import files
from kd.teacher.cache import shard
from kd.teacher.cache.index import Index
from kd.teacher.cache.shard import Packed

OPEN_SHARDS = 64
"""Shards kept mapped at a time; each uses a file descriptor."""
TOUCHED, AROUND = 8 * 2**20, 2**16
"""Most bytes of mapped files that count as this process's memory, and the least that the system reads at a touch."""


@dataclass(frozen=True)
class Piece:
    """Rows of one shape among the rows read.

    Attributes:
        places: their positions among the rows read.
        values: `(places, ...)`, to be multiplied by `scales`.
        scales: `(places,)` float32; None where values are not scaled.
    """

    places: slice | np.ndarray
    values: torch.Tensor
    scales: torch.Tensor | None = None


@dataclass(frozen=True)
class _Content:
    """One content of a mapped shard, as blocks of rows of one shape; see `shard.runs`."""

    starts: np.ndarray
    blocks: list[np.ndarray]
    scales: np.ndarray | None

    def take(self, rows: np.ndarray, places: np.ndarray) -> Iterator[Piece]:
        """Yield copies of these rows of the shard, a block at a time."""
        which = np.searchsorted(self.starts, rows, side="right") - 1
        for block in np.unique(which):
            at = np.flatnonzero(which == block)
            values = torch.from_numpy(self.blocks[block].take(rows[at] - self.starts[block], axis=0))
            scales = None if self.scales is None else torch.from_numpy(self.scales[rows[at]])
            first, last = int(places[at[0]]), int(places[at[-1]])
            together = last - first == len(at) - 1  # as in a batch sorted by length
            yield Piece(slice(first, last + 1) if together else places[at], values, scales)


@dataclass
class Reader:
    """Reads rows of a whole cache.

    Attributes:
        index: where rows are stored.
        files: by number of the shard.
        names: of the contents to read.
    """

    index: Index
    files: Mapping[int, Path]
    names: tuple[str, ...]
    _open: Callable[[int], Mapping[str, _Content]] = field(init=False, repr=False)
    _maps: WeakSet[mmap.mmap] = field(init=False, repr=False, default_factory=WeakSet)
    _touched: int = field(init=False, repr=False, default=0)

    def __post_init__(self) -> None:
        """Keep the last shards mapped."""
        self._open = lru_cache(maxsize=OPEN_SHARDS)(self._mapped)

    def _mapped(self, number: int) -> Mapping[str, _Content]:
        if not files.stays_whole(path := self.files[number]):
            raise OSError(errno.EIO, f"{path.name} is missing or damaged")
        tensors, pages = shard.mapped(path)
        self._maps.add(pages)
        found = {}
        for name in self.names:
            scales = tensors.get(f"{name}.scale")
            found[name] = _Content(*shard.runs(Packed(tensors[name], tensors[f"{name}.shape"], scales)), scales)
        return found

    def read(self, rows: np.ndarray) -> dict[str, list[Piece]]:
        """Return each content of these rows.

        Raises:
            IndexError: a row does not exist.
            OSError: the cache was deleted or damaged meanwhile.
        """
        places = self.index.places[rows].astype(np.int64)
        numbers = np.searchsorted(self.index.starts, places, side="right") - 1
        found: dict[str, list[Piece]] = {name: [] for name in self.names}
        for number in np.unique(numbers):
            here = np.flatnonzero(numbers == number)
            slots = places[here] - self.index.starts[number]
            for name, content in self._open(int(number)).items():
                for piece in content.take(slots, here):
                    found[name].append(piece)
                    self._touched += max(piece.values.nbytes, AROUND * len(piece.values))
        if self._touched > TOUCHED:  # the system keeps the pages as long as it has room
            for pages in self._maps:
                pages.madvise(mmap.MADV_DONTNEED)
            self._touched = 0
        return found
