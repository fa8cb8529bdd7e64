"""Where checkpoints and caches live, and the one way a finished folder is put there."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def home() -> Path:
    """Return the folder for checkpoints and caches: `KD_HOME`, or `~/.cache/kd`. It may not exist yet."""
    return Path(os.environ.get("KD_HOME") or Path.home() / ".cache" / "kd")


@contextmanager
def publish(target: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; it becomes `target` in one step, or not at all.

    Where another process published `target` first, that one stays: both were made from the same inputs.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield scratch
        try:
            scratch.rename(target)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
