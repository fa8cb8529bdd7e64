"""Write the teacher's outputs to disk: compute what is missing, once, and again what is damaged.

A process that needs outputs that are not on disk computes some of the missing shards: ranks, trials and other commands
share the work without communication. Each shard has a lock, which the system releases when its owner ends in any way;
another process then computes that shard. Published shards stay. Nothing depends on a clock.
"""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
from filelock import Timeout
from tqdm.auto import tqdm

from kd.base import files
from kd.base.files import locked
from kd.teacher.cache import shard
from kd.teacher.cache.index import INDEX, Index, Part, Teacher, key_of
from kd.teacher.cache.shard import Packed
from kd.teacher.cache.use import Use

log = logging.getLogger(__name__)


def planning(folder: Path) -> Path:
    """Return the lock, beside the folder, for what one process does for all: planning and clearing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder.with_suffix(".lock")


def shard_files(index: Index, check: Callable[[Path], bool] = files.stays_whole) -> tuple[dict[int, Path], list[Path]]:
    """Return the whole shards of a cache, and files that are damaged, of another cache, or duplicate."""
    whole: dict[int, Path] = {}
    wrong = []
    for path in sorted(index.folder.glob(f"*{shard.SUFFIX}")):
        if files.label_of(path) == INDEX:
            continue
        number = _number_of(path, index) if check(path) else None
        if number is None or number in whole:
            wrong.append(path)
        else:
            whole[number] = path
    return whole, wrong


def _number_of(path: Path, index: Index) -> int | None:
    with suppress(*shard.UNREADABLE):
        notes = shard.notes_of(path)
        number = int(notes["shard"])
        if (notes["key"], notes["cut"], files.label_of(path)) == (key_of(index.folder), index.digest, _label(number)):
            return number
    return None


def _label(number: int) -> str:
    return f"{number:06d}"


def size_of(folder: Path) -> int:
    """Return the bytes of all files in a folder; another process may rename or delete some meanwhile."""
    size = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            size += path.stat().st_size if path.is_file() else 0
    return size


def clear(index: Index) -> None:
    """Delete all files that are no planned shard; the caller has the lock."""
    if wrong := shard_files(index)[1]:
        name, count = key_of(index.folder), len(wrong)
        log.warning("teacher cache %s: %d shards are damaged: the teacher runs over their rows again", name, count)
    for path in wrong:
        path.unlink(missing_ok=True)


def fill(index: Index, teacher: Teacher, title: str) -> int:
    """Compute the missing shards that no other process computes, then wait for the others; returns the rows computed.

    Raises OSError where the disk is full, a quota is reached, or nothing can be written. All that was written here is
    deleted first, so that there is room for checkpoints.
    """
    order = np.argsort(index.places, kind="stable")
    missing = sorted({*range(index.shards)} - {*shard_files(index)[0]})
    rows = {number: order[index.starts[number] : index.starts[number + 1]] for number in missing}
    mine: list[int] = []
    bar = tqdm(total=sum(map(len, rows.values())), desc=title, disable=not title, dynamic_ncols=True, leave=False)
    try:
        # the teacher keeps running while a shard is hashed and written
        with bar, ThreadPoolExecutor(1) as disk, ExitStack() as pending:
            for number, wait in [(number, wait) for wait in (False, True) for number in missing]:
                if wait:
                    pending.close()  # they may be waiting for it
                with ExitStack() as claim:
                    if number in mine or not claim.enter_context(_claimed(index.folder, number, wait)):
                        continue
                    content, more = _computed(teacher(rows[number]), index.half, bar.update)
                    notes = {"key": key_of(index.folder), "cut": index.digest, "shard": str(number), **more}
                    pending.close()
                    mine.append(number)
                    pending.push(claim.pop_all())
                    pending.callback(disk.submit(shard.write, index.folder, _label(number), content, notes).result)
    except OSError:
        for path in [path for number in mine for path in index.folder.glob(f"{_label(number)}-*")]:
            path.unlink(missing_ok=True)
        raise
    return sum(len(rows[number]) for number in mine)


@contextmanager
def _claimed(folder: Path, number: int, wait: bool) -> Iterator[bool]:
    """Lock a missing shard in order to compute it; yields whether it is still missing, or False where another has it.

    With `wait`, wait for the process that has locked it.
    """
    path = folder / f".{_label(number)}.lock"
    with ExitStack() as locks:
        try:
            locks.enter_context(locked(path, wait))
        except Timeout:
            yield False
            return
        yield not any(folder.glob(f"{_label(number)}-*"))
        path.unlink(missing_ok=True)  # before its release; a process that waited for it sees that it is deleted


def _computed(
    parts: Iterator[Part], half: Mapping[str, bool], done: Callable[[int], object]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the tensors of a shard and its notes: the mean mass of the options that are not kept, if there are any."""
    rest: list[float] = []
    packed: dict[str, list[Packed]] = {}
    for part in parts:
        for name, rows in part.items():
            packed.setdefault(name, []).append(shard.pack(rows, half[name]))
            if name.endswith(".tail"):
                rest.append(float(torch.cat([row[..., -1].reshape(-1) for row in rows]).exp().mean()))
        done(len(next(iter(part.values()))))
    tensors: dict[str, np.ndarray] = {}
    for name, pieces in packed.items():
        whole = shard.joined(pieces)
        tensors |= {name: whole.values, f"{name}.shape": whole.shapes}
        tensors |= {} if whole.scales is None else {f"{name}.scale": whole.scales}
    return tensors, {"rest": f"{np.mean(rest):.6f}"} if rest else {}


def remove(folder: Path) -> None:
    """Delete a cache, its lock and the folder around it.

    Raises Timeout where it is being written, BlockingIOError where it is in use, OSError where it cannot be deleted.
    """
    lock = planning(folder)
    with ExitStack() as locks:
        for path in [lock, *folder.glob(".*.lock")]:
            locks.enter_context(locked(path, wait=False))
        with suppress(FileNotFoundError), closing(Use(folder, alone=True)):  # another process was faster
            shutil.rmtree(folder)
        lock.unlink(missing_ok=True)
    with suppress(OSError):  # it has other outputs of this teacher
        folder.parent.rmdir()
