"""The teacher's cache: it runs at most once, and what is read back is what it said about these very rows."""

import errno
import json
import logging
import shutil

import numpy as np
import pytest
import torch

from kd.signals import signal_key, teacher_signal

LOGITS = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)


class Teacher:
    """Counts how often it has to run."""

    def __init__(self, logits=LOGITS):
        self.logits = logits
        self.runs = 0

    def __call__(self):
        self.runs += 1
        return self.logits


def never():
    raise AssertionError("the teacher ran although its outputs are in the cache")


@pytest.fixture
def cached(kd_home):
    teacher_signal("key", 7, Teacher())
    return kd_home / "signals" / "key"


@pytest.mark.parametrize("shape", [(7, 3), (7, 4, 5)])
def test_a_second_run_reads_from_disk_what_the_first_computed(shape):
    logits = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    first = teacher_signal("key", 7, Teacher(logits))
    second = teacher_signal("key", 7, never)
    assert (first.from_cache, second.from_cache) == (False, True)
    for signal in (first, second):
        np.testing.assert_array_equal(np.asarray(signal.logits), logits)
    assert isinstance(second.logits, np.memmap)


@pytest.mark.parametrize("order", [[0, 1, 2], [6, 0, 3, 3], [5]])
def test_rows_are_looked_up_by_position_in_any_order(cached, order):
    outputs = teacher_signal("key", 7, never)(torch.tensor(order))
    torch.testing.assert_close(outputs.logits, torch.from_numpy(LOGITS[order]))
    assert outputs.logits.dtype == torch.float32
    assert not outputs.logits.requires_grad


def test_a_row_that_there_is_not_is_an_error_and_not_some_other_row(cached):
    with pytest.raises(IndexError):
        teacher_signal("key", 7, never)(torch.tensor([7]))


def test_writing_into_a_batch_does_not_change_the_cache(cached):
    signal = teacher_signal("key", 7, never)
    signal(torch.tensor([0])).logits.fill_(99)
    torch.testing.assert_close(signal(torch.tensor([0])).logits, torch.from_numpy(LOGITS[:1]))


def flip_a_byte(folder):
    content = bytearray((folder / "logits.npy").read_bytes())
    content[-1] ^= 0xFF
    (folder / "logits.npy").write_bytes(bytes(content))


DAMAGE = {
    "a changed byte": flip_a_byte,
    "a torn file": lambda folder: (folder / "logits.npy").write_bytes((folder / "logits.npy").read_bytes()[:-8]),
    "an empty file": lambda folder: (folder / "logits.npy").write_bytes(b""),
    "no logits": lambda folder: (folder / "logits.npy").unlink(),
    "no record": lambda folder: (folder / "signal.json").unlink(),
    "a torn record": lambda folder: (folder / "signal.json").write_text('{"sha256": "'),
    "an empty record": lambda folder: (folder / "signal.json").write_text("{}"),
    "another record": lambda folder: (folder / "signal.json").write_text("[]"),
    "an empty folder": lambda folder: (shutil.rmtree(folder), folder.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_cache_is_computed_again_with_a_warning_and_then_whole(cached, damage, caplog):
    damage(cached)
    teacher = Teacher()
    with caplog.at_level(logging.WARNING):
        signal = teacher_signal("key", 7, teacher)
    assert (teacher.runs, signal.from_cache) == (1, False)
    assert "damaged" in caplog.text
    np.testing.assert_array_equal(np.asarray(teacher_signal("key", 7, never).logits), LOGITS)


def test_a_cache_of_another_number_of_rows_is_not_read(cached):
    teacher = Teacher(LOGITS[:5])
    signal = teacher_signal("key", 5, teacher)
    assert (teacher.runs, signal.from_cache, len(signal.logits)) == (1, False, 5)


def test_another_key_never_reads_this_one(cached):
    other = Teacher(-LOGITS)
    np.testing.assert_array_equal(np.asarray(teacher_signal("other", 7, other).logits), -LOGITS)
    assert other.runs == 1
    np.testing.assert_array_equal(np.asarray(teacher_signal("key", 7, never).logits), LOGITS)


PARTS = {"teacher": "a", "rows": "b", "max_length": "128", "precision": "fp32"}


@pytest.mark.parametrize("part", PARTS)
def test_every_part_of_the_key_counts(part):
    assert signal_key({**PARTS, part: "other"}) != signal_key(PARTS)


def test_the_key_depends_on_neither_order_nor_where_one_part_ends():
    assert signal_key(dict(reversed(PARTS.items()))) == signal_key(PARTS)
    assert signal_key({"a": "bc", "b": ""}) != signal_key({"a": "b", "b": "c"})


def test_where_the_cache_cannot_be_written_the_teacher_stays_in_memory_with_a_warning(kd_home, caplog):
    kd_home.write_text("a file where the folder should be")
    teacher = Teacher()
    with caplog.at_level(logging.WARNING):
        signal = teacher_signal("key", 7, teacher)
    assert "stay in memory" in caplog.text
    assert (teacher.runs, signal.from_cache) == (1, False)
    torch.testing.assert_close(signal(torch.tensor([6, 0])).logits, torch.from_numpy(LOGITS[[6, 0]]))


def test_a_full_disk_leaves_no_torn_cache_behind(kd_home, monkeypatch, caplog):
    def save(path, *args, **kwargs):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(np, "save", save)
        signal = teacher_signal("key", 7, Teacher())
    assert "No space left" in caplog.text
    np.testing.assert_array_equal(signal.logits, LOGITS)
    assert list((kd_home / "signals").iterdir()) == []


def test_a_teacher_that_fails_leaves_no_cache_behind(kd_home):
    with pytest.raises(AssertionError):
        teacher_signal("key", 7, never)
    assert not (kd_home / "signals" / "key").exists()


def test_the_record_says_what_the_file_holds(cached):
    assert json.loads((cached / "signal.json").read_text())["rows"] == 7
