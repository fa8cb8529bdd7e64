"""Read any rows of the teacher's outputs from disk, many at a time; RAM does not grow with the number of rows."""

import errno
import mmap
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from weakref import WeakSet

import numpy as np

from kd.base.files import stays_whole
from kd.teacher.cache import shard
from kd.teacher.cache.index import Index
from kd.teacher.cache.shard import Packed, Piece
from kd.teacher.cache.use import Use

OPEN_SHARDS = 64
"""Shards kept mapped at a time; each uses a file descriptor."""
TOUCHED, AROUND = 8 * 2**20, 2**16
"""Most bytes of mapped files that count as this process's memory, and the least that the system reads at a touch."""


class Reader:
    """Reads rows of a whole cache, which nobody prunes meanwhile."""

    def __init__(self, index: Index, files: Mapping[int, Path], names: Sequence[str], use: Use) -> None:
        """Read the contents `names` of shards, whose `files` are by number; the last shards read stay mapped."""
        self._index, self._names, self._use = index, names, use
        self._maps: WeakSet[mmap.mmap] = WeakSet()
        # not a method, which would keep this reader, and its lock, for longer than it is used
        self._open = lru_cache(maxsize=OPEN_SHARDS)(partial(_mapped, files, names, self._maps))
        self._touched = 0

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


def _mapped(
    files: Mapping[int, Path], names: Sequence[str], maps: WeakSet[mmap.mmap], number: int
) -> dict[str, Packed]:
    if not stays_whole(path := files[number]):
        raise OSError(errno.EIO, f"{path.name} is missing or damaged")
    tensors, pages = shard.mapped(path)
    maps.add(pages)
    return {name: Packed(tensors[name], tensors[f"{name}.shape"], tensors.get(f"{name}.scale")) for name in names}
