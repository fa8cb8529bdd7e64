"""The teacher as a signal: its outputs over a fixed data set, computed once and read from disk ever after.

One folder a key below `KD_HOME/signals`: `logits.npy` (memory-mapped when read) and `signal.json` with its sha256. The
key names everything the logits depend on; another key is another folder. A damaged file is computed again; where the
disk is full the logits stay in memory for this run, saying so.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from kd.home import home, publish
from kd.types import TeacherOutputs

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TeacherSignal:
    """The teacher's logits for each row of one data set.

    Attributes:
        logits: `(rows, ..., options)`, on disk or in memory.
        from_cache: whether the teacher did not have to run.
    """

    logits: np.ndarray
    from_cache: bool

    def __call__(self, rows: torch.Tensor) -> TeacherOutputs:
        """Return the teacher's outputs for the rows at these positions `(batch,)`, on the device of `rows`."""
        chosen = np.asarray(self.logits[rows.cpu().numpy()], dtype=np.float32)
        return TeacherOutputs(logits=torch.from_numpy(chosen).to(rows.device))


def signal_key(parts: Mapping[str, str]) -> str:
    """Return the name of what `parts` describe: teacher's weights, data digest, preprocessing, precision."""
    return hashlib.sha256(json.dumps(dict(parts), sort_keys=True).encode()).hexdigest()[:32]


def teacher_signal(key: str, rows: int, compute: Callable[[], np.ndarray]) -> TeacherSignal:
    """Read the teacher's logits from the cache, or let `compute` run the teacher once and keep what it said.

    Args:
        key: from `signal_key`.
        rows: number of rows the data set has; a cached file with another number is damaged.
        compute: runs the teacher; returns `(rows, ..., options)` float32.
    """
    folder = home() / "signals" / key
    if (cached := _read(folder, rows)) is not None:
        return TeacherSignal(cached, from_cache=True)
    logits = compute()
    try:
        shutil.rmtree(folder, ignore_errors=True)
        with publish(folder) as scratch:
            np.save(scratch / "logits.npy", logits, allow_pickle=False)
            record = {"sha256": _sha256(scratch / "logits.npy"), "rows": rows}
            (scratch / "signal.json").write_text(json.dumps(record), encoding="utf-8")
    except OSError as error:
        log.warning("teacher cache not written to %s (%s): the teacher's outputs stay in memory", folder, error)
    return TeacherSignal(logits, from_cache=False)


def _read(folder: Path, rows: int) -> np.ndarray | None:
    if not folder.is_dir():
        return None
    try:
        record = json.loads((folder / "signal.json").read_text(encoding="utf-8"))
        whole = record["rows"] == rows and record["sha256"] == _sha256(folder / "logits.npy")
    except (OSError, ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        log.warning("teacher cache %s is damaged: the teacher runs again", folder.name)
        return None
    mapped: np.ndarray = np.load(folder / "logits.npy", mmap_mode="r", allow_pickle=False)
    return mapped


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
