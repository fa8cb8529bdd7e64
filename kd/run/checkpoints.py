"""The checkpoints of one training: their folder, the run they belong to, and the lock of the process that writes."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from kd import tracking
from kd.base.console import say
from kd.base.home import home
from kd.base.ranks import from_main, is_main
from kd.base.types import ResumeName, UserError


@dataclass(frozen=True)
class Checkpoints:
    """The folder of one training, and the interrupted run that it continues, or empty."""

    folder: Path
    run_id: str

    def belong_to(self, run_id: str) -> None:
        """Record which run writes here, so that a later process can continue it."""
        if is_main():
            record = {"run_id": run_id, "store": tracking.tracking_uri()}
            (self.folder / "run.json").write_text(json.dumps(record), encoding="utf-8")


@contextmanager
def checkpoints(key: str, resume: ResumeName) -> Iterator[Checkpoints]:
    """Lock the checkpoint folder of a training.

    Raises:
        UserError: another process runs the same training, or the folder cannot be written.
    """
    folder = home() / "checkpoints" / key
    lock = FileLock(folder.with_suffix(".lock"))
    try:
        yield from_main(lambda: _begin(lock, folder, resume))
    finally:
        lock.release()


def _begin(lock: BaseFileLock, folder: Path, resume: ResumeName) -> Checkpoints:
    """Take the lock, and look for an interrupted run."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError("the same training is running in another process: wait for it, or give another seed") from error
    except OSError as error:
        raise UserError(
            f"KD_HOME={str(home())!r} cannot be written ({error.strerror}): set KD_HOME to a folder that can"
        ) from error
    return Checkpoints(folder, _interrupted_run(folder, resume))


def _interrupted_run(folder: Path, resume: ResumeName) -> str:
    record: dict[str, str] = {}
    with suppress(OSError, ValueError):
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    here = record.get("store") == tracking.tracking_uri() and tracking.status(record["run_id"])
    run_id = record["run_id"] if here else ""
    if resume == "auto" and list(folder.glob("checkpoint-*")):
        say(f"Continuing an interrupted training from its last checkpoint{'' if run_id else ' (its run is gone)'}.")
        return run_id
    if run_id:
        tracking.abandon(run_id)
    shutil.rmtree(folder)
    folder.mkdir()
    return ""
