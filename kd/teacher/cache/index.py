"""How the teacher's outputs over a data set are split into shards, planned from a few before the rest is computed.

Rows, one a feature, are stored longest first, so that the teacher pads little and a training batch, whose features have
similar lengths, touches few shards. A row's place is one uint32 in a memory-mapped file; each shard has a first place.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from kd.base import files
from kd.base.hashing import SHORT, bytes_digest
from kd.teacher.cache import shard

SHARD_BYTES = 64 * 2**20
"""Size of a shard. A killed writer loses at most two, and a few are in RAM while writing."""
SHARD_ROWS, SHARDS = 512, 64
"""There are at least 64 shards, unless they would have fewer than 512 rows: outputs may be small where the teacher is
slow. So a killed writer loses little, processes share the work evenly, and a reader can keep all shards open."""
SMALL = 1024
"""A content with up to this many values a row on average is kept in float32: its 4 KiB a row are no more than the
encoded text takes, and halving them is not worth a rounding. Larger ones are float16 with a scale."""
INDEX = "index"
SAMPLE = 16
"""Features from which the plan is made."""
Part = Mapping[str, Sequence[torch.Tensor]]
"""Outputs of some rows by content: a tensor for each row, without padding, on any device."""


class Teacher(Protocol):
    """Gives a teacher's outputs for any features of one data set."""

    lengths: np.ndarray
    """Length of every feature, `(features,)`."""

    def __call__(self, features: np.ndarray) -> Iterator[Part]:
        """Yield the outputs for the features at these positions, in their order, some at a time."""
        ...


@dataclass(frozen=True)
class Index:
    """Where each row of a cache is stored.

    Attributes:
        folder: of the cache; its files name it, and those of another are foreign.
        places: `(rows,)`, position of each row in the order of the shards; may be memory-mapped.
        starts: `(shards + 1,)`, first place of each shard, and the number of rows.
        half: by content, whether float16 is planned.
        size: estimated bytes of all shards.
        about: for people: teacher, data, split, contents.
    """

    folder: Path
    places: np.ndarray
    starts: np.ndarray
    half: Mapping[str, bool]
    size: int
    about: Mapping[str, str]

    @cached_property
    def digest(self) -> str:
        """Of `places` and `starts`; a shard made for another split of the rows is foreign."""
        return bytes_digest([self.places.astype("<u4").tobytes(), self.starts.astype("<i8").tobytes()])[:SHORT]

    @property
    def shards(self) -> int:
        """Number of shards."""
        return len(self.starts) - 1


def key_of(folder: Path) -> str:
    """Return what the files of a cache name."""
    return f"{folder.parent.name}/{folder.name}"


def plan(folder: Path, teacher: Teacher, about: Mapping[str, str]) -> Index:
    """Run the teacher over a few features of all lengths, and plan the shards.

    Each axis is taken to grow linearly with the length, as fitted on these features. Values are stored with each
    feature's true shape, so a wrong estimate only makes shards larger or smaller.
    """
    lengths = np.asarray(teacher.lengths, dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    looked_at = order[np.unique(np.linspace(0, len(order) - 1, SAMPLE).round().astype(int))]
    seen: dict[str, list[torch.Tensor]] = {}
    for part in teacher(looked_at):
        for name, each in part.items():
            seen.setdefault(name, []).extend(each)
    centred = np.stack([np.ones(len(lengths)), lengths - lengths[looked_at].mean()], axis=1)
    half, cost = {}, np.zeros(len(lengths))
    for name, each in seen.items():
        axes = np.array([tuple(one.shape) for one in each], dtype=float)
        fitted = centred @ np.linalg.lstsq(centred[looked_at], axes)[0]
        values = np.maximum(fitted.round(6), 0.0).prod(axis=1)  # a size that does not vary has no rounding error
        half[name] = each[0].is_floating_point() and float(values.mean()) > SMALL
        cost += values * (2 if half[name] else 4) + 4 * (each[0].dim() + half[name])
    places = np.argsort(order).astype(np.uint32)
    return Index(folder, places, _cut(np.cumsum(cost[order])), half, int(cost.sum()), about)


def _cut(filled: np.ndarray) -> np.ndarray:
    """Split rows into shards, given the bytes up to and including each row."""
    starts, most = [0], max(SHARD_ROWS, -(-len(filled) // SHARDS))
    while starts[-1] < len(filled):
        start = starts[-1]
        before = filled[start - 1] if start else 0.0
        stop = int(np.searchsorted(filled, before + SHARD_BYTES, side="right"))
        starts.append(min(max(stop, start + 1), start + most, len(filled)))
    return np.array(starts, dtype=np.int64)


def write_index(index: Index) -> None:
    """Write an index, replacing any other; the caller has the lock. Raises OSError."""
    index.folder.mkdir(parents=True, exist_ok=True)
    facts = {"half": dict(index.half), "size": index.size, "about": dict(index.about)}
    notes = {"key": key_of(index.folder), "facts": json.dumps(facts, sort_keys=True)}
    shard.write(index.folder, INDEX, {"places": index.places, "starts": index.starts}, notes)


def read_index(folder: Path, check: Callable[[Path], bool] = files.stays_whole) -> Index | None:
    """Return the whole index of a cache, if there is one."""
    for path in filter(check, sorted(folder.glob(f"{INDEX}-*{shard.SUFFIX}"))):
        with suppress(*shard.UNREADABLE):
            notes = shard.notes_of(path)
            if notes["key"] == key_of(folder):
                facts, (tensors, _) = json.loads(notes["facts"]), shard.mapped(path)
                starts = np.array(tensors["starts"])
                return Index(folder, tensors["places"], starts, facts["half"], facts["size"], facts["about"])
    return None
