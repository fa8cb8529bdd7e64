"""The checkpoints of one training: their folder, the run they belong to, and the lock of the process that writes."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from kd import tracking
from kd.base.console import say
from kd.base.home import home
from kd.base.ranks import from_main, is_main
from kd.base.types import ResumeName, UserError


@contextmanager
def checkpoints(key: str, resume: ResumeName) -> Iterator[tuple[Path, str]]:
    """Lock the checkpoint folder of a training; yields it and the interrupted run that it continues, or empty.

    Raises:
        UserError: another process runs the same training, or the folder cannot be written.
    """
    folder = home() / "checkpoints" / key
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


def belongs(folder: Path, run_id: str) -> None:
    """Record which run writes into a folder of checkpoints, so that a later process can continue it."""
    if is_main():
        record = {"run_id": run_id, "store": tracking.tracking_uri()}
        (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")


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
