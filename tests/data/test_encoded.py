"""Encoded rows are those the encoder makes, whatever was on disk before, and the encoder is asked once."""

import errno
import logging
import multiprocessing
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from filelock import FileLock

from kd.base import files as kept_files
from kd.base.files import is_whole
from kd.data import encoded as module
from kd.data.encoded import ChosenRows, encoded

ROWS = 47
PARTS = {"rows": "a", "max_length": "8"}
ABOUT = {"data": "d", "split": "train"}


def rows(count=ROWS, shift=0) -> Dataset:
    return Dataset.from_dict({"n": list(range(shift, shift + count))})


class Encoder:
    """Row n becomes the tokens n, n + 1, ...: as many as n modulo 5, plus one; `times(n)` features of them."""

    def __init__(self, times=lambda n: 1):
        self.asked, self.times = [], times

    def __call__(self, part):
        self.asked.append(len(part))
        owners = [place for place, n in enumerate(part["n"]) for _ in range(self.times(n))]
        numbers = [part["n"][place] for place in owners]
        tokens = [list(range(n, n + n % 5 + 1)) for n in numbers]
        lengths = [len(one) for one in tokens]
        return Dataset.from_dict(
            {"input_ids": tokens, "score": [n / 4 for n in numbers], "example": owners, "length": lengths}
        )


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Five chunks, the last of them short."""
    monkeypatch.setattr(module, "CHUNK", 10)
    kept_files.warn_once.cache_clear()


@pytest.fixture
def folder(kd_home):
    return kd_home / "encoded"


def asked(parts=PARTS, data=None):
    """Check every row that comes back; return how often the encoder was asked for rows."""
    encode = Encoder()
    data = data or rows()
    assert_right(encoded(data, encode, parts, ABOUT), data)
    return len(encode.asked)


def assert_right(got, data):
    numbers = list(data["n"])
    assert len(got) == len(numbers)
    assert got["feature"].tolist() == got["example"].tolist() == list(range(len(numbers)))
    assert got["length"].tolist() == [n % 5 + 1 for n in numbers]
    order = np.random.default_rng(0).permutation(len(numbers)).tolist()
    for place, row in zip(order, got.__getitems__(order), strict=True):
        n = numbers[place]
        assert row["input_ids"].tolist() == list(range(n, n + n % 5 + 1))
        assert (row["score"], row["feature"], row["example"], row["length"]) == (n / 4, place, place, n % 5 + 1)


def files(folder):
    return sorted(folder.glob("*.arrow"))


def test_rows_are_encoded_once_and_never_all_at_a_time(folder):
    encode = Encoder()
    assert_right(encoded(rows(), encode, PARTS, ABOUT), rows())
    assert encode.asked == [10, 10, 10, 10, 7]
    assert asked() == 0
    assert [is_whole(path) for path in files(folder)] == [True]


def test_features_are_numbered_over_all_chunks_and_name_their_own_example():
    """A number that began anew with each chunk would give a feature the teacher's outputs of another."""
    encode = Encoder(lambda n: n % 3)  # every third row has no feature, every third two
    for got in (encoded(rows(), encode, PARTS, ABOUT) for _ in range(2)):  # made, and read again
        owners = [n for n in range(ROWS) for _ in range(n % 3)]
        assert got["feature"].tolist() == list(range(len(owners)))
        assert got["example"].tolist() == owners
        for feature, n in zip(got.__getitems__(list(range(len(owners)))), owners, strict=True):
            assert feature["input_ids"][0] == n
    assert encode.asked == [10, 10, 10, 10, 7]


def test_chosen_features_keep_their_numbers_and_their_examples():
    chosen = ChosenRows(encoded(rows(), Encoder(lambda n: 2), PARTS, ABOUT), np.array([7, 3, 90]))
    assert len(chosen) == 3
    assert (chosen["feature"].tolist(), chosen["example"].tolist()) == ([7, 3, 90], [3, 1, 45])
    assert [one["feature"] for one in chosen.__getitems__([2, 0])] == [90, 7]


def test_a_selection_is_encoded_in_its_own_order():
    assert asked(data=rows(100).select([*range(90, 60, -1), 3, 5])) == 4


@pytest.mark.parametrize("change", [{"max_length": "9"}, {"rows": "b"}, {"more": ""}], ids=str)
def test_whatever_differs_is_encoded_for_itself(change, folder):
    asked()
    assert asked(PARTS | change, rows(shift=1)) == 5
    assert len(files(folder)) == 2
    assert asked() == 0


