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
def told(places: Mapping[str, Path] | None = None, at: Path | None = None) -> Iterator[None]:
    """Raise DiskFull for an error that a full disk is behind: which folder, what was kept, and what to do.

    `places` are folders that may be full by the names a user knows them by, beside KD_HOME and TMPDIR; `at` is the one
    that is written to.
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
        left = {name: shutil.disk_usage(_there(folder)).free / 2**20 for name, folder in known.items()}
        fullest = min(left, key=lambda name: left[name])
        if left[fullest] > LEFT_MIB:
            rooms = ", ".join(f"{name} ({known[name]}) has {room:,.0f} MiB left" for name, room in left.items())
            return f"a disk has no room left ({why}; now {rooms})"
        target = known[fullest]
    return f"{_called(target, known)} has no room left ({why})"


def _called(path: Path, known: Mapping[str, Path]) -> str:
    """Name the disk of a path as a user knows it."""
    inside = {name: folder for name, folder in known.items() if path.is_relative_to(folder)}
    name = max(inside, key=lambda one: len(inside[one].parts), default="")
    return f"{name} ({inside[name]})" if name else f"the disk of {path.parent}"


def _there(folder: Path) -> Path:
    """Return the folder, or the nearest one around it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())


@contextmanager
def temporary() -> Iterator[Path]:
    """Yield an empty folder in TMPDIR, removed afterwards. Raises DiskFull while it can be seen which disk is full."""
    with tempfile.TemporaryDirectory() as folder, told():
        yield Path(folder)
