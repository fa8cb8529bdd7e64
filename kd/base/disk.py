"""A full disk, recognised under whatever a library makes of it, and said in one line."""

import errno
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from kd.base.files import home
from kd.base.types import DiskFull

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SAID = re.compile(
    r"No space left on device|Disk quota exceeded|File too large|database or disk is full"
    r"|basic_ios::clear: iostream error|\d+ requested and \d+ written"
)
"""The words of the system, of SQLite, of torch and of numpy."""
LEFT_MIB = 16
"""With less room than this a disk is taken for the full one, where an error does not name a file."""


def reason(error: BaseException | None) -> str:
    """Return in which words a full disk, a quota or a limit on the size of files is behind an error; else empty."""
    for one in _chain(error):
        if isinstance(one, OSError) and one.errno in NO_ROOM:
            return str(one.strerror)
        if found := SAID.search(str(one)):
            return found[0]
    return ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, then those that it was made of, or that were being handled when it came."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@contextmanager
def told(places: Mapping[str, Path] | None = None, at: Path | None = None, guess: bool = True) -> Iterator[None]:
    """Raise DiskFull for an error that a full disk is behind: which folder, what was kept, and what to do.

    `places` are folders that may be full by the names a user knows them by, beside KD_HOME and TMPDIR; `at` is the one
    that is written to. Without `guess` an error stays what it is where it names no file and none of them is full.
    """
    try:
        yield
    except DiskFull:
        raise
    except Exception as error:
        if why := reason(error):
            own = Path(tempfile.gettempdir())
            temporaries = own.parent if own.name.startswith("kd-") else own  # see `files.scratch`
            known = {"KD_HOME": home(), "TMPDIR": temporaries, **(places or {})}
            target = next(filter(None, map(_target, _chain(error))), at)
            if target is None and "large" not in why:
                target = _fullest(known)
            if not (target or guess):
                raise
            raise DiskFull(
                f"{_where(why, target, known)}: what was finished is kept, and the last checkpoint of a training, if "
                "there is one: make room, and give the same command again"
            ) from error
        raise


def _target(error: BaseException) -> Path | None:
    """Return the file that could not be written, where an error names it."""
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        return Path(error.args[0][0][1])
    name = isinstance(error, OSError) and (error.filename2 or error.filename)
    return Path(name) if isinstance(name, str) else None


def _where(why: str, target: Path | None, known: Mapping[str, Path]) -> str:
    if "large" in why:
        where = _called(target, known) if target else "a disk"
        return f"{where} takes no file as large ({why}: see ulimit -f, and what the file system allows)"
    if target is None:
        rooms = ", ".join(f"{name} ({folder}) has {_left(folder):,.0f} MiB left" for name, folder in known.items())
        return f"a disk has no room left ({why}; now {rooms})"
    return f"{_called(target, known)} has no room left ({why})"


def _fullest(known: Mapping[str, Path]) -> Path | None:
    folder = min(known.values(), key=_left)
    return folder if _left(folder) < LEFT_MIB else None


def _called(path: Path, known: Mapping[str, Path]) -> str:
    """Name the disk of a path as a user knows it."""
    inside = {name: folder for name, folder in known.items() if path.is_relative_to(folder)}
    name = max(inside, key=lambda one: len(inside[one].parts), default="")
    return f"{name} ({inside[name]})" if name else f"the disk of {path.parent}"


def _left(folder: Path) -> float:
    """Return the MiB left on the disk of a folder, which need not exist yet."""
    return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free / 2**20


@contextmanager
def temporary() -> Iterator[Path]:
    """Yield an empty folder in TMPDIR, removed afterwards. Raises DiskFull where that disk is seen to be full."""
    with tempfile.TemporaryDirectory() as folder, told(guess=False):
        yield Path(folder)
