"""List and prune the teachers' outputs and encoded features that are kept on this machine."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kd.base.files import is_whole
from kd.base.home import home
from kd.data import encoded
from kd.teacher.cache import shard
from kd.teacher.cache.index import read_index
from kd.teacher.cache.writer import remove, shard_files, size_of
from kd.teacher.signal import key_of

WHOLE = "whole"
DAY_S = 86_400


@dataclass(frozen=True)
class Entry:
    """One teacher's outputs over one split, or one split encoded.

    Attributes:
        folder: where they are; of encoded features the file.
        about: teacher, data, split, precision, contents, as far as they apply; empty where it cannot be read.
        rows: number of features; None where the index cannot be read.
        size: bytes on disk.
        used: time of the last use, in s since 1970 by this machine's clock; only people and `prune` use it.
        state: `whole`, or what is wrong or missing.
        rest: mean probability of the options that are kept only as a sum; None where all are kept.
    """

    folder: Path
    about: Mapping[str, str]
    rows: int | None
    size: int
    used: float
    state: str
    rest: float | None = None


def entries(check: Callable[[Path], bool]) -> list[Entry]:
    """Return every cache on this machine, the most recently used first.

    Args:
        check: whether a file is whole: `files.is_whole` reads every byte, `shard.looks_whole` only its header.
    """
    found = []
    for outer in sorted((home() / "signals").glob("*/")):
        inner = sorted(outer.glob("*/"))
        found += [_entry(folder, check) for folder in inner] or [_unknown(outer, "of another version")]
    for path in encoded.kept():
        with suppress(FileNotFoundError):  # its writer has just renamed it
            found.append(_encoded(path))
    return sorted(found, key=lambda entry: -entry.used)


def _encoded(path: Path) -> Entry:
    """Read every byte: they are few, and a stream that ends early may look whole."""
    finished = path.suffix == encoded.SUFFIX
    whole = finished and is_whole(path)
    about = encoded.about_of(path) if whole else {}
    state = WHOLE if whole else "damaged" if finished else "unfinished"
    described = {"teacher": "", "precision": "", "contents": "encoded features", **about}
    rows = int(about["rows"]) if about else None
    return Entry(path, described, rows, path.stat().st_size, path.stat().st_mtime, state)


def _entry(folder: Path, check: Callable[[Path], bool]) -> Entry:
    index = read_index(folder, key_of(folder), check)
    if index is None:
        return _unknown(folder, "damaged: no index")
    whole, wrong = shard_files(folder, key_of(folder), index, check)
    state = WHOLE
    if len(whole) < index.shards:
        state = f"unfinished: {len(whole)} of {index.shards} shards"
    if wrong:
        state = f"damaged: {len(whole)} of {index.shards} shards are whole"
    rest = [float(notes["rest"]) for notes in map(shard.notes_of, whole.values()) if "rest" in notes]
    mean = float(np.mean(rest)) if rest else None
    return Entry(folder, index.about, len(index.places), size_of(folder), folder.stat().st_mtime, state, mean)


def _unknown(folder: Path, state: str) -> Entry:
    return Entry(folder, {}, None, size_of(folder), folder.stat().st_mtime, state)


def to_prune(found: Sequence[Entry], now: float, older_than_days: float | None, keep_gib: float | None) -> list[Entry]:
    """Choose caches to remove: those that are too old, then the least recently used until the rest is small enough.

    Args:
        found: all caches.
        now: s since 1970; a cache used later than that, by another clock, has age 0.
        older_than_days: None sets no limit.
        keep_gib: None sets no limit; without either limit everything is chosen.
    """
    if older_than_days is None and keep_gib is None:
        return list(found)
    old = float("inf") if older_than_days is None else older_than_days
    chosen = [entry for entry in found if (now - entry.used) / DAY_S > old]
    left = sorted((entry for entry in found if entry not in chosen), key=lambda entry: entry.used)
    while keep_gib is not None and left and sum(entry.size for entry in left) > keep_gib * 2**30:
        chosen.append(left.pop(0))
    return chosen


def prune(entry: Entry) -> None:
    """Remove a cache. Raises filelock.Timeout where it is being written, OSError where it cannot be removed."""
    if entry.folder.is_file():
        encoded.remove(entry.folder)
    elif entry.folder.parent == home() / "signals":
        shutil.rmtree(entry.folder)
    else:
        remove(entry.folder)
