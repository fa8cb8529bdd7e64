"""The folder of a training's checkpoints: one process at a time, and which run an interrupted training continues."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from kd import tracking
from kd.base.console import say
from kd.base.files import home
from kd.base.ranks import from_main, is_main
from kd.base.types import ResumeName, UserError

NOTE = "run.json"
"""File in the folder: which run, in which store, the training writes to."""


@contextmanager
def checkpoints(key: str, resume: ResumeName) -> Iterator[tuple[Path, str]]:
    """Lock the checkpoint folder of a training; yields it and the interrupted run that it continues, or empty.

    Raises:
        UserError: another process runs the same training, or the folder cannot be written.
    """
    folder = _folders() / key
    lock = FileLock(folder.with_suffix(".lock"))

    def begin() -> tuple[Path, str]:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError(
                "the same training is running in another process: wait for it, or give another seed"
            ) from error
        except OSError as error:
            raise UserError(
                f"KD_HOME={str(home())!r} cannot be written ({error.strerror}): set KD_HOME to a folder that can"
            ) from error
        return folder, _interrupted_run(folder, resume)

    try:
        yield from_main(begin)
    finally:
        lock.release()


def note(folder: Path, run: tracking.Run) -> None:
    """Note the run of a training, so that a later process can continue it."""
    if is_main():
        record = {"run_id": run.run_id, "store": tracking.tracking_uri()}
        (folder / NOTE).write_text(json.dumps(record), encoding="utf-8")


def discard_finished() -> None:
    """Remove the checkpoints of trainings whose run has finished: a kill came between the two."""
    for path in _folders().glob(f"*/{NOTE}"):
        with suppress(Timeout, OSError), FileLock(path.parent.with_suffix(".lock")).acquire(timeout=0):
            if tracking.status(_noted(path.parent)) == "FINISHED":
                shutil.rmtree(path.parent)


def _folders() -> Path:
    return home() / "checkpoints"


def _noted(folder: Path) -> str:
    """Return the run that a folder's training writes to in this store, or empty."""
    with suppress(OSError, ValueError):
        record = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        if record.get("store") == tracking.tracking_uri():
            return str(record["run_id"])
    return ""


def _interrupted_run(folder: Path, resume: ResumeName) -> str:
    run_id = _noted(folder)
    status = tracking.status(run_id) if run_id else ""
    if resume == "auto" and status != "FINISHED" and list(folder.glob("checkpoint-*")):
        say(f"Continuing an interrupted training from its last checkpoint{'' if status else ' (its run is gone)'}.")
        return run_id if status else ""
    if status and status != "FINISHED":
        tracking.abandon(run_id)
    shutil.rmtree(folder)
    folder.mkdir()
    return ""
