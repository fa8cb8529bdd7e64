"""Who uses a cache: each reader and writer has a shared lock on its folder, and who removes it needs it alone.

The system takes a lock back however its owner ends. Where it has no such locks, nobody is kept out.
"""

import errno
import os
import sys
from pathlib import Path
from weakref import finalize

if sys.platform != "win32":  # which itself removes no file that is open
    import fcntl


class Use:
    """A lock on the folder of a cache, until it is closed or forgotten."""

    def __init__(self, folder: Path, alone: bool = False) -> None:
        """Take it. Raises BlockingIOError where another process has what excludes it, OSError for no such folder."""
        if sys.platform == "win32":
            return
        descriptor = os.open(folder, os.O_RDONLY)
        self._closed = finalize(self, os.close, descriptor)
        try:
            _lock(descriptor, alone)
            if not os.path.samestat(os.fstat(descriptor), folder.stat()):
                raise FileNotFoundError(errno.ENOENT, "removed meanwhile", str(folder))
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Give it back."""
        if sys.platform != "win32":
            self._closed()


def _lock(descriptor: int, alone: bool) -> None:
    if sys.platform != "win32":
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # a file system without locks
            return
