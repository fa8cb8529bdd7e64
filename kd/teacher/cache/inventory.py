"""List and prune the teachers' outputs and predictions and the encoded features that are kept on this machine."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kd.base.files import home, is_whole
from kd.data import encoded
from kd.teacher import tables
from kd.teacher.cache import shard
from kd.teacher.cache.index import read_index
from kd.teacher.cache.writer import remove, shard_files, size_of

WHOLE = "whole"
DAY_S = 86_400
ENCODED = {"contents": "encoded features", "teacher": "", "precision": ""}
FILES = {
    "encoded": (ENCODED, encoded.SUFFIX, encoded.about_of, encoded.remove),
    "predictions": ({"contents": "predictions"}, tables.SUFFIX, tables.about_of, tables.remove),
}
"""Folder of kept files -> what is shown of each, their suffix, what reads more of a whole one, and what removes one."""


@dataclass(frozen=True)
class Entry:
    """One teacher's outputs or predictions over one split, or one split encoded.

    Attributes:
        path: the folder or file that they are in.
        about: teacher, data, split, precision, contents, as far as they apply; empty where it cannot be read.
        rows: number of features; None where the index cannot be read.
        size: bytes on disk.
        used: time of the last use, in s since 1970 by this machine's clock; only people and `prune` use it.
        state: `whole`, or what is wrong or missing.
        rest: mean probability of the options that are kept only as a sum; None where all are kept.
    """

    path: Path
    about: Mapping[str, str]
    rows: int | None
    size: int
    used: float
    state: str
    rest: float | None = None


def entries(check: Callable[[Path], bool]) -> list[Entry]:
    """Return every cache on this machine, the most recently used first.

    As `check` of a shard `files.is_whole` reads every byte, `shard.looks_whole` only the header.
    """
    found = []
    for outer in sorted((home() / "signals").glob("*/")):
        inner = sorted(outer.glob("*/"))
        found += [_folder(one, check) for one in inner] or [_unread(outer, "of another version")]
    for kind in FILES:
        for path in (home() / kind).glob("*"):
            with suppress(FileNotFoundError):  # its writer has just renamed it
                found += [] if path.suffix == ".lock" else [_file(path, kind)]
    return sorted(found, key=lambda entry: -entry.used)


def _file(path: Path, kind: str) -> Entry:
    """Read every byte: they are few, and a file that ends early may look whole."""
    about, suffix, about_of, _ = FILES[kind]
    size, used = path.stat().st_size, path.stat().st_mtime
    state = "unfinished" if path.suffix != suffix else WHOLE if is_whole(path) else "damaged"
    known = about_of(path) if state == WHOLE else {}
    return Entry(path, {**about, **known}, int(known["rows"]) if known else None, size, used, state)


def _folder(folder: Path, check: Callable[[Path], bool]) -> Entry:
    index = read_index(folder, check)
    if index is None:
        return _unread(folder, "damaged: no index")
    whole, wrong = shard_files(index, check)
    state = WHOLE
    if len(whole) < index.shards:
        state = f"unfinished: {len(whole)} of {index.shards} shards"
    if wrong:
        state = f"damaged: {len(whole)} of {index.shards} shards are whole"
    rest = [float(notes["rest"]) for notes in map(shard.notes_of, whole.values()) if "rest" in notes]
    mean = float(np.mean(rest)) if rest else None
    return replace(_unread(folder, state), about=index.about, rows=len(index.places), rest=mean)


def _unread(folder: Path, state: str) -> Entry:
    return Entry(folder, {}, None, size_of(folder), folder.stat().st_mtime, state)


def to_prune(found: Sequence[Entry], now: float, older_than_days: float | None, keep_gib: float | None) -> list[Entry]:
    """Choose caches to remove: those that are too old, then the least recently used until the rest is small enough.

    None sets no limit; without either limit everything is chosen. `now` is in s since 1970; a cache used later than
    that, by another clock, has age 0.
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
    """Remove a cache.

    Raises filelock.Timeout where it is being written, BlockingIOError where it is in use, OSError where it cannot be
    removed.
    """
    parent = entry.path.parent
    if parent.name in FILES:
        FILES[parent.name][3](entry.path)
    elif parent == home() / "signals":
        shutil.rmtree(entry.path)
    else:
        remove(entry.path)