def test_a_row_that_is_not_there_is_no_other_row():
    got = encoded(rows(), Encoder(), PARTS, ABOUT)
    for wrong in ([-1], [0, ROWS]):
        with pytest.raises(IndexError):
            got.__getitems__(wrong)
    assert got.__getitems__([]) == []


# Damage


def flip(path: Path, place: int):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "a flipped bit in the values": lambda path: flip(path, path.stat().st_size // 2),
    "a flipped bit in the header": lambda path: flip(path, 20),
    "truncated": lambda path: os.truncate(path, path.stat().st_size - 8),
    "cut at the end of a batch": lambda path: os.truncate(path, path.stat().st_size // 5 * 4),
    "empty": lambda path: path.write_bytes(b""),
    "a longer file": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_never_read_and_is_made_again(damage, folder, caplog):
    asked()
    (path,) = files(folder)
    damage(path)
    assert asked() == 5
    assert caplog.text.count("damaged") == 1
    assert [is_whole(path) for path in files(folder)] == [True]
    assert asked() == 0


def test_a_file_of_other_rows_under_this_key_is_not_read(folder):
    asked()
    (path,) = files(folder)
    other = encoded(rows(shift=3), Encoder(), {"rows": "other"}, ABOUT)
    assert len(other) == ROWS
    (theirs,) = set(files(folder)) - {path}
    path.write_bytes(theirs.read_bytes())
    assert asked() == 5


def _killed():
    def encode(part):
        if part[0]["n"] >= 20:
            os.kill(os.getpid(), 9)
        return Encoder()(part)

    encoded(rows(), encode, PARTS, ABOUT)


def test_a_killed_writer_leaves_no_half_file_no_lock_and_no_litter(folder):
    context = multiprocessing.get_context("fork")
    child = context.Process(target=_killed)
    child.start()
    child.join()
    assert child.exitcode == -9
    assert not files(folder)
    assert [path for path in folder.iterdir() if path.suffix != ".lock"]
    assert asked() == 5
    assert [path.suffix for path in sorted(folder.iterdir())] == [".arrow", ".lock"]


def test_an_encoder_that_fails_leaves_nothing_behind(folder):
    def encode(part):
        raise ValueError("no such label")

    with pytest.raises(ValueError, match="no such label"):
        encoded(rows(), encode, PARTS, ABOUT)
    assert [path.suffix for path in folder.iterdir()] == [".lock"]


def _waiting(queue):
    encode = Encoder()
    assert_right(encoded(rows(), encode, PARTS, ABOUT), rows())
    queue.put(len(encode.asked))


def test_of_two_processes_that_want_the_same_rows_one_encodes_and_the_other_waits(folder, kd_home):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [context.Process(target=_waiting, args=(queue,)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert sorted(queue.get() for _ in children) == [0, 5]
    assert len(files(folder)) == 1


# Disks


def test_a_full_disk_means_memory_and_one_line(folder, monkeypatch, caplog):
    def replace(scratch, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full, caplog.at_level(logging.WARNING):
        full.setattr(os, "replace", replace)
        assert asked() == 10
        assert asked() == 10
    assert caplog.text.count("\n") == 1
    assert "No space left" in caplog.text
    assert [path.suffix for path in folder.iterdir()] == [".lock"]
    assert asked() == 5  # and is kept when there is room


def test_a_quota_reached_while_writing_means_memory_and_one_line(tmp_path, monkeypatch, caplog):
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", disk], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this user may not mount a file system")
    monkeypatch.setenv("KD_HOME", str(disk))
    try:
        with caplog.at_level(logging.WARNING):
            assert asked(data=rows(3000)) > 300
        assert caplog.text.count("\n") == 1
        assert [path.suffix for path in (disk / "encoded").iterdir()] == [".lock"]
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_home_that_may_not_be_written_is_still_read(folder, monkeypatch):
    asked()

    def refused(*_, **__):
        raise PermissionError(errno.EACCES, "read-only")

    monkeypatch.setattr(FileLock, "acquire", refused)
    monkeypatch.setattr(os, "utime", refused)
    assert asked() == 0


def test_a_file_that_is_deleted_while_it_is_read_stays_readable(folder):
    got = encoded(rows(), Encoder(), PARTS, ABOUT)
    files(folder)[0].unlink()
    assert_right(got, rows())
