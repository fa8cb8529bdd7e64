"""Read any rows of the teacher's outputs from disk, many at a time; RAM does not grow with the number of rows."""

import errno
import mmap
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from weakref import WeakSet

import numpy as np

from kd.base.files import stays_whole
from kd.teacher.cache import shard
from kd.teacher.cache.index import Index
from kd.teacher.cache.shard import Packed, Piece

OPEN_SHARDS = 64
"""Shards kept mapped at a time; each uses a file descriptor."""
TOUCHED, AROUND = 8 * 2**20, 2**16
"""Most bytes of mapped files that count as this process's memory, and the least that the system reads at a touch."""


class Reader:
    """Reads rows of a whole cache."""

    def __init__(self, index: Index, files: Mapping[int, Path], names: Sequence[str]) -> None:
        """Read the contents `names` of shards, whose `files` are by number; the last shards read stay mapped."""
        self._index, self._files, self._names = index, files, names
        self._open = lru_cache(maxsize=OPEN_SHARDS)(self._mapped)
        self._maps: WeakSet[mmap.mmap] = WeakSet()
        self._touched = 0

    def _mapped(self, number: int) -> dict[str, Packed]:
        if not stays_whole(path := self._files[number]):
            raise OSError(errno.EIO, f"{path.name} is missing or damaged")
        tensors, pages = shard.mapped(path)
        self._maps.add(pages)
        return {
            name: Packed(tensors[name], tensors[f"{name}.shape"], tensors.get(f"{name}.scale")) for name in self._names
        }

    def read(self, rows: np.ndarray) -> dict[str, list[Piece]]:
        """Return each content of these rows; IndexError for a row that does not exist.

        Raises OSError where the cache was deleted or damaged meanwhile.
        """
        places = self._index.places[rows].astype(np.int64)
        numbers = np.searchsorted(self._index.starts, places, side="right") - 1
        found: dict[str, list[Piece]] = {name: [] for name in self._names}
        for number in np.unique(numbers):
            here = np.flatnonzero(numbers == number)
            slots = places[here] - self._index.starts[number]
            for name, content in self._open(int(number)).items():
                for piece in content.take(slots, here):
                    found[name].append(piece)
                    self._touched += max(piece.values.nbytes, AROUND * len(piece.values))
        if self._touched > TOUCHED:  # the system keeps the pages as long as it has room
            for pages in self._maps:
                pages.madvise(mmap.MADV_DONTNEED)
            self._touched = 0
        return found
