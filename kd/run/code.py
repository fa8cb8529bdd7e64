"""A digest of source: what was made by other code is not used again. Torch is not imported here."""

import inspect
from pathlib import Path

from kd.base.hashing import SHORT, bytes_digest
from kd.base.task import Task

DECIDING_CODE = ("data", "evaluation", "models", "objectives", "teacher", "training")


def code_digest(task: Task, parts: tuple[str, ...] = DECIDING_CODE) -> str:
    """Return a digest of the source that decides what is learned; a commit's id would ignore uncommitted changes.

    Of the tasks only this one's folder counts: an edit in one task leaves the caches of others valid.
    """
    folders = [*(Path(__file__).parents[1] / part for part in parts), Path(inspect.getfile(type(task))).parent]
    if absent := [folder.name for folder in folders if not folder.is_dir()]:
        raise FileNotFoundError(f"a digest of code names {absent[0]}, and there is no such folder")
    files = [path for folder in folders for path in folder.rglob("*.py")]
    return bytes_digest(path.read_bytes() for path in sorted(files))[:SHORT]
