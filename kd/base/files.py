"""Files and folders that are made once and kept: written in one step, and read only where they are whole.

A kept file is called `LABEL-CHECKSUM.SUFFIX`. The label is a key of everything that the content depends on, or a
number; the checksum is of the label and all bytes. So file and checksum come into being in one rename, and a byte that
changed, a file cut short or one that was made under another label is found out. A kept folder has a file `CHECKSUM`
inside, made of its name and its files.
"""

import errno
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from filelock import FileLock

from kd.base.hashing import SHORT, file_digest, lines_digest
from kd.base.processes import is_left, mark
from kd.base.types import UserError

log = logging.getLogger(__name__)
SEAL = "CHECKSUM"


def home() -> Path:
    """Return the folder for checkpoints and caches: `KD_HOME`, or `~/.cache/kd`. It may not exist yet."""
    return Path(os.environ.get("KD_HOME") or Path.home() / ".cache" / "kd")


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Keep other processes out by a lock file, which stays. The system takes the lock back however its owner ends.

    Raises filelock.Timeout where another process has it and `wait` is false, OSError where there can be no lock.
    """
    lock = FileLock(path, fallback_to_soft=False)  # a soft lock would outlive a killed writer
    with lock.acquire(timeout=-1 if wait else 0, poll_interval=0.1):
        yield


def write(folder: Path, label: str, suffix: str, fill: Callable[[Path], object]) -> Path:
    """Write a kept file in one step, or not at all, in place of all others of this label; no other process writes it.

    The folder exists, the label is without `*`, `?` and `[`, the suffix with its dot; `fill` writes the content to the
    path that it is given. Raises OSError where the disk is full, a quota is reached, or the folder cannot be written.
    """
    for former in _of_label(folder, label, suffix):
        former.unlink(missing_ok=True)
    scratch = folder / f".{label}.tmp"
    try:
        fill(scratch)
        target = folder / f"{label}-{_checksum(scratch, label)}{suffix}"
        os.replace(scratch, target)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    _found_whole[target] = _state(target)
    return target


def keep(folder: Path, label: str, suffix: str, fill: Callable[[Path], object], what: str) -> None:
    """Write a kept file where that can be, by one process at a time; else warn that `what` is not kept."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder.with_suffix(".lock")):
            write(folder, label, suffix, fill)
    except (OSError, NotImplementedError) as error:
        warn_once(f"{what} are not kept in {folder} ({getattr(error, 'strerror', None) or error})")


def find(folder: Path, label: str, suffix: str) -> Path | None:
    """Return the whole file of a label, if there is one, and mark it as used now; every byte of it is read."""
    found = next(filter(is_whole, _of_label(folder, label, suffix)), None)
    if found is not None:
        with suppress(OSError):
            os.utime(found)  # for people and `cache`: last used
    return found


def _of_label(folder: Path, label: str, suffix: str) -> list[Path]:
    return sorted(path for path in folder.glob(f"{label}-*{suffix}") if label_of(path) == label)


def label_of(path: Path) -> str:
    """Return the label of a kept file."""
    return path.stem.rpartition("-")[0]


def is_whole(path: Path) -> bool:
    """Whether a kept file or folder has the bytes that its checksum was made of; reads all of them."""
    try:
        if path.is_dir():
            return (path / SEAL).read_text(encoding="ascii") == _seal(path, path.name)
        return path.stem.rpartition("-")[2] == _checksum(path, label_of(path))
    except (OSError, ValueError):
        return False


def stays_whole(path: Path) -> bool:
    """Whether a kept file or folder is whole; its bytes are read once a process, and again where it has changed.

    A change shows in inode, size and both times, which are compared with themselves and with no clock.
    """
    try:
        state = _state(path)
    except OSError:
        return False
    if _found_whole.get(path) != state and is_whole(path):
        _found_whole[path] = state
    return _found_whole.get(path) == state


@contextmanager
def publish(target: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; it becomes `target` in one step, or not at all, in place of a damaged one.

    Where another process published `target` first, that one stays: both were made from the same inputs.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.{mark()}.", dir=target.parent))
    try:
        yield scratch
        (scratch / SEAL).write_text(_seal(scratch, target.name), encoding="ascii")
        if not _renamed(scratch, target) and not is_whole(target):
            with locked(target.with_name(f".{target.name}.lock")):
                if not is_whole(target):  # another process may have replaced it
                    shutil.rmtree(target, ignore_errors=True)
                    if not _renamed(scratch, target) and not is_whole(target):
                        raise PermissionError(errno.EACCES, "a damaged folder cannot be deleted", str(target))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def scratch() -> Iterator[None]:
    """Keep all temporary files of this process in one folder, and remove those that killed processes left.

    What they left is below KD_HOME too, where a folder was being filled. Raises UserError where there can be none.
    """
    former = tempfile.tempdir
    try:
        remove_left(Path(tempfile.gettempdir()), "kd-*")
    except FileNotFoundError as error:
        raise UserError(f"no temporary file can be written ({error}): free space, or set TMPDIR to a folder") from error
    for folder in home().glob("*/"):
        remove_left(folder, ".*")
    own = tempfile.mkdtemp(prefix=f"kd-{mark()}-")
    tempfile.tempdir = own
    try:
        yield
    finally:
        tempfile.tempdir = former
        shutil.rmtree(own, ignore_errors=True)


@contextmanager
def filling(folder: Path) -> Iterator[None]:
    """Mark a folder, empty or not there, as being filled meanwhile; where that fails, it is as it was before."""
    there, marked = folder.exists(), folder / f".unfinished.{mark()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        marked.touch()
        yield
        marked.unlink()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        if there:
            folder.mkdir(exist_ok=True)
        raise


def empty_left(folder: Path) -> None:
    """Empty a folder that a process which is gone was filling."""
    if any(is_left(path.name) for path in folder.glob(".unfinished.*")):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(exist_ok=True)


def remove_left(folder: Path, pattern: str) -> None:
    """Remove what processes that are gone have left in a folder under names with their `mark`."""
    for path in filter(lambda one: is_left(one.name), folder.glob(pattern)):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


def _renamed(scratch: Path, target: Path) -> bool:
    """Give a folder its name, unless there is one of that name."""
    try:
        scratch.rename(target)
        return True
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        return False


@cache
def warn_once(text: str) -> None:
    """Warn once a process: splits, trials and seeds want the same files in turn."""
    log.warning(text)


_found_whole: dict[Path, tuple[tuple[int, ...], ...]] = {}


def _checksum(path: Path, label: str) -> str:
    return file_digest(path, label.encode())[:SHORT]


def _seal(folder: Path, name: str) -> str:
    """Return the digest of a folder's name and of the names and bytes of its files, at any depth."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    files.pop(SEAL, None)
    return lines_digest([name, *(f"{inside} {file_digest(path)}" for inside, path in sorted(files.items()))])


def _state(path: Path) -> tuple[tuple[int, ...], ...]:
    found = [each.stat() for each in (path, *sorted(path.rglob("*")))]
    return tuple((one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for one in found)
