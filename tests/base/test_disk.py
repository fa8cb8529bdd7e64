"""A full disk is recognised under every library's own error, and said in one line that names the folder."""

import errno
import os
import resource
import shutil
import signal
import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from kd.base import disk
from kd.base.types import DiskFull, UserError

FULL = Path("/dev/full")


def within_a_limit(act):
    """Do something in a process that may write no file above 4 KiB; returns what was raised there, as a text."""
    ours, theirs = os.pipe()
    if pid := os.fork():
        os.close(theirs)
        with open(ours) as pipe:
            said = pipe.read()
        os.waitpid(pid, 0)
        return said
    try:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        with disk.told():
            act()
    except BaseException as error:
        os.write(theirs, f"{type(error).__name__}: {error}".encode())
    finally:
        os._exit(0)


BIG = np.zeros(100_000)
WRITERS = {
    "torch": lambda path: torch.save({"a": torch.from_numpy(BIG)}, path),
    "safetensors": lambda path: save_file({"a": torch.from_numpy(BIG)}, path),
    "pyarrow": lambda path: pd.DataFrame({"a": np.random.default_rng(0).random(100_000)}).to_parquet(path),
    "numpy": lambda path: np.save(path, BIG),
    "python": lambda path: path.write_bytes(BIG.tobytes()),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_that_the_system_does_not_let_grow_is_told_in_one_line_whatever_writes_it(writer, tmp_path):
    said = within_a_limit(lambda: WRITERS[writer](tmp_path / "file.npy"))
    assert said.startswith("DiskFull: "), said
    assert "make room, and give the same command again" in said
    assert "\n" not in said


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("writer", ["pyarrow", "numpy", "python"])
def test_a_disk_without_room_is_told_whatever_writes_to_it(writer, tmp_path):
    (tmp_path / "file.npy").symlink_to(FULL)
    with pytest.raises(DiskFull), disk.told():
        WRITERS[writer](tmp_path / "file.npy")


def test_a_database_that_is_full_is_told(tmp_path):
    database = sqlite3.connect(tmp_path / "full.db")
    database.execute("PRAGMA max_page_count = 2")
    database.execute("CREATE TABLE one (text)")
    with pytest.raises(DiskFull, match="database or disk is full"), disk.told():
        database.execute("INSERT INTO one VALUES (?)", ["x" * 100_000])


def wrapped(cause):
    try:
        try:
            raise cause
        except OSError as error:
            raise RuntimeError("the model could not be logged") from error
    except RuntimeError as error:
        return error


def test_the_folder_that_the_error_names_is_called_as_the_user_knows_it(kd_home, tmp_path):
    file = kd_home / "checkpoints" / "weights"
    source = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "source"), None, str(file))
    with pytest.raises(DiskFull, match=rf"^KD_HOME \({kd_home}\) has no room left \(No space"), disk.told():
        raise wrapped(source)
    copying = shutil.Error([("source", str(tmp_path / "out" / "a"), "[Errno 28] No space left on device")])
    places = {"the artifacts": tmp_path / "out"}
    with pytest.raises(DiskFull, match=rf"^the artifacts \({tmp_path}/out\)"), disk.told(places):
        raise copying


def test_a_full_disk_that_no_error_names_is_the_fullest_or_all_are_listed(kd_home, tmp_path, monkeypatch):
    left = {tmp_path: 2**20}
    kd_home.mkdir()
    usage = lambda folder: shutil._ntuple_diskusage(2**40, 0, left.get(folder, 2**30))  # noqa: E731
    monkeypatch.setattr(shutil, "disk_usage", usage)
    full = OSError(errno.ENOSPC, "No space left on device")
    places = {"the store": tmp_path / "store"}
    with pytest.raises(DiskFull, match=rf"^the store \({tmp_path}/store\) has no room"), disk.told(places):
        raise full
    left.clear()
    with pytest.raises(OSError, match="No space"), disk.temporary():  # who knows more places may find it
        raise full
    with pytest.raises(DiskFull, match=r"a disk has no room left .*KD_HOME .* has 1,024 MiB left, TMPDIR"), disk.told():
        raise full


def test_other_errors_stay_what_they_are():
    for error in (UserError("no room for doubt"), OSError(errno.EACCES, "Permission denied"), KeyError("disk")):
        with pytest.raises(type(error)) as caught, disk.told():
            raise error
        assert caught.value is error
