"""What may go wrong with a cache on disk: the result is the right outputs, never other ones."""

import errno
import logging
import multiprocessing
import os
import shutil
import subprocess
import time
from contextlib import closing

import numpy as np
import pytest
import torch
from filelock import FileLock, Timeout

from kd.base import files
from kd.teacher import signal as signals
from kd.teacher.cache import index, inventory, reader, shard, use
from kd.teacher.cache import writer as store
from kd.teacher.cache.use import Use
from kd.teacher.signal import teacher_signal
from tests.teacher.teachers import BOTH, ROWS, Teacher, outputs, wanted, write

SHARD = 7
SHARDS = -(-ROWS // SHARD)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(index, "SHARD_ROWS", SHARD)


def open_cache(contents=("outputs",), teacher=None, mode="on"):
    teacher = teacher or Teacher(contents)
    return teacher_signal(wanted(contents), lambda: teacher, mode), teacher


def assert_right(signal, contents=("outputs",), seed=0):
    found = signal(np.arange(ROWS))
    logits = torch.cat([outputs(row, contents, seed)["outputs.logits"] for row in range(ROWS)])
    torch.testing.assert_close(found.outputs["logits"], logits, rtol=0, atol=0)
    if "hidden.1" in contents:
        for row in range(ROWS):
            own = outputs(row, contents, seed)["hidden.1"]
            torch.testing.assert_close(found.hidden[1][row, : len(own)], own, rtol=2**-11, atol=1e-6)


def shard_files(home):
    return sorted(path for path in home.rglob("*.safetensors") if not path.name.startswith("index"))


def index_file(home):
    return next(home.rglob("index-*.safetensors"))


def rows_of(number, teacher):
    return sorted(teacher.asked[number * SHARD : (number + 1) * SHARD])


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 0x01
    path.write_bytes(content)


DAMAGE = {
    "a flipped bit in the values": lambda path: flip(path, -1),
    "a flipped bit in the header": lambda path: flip(path, 12),
    "a flipped bit in the header's length": lambda path: flip(path, 3),
    "a truncated shard": lambda path: os.truncate(path, path.stat().st_size - 8),
    "bytes added": lambda path: path.write_bytes(path.read_bytes() + b"\0" * 8),
    "an empty shard": lambda path: path.write_bytes(b""),
    "no shard": lambda path: path.unlink(),
    "a renamed shard": lambda path: path.rename(path.with_name(path.name.replace("000002", "000003", 1))),
    "a number that there is not": lambda path: path.rename(path.with_name(path.name.replace("000002", "000099", 1))),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_shard_alone_is_computed_again(damage, kd_home, caplog):
    _, first = open_cache()
    damage(shard_files(kd_home)[2])
    with caplog.at_level(logging.WARNING):
        signal, teacher = open_cache()
    assert sorted(teacher.asked) == rows_of(2, first)
    assert signal.computed == SHARD
    assert ("damaged" in caplog.text) == (damage is not DAMAGE["no shard"])
    assert_right(signal)
    again, idle = open_cache()
    assert (idle.asked, again.computed, len(shard_files(kd_home))) == ([], 0, SHARDS)


@pytest.mark.parametrize("damage", [*DAMAGE.values()][:7], ids=[*DAMAGE][:7])
def test_a_damaged_index_is_planned_again_and_the_shards_stay(damage, kd_home):
    open_cache()
    damage(index_file(kd_home))
    signal, teacher = open_cache()
    assert (teacher.asked, signal.computed) == ([], 0)
    assert_right(signal)
    assert len(list(kd_home.rglob("index-*"))) == 1


def test_a_shard_of_another_teacher_under_the_same_name_is_told_by_its_contents(kd_home):
    signal, first = open_cache()
    other = Teacher(seed=1)
    teacher_signal(wanted(key="other"), lambda: other)
    mine, theirs = (signals.folder_of(wanted(key=key)) for key in ("key", "other"))
    foreign = shard_files(theirs)[2]
    shard_files(mine)[2].unlink()
    shutil.copy(foreign, mine / foreign.name)
    signal, teacher = open_cache()
    assert sorted(teacher.asked) == rows_of(2, first)
    assert_right(signal)


def test_a_whole_folder_of_another_teacher_is_not_read():
    open_cache()
    other = Teacher(seed=1)
    teacher_signal(wanted(key="other"), lambda: other)
    mine, theirs = (signals.folder_of(wanted(key=key)) for key in ("key", "other"))
    shutil.rmtree(mine)
    shutil.copytree(theirs, mine)
    signal, teacher = open_cache()
    assert sorted(teacher.asked) == list(range(ROWS))
    assert_right(signal)


def test_shards_of_two_cuts_of_the_rows_are_not_mixed(kd_home, monkeypatch):
    open_cache()
    kept = shard_files(kd_home)[1].read_bytes(), shard_files(kd_home)[1].name
    shutil.rmtree(kd_home)
    monkeypatch.setattr(index, "SHARD_ROWS", 9)
    open_cache()
    folder = shard_files(kd_home)[0].parent
    shard_files(kd_home)[1].unlink()
    (folder / kept[1]).write_bytes(kept[0])
    signal, teacher = open_cache()
    assert len(teacher.asked) == 9
    assert_right(signal)


@pytest.mark.parametrize("moment", [0, 1e6, time.time() + 1e8], ids=["1970", "12 days later", "in three years"])
def test_a_clock_that_is_wrong_changes_nothing(kd_home, moment):
    open_cache()
    for path in [*kd_home.rglob("*")]:
        os.utime(path, (moment, moment))
    signal, teacher = open_cache()
    assert (teacher.asked, signal.computed) == ([], 0)
    shard_files(kd_home)[0].unlink()
    assert open_cache()[0].computed == SHARD


def test_a_lock_file_that_a_killed_writer_left_stops_nobody(kd_home):
    folder = signals.folder_of(wanted())
    folder.mkdir(parents=True)
    for path in (folder.with_suffix(".lock"), folder / ".000002.lock"):
        path.write_text("99999999")
    assert open_cache()[0].reader is not None


def test_a_shard_is_checked_once_a_process_and_again_when_it_was_written_to(kd_home, monkeypatch):
    """Trials open the same cache many times; what was right at the first time need not be so at the next."""
    _, first = open_cache()
    read = []
    check = files.is_whole
    monkeypatch.setattr(files, "is_whole", lambda path: read.append(path) or check(path))
    open_cache()
    assert not read
    path = shard_files(kd_home)[2]
    told = path.stat()
    flip(path, -1)
    os.utime(path, ns=(told.st_atime_ns, told.st_mtime_ns))
    signal, teacher = open_cache()
    assert path in read
    assert sorted(teacher.asked) == rows_of(2, first)
    assert_right(signal)


# Processes


@pytest.fixture(scope="module")
def context():
    """Starts processes from one that has imported everything already."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["teachers", "kd.teacher.signal"])
    return made


def told(home):
    return [path.read_text().split() for path in home.glob("told.*")]


def test_a_writer_killed_at_any_moment_loses_no_whole_shard_and_nothing_comes_out_wrong(context, kd_home, monkeypatch):
    kd_home.mkdir()
    generator = np.random.default_rng(11)
    kept: dict = {}
    for _ in range(10):
        writer = context.Process(target=write, args=(kd_home, 1))
        writer.start()
        until = len(kept) + generator.integers(1, 5)
        while writer.is_alive() and len(shard_files(kd_home)) < until:
            time.sleep(0.001)
        time.sleep(float(generator.uniform(0, 0.006)))
        writer.kill()
        writer.join()
        now = {path: path.stat().st_ino for path in shard_files(kd_home)}
        assert len(now) >= until
        assert now.items() >= kept.items()
        assert all(files.is_whole(path) for path in now)
        kept = now
    assert len(kept) < ROWS
    monkeypatch.setattr(index, "SHARD_ROWS", 1)
    signal, _ = open_cache(BOTH)
    assert {path: path.stat().st_ino for path in shard_files(kd_home)}.items() >= kept.items()
    assert signal.computed == ROWS - len(kept)
    assert not list(kd_home.rglob("*.tmp"))
    assert_right(signal, BOTH)


def test_writers_at_once_share_the_rows_and_read_the_same(context, kd_home):
    """Ranks of one training, trials or other commands; each answers its first shard when the other has one, too."""
    kd_home.mkdir()
    barrier = context.Barrier(2)
    writers = [context.Process(target=write, args=(kd_home, 3, barrier)) for _ in range(2)]
    for each in writers:
        each.start()
    for each in writers:
        each.join(60)
    assert [each.exitcode for each in writers] == [0, 0]
    found = told(kd_home)
    assert sum(int(computed) for computed, *_ in found) == ROWS
    assert min(int(computed) for computed, *_ in found) > 0
    assert len({tuple(sums) for _, *sums in found}) == 1
    assert not [*kd_home.rglob(".*.lock"), *kd_home.rglob("*.tmp")]


def test_the_shard_of_a_writer_that_is_killed_is_computed_by_another(context, kd_home):
    """One rank that fails must not keep the others waiting for ever, nor leave a hole."""
    kd_home.mkdir()
    barrier = context.Barrier(2)
    stuck, other = (context.Process(target=write, args=(kd_home, 3, barrier, one)) for one in (True, False))
    stuck.start()
    other.start()
    while len(shard_files(kd_home)) < 13:
        assert other.is_alive()
        time.sleep(0.01)
    folder = shard_files(kd_home)[0].parent
    (lock,) = folder.glob(".*.lock")
    with pytest.raises(Timeout):
        FileLock(lock).acquire(timeout=0)
    with pytest.raises(Timeout):
        store.remove(folder)
    other.join(0.3)
    assert other.is_alive()
    stuck.kill()
    other.join(60)
    assert other.exitcode == 0
    assert [int(computed) for computed, *_ in told(kd_home)] == [ROWS]
    assert not [*kd_home.rglob(".*.lock")]
    assert_right(open_cache(BOTH)[0], BOTH)


# Disks


def test_a_full_disk_means_the_online_teacher_one_line_and_room_for_others(kd_home, monkeypatch, caplog):
    calls = []

    def replace(scratch, target):
        calls.append(target)
        if len(calls) > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        rename(scratch, target)

    rename = os.replace
    with monkeypatch.context() as full, caplog.at_level(logging.WARNING):
        full.setattr(os, "replace", replace)
        signal, _ = open_cache(BOTH)
    assert signal.reader is None
    assert caplog.text.count("\n") == 1
    assert "No space left" in caplog.text
    assert_right(signal, BOTH)
    assert not shard_files(kd_home)
    assert not list(kd_home.rglob("*.tmp"))
    assert open_cache(BOTH)[0].reader is not None  # and again when there is room


@pytest.fixture
def tiny_disk(tmp_path, monkeypatch):
    """A file system of 160 KiB as KD_HOME."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this user may not mount a file system")
    monkeypatch.setenv("KD_HOME", str(folder))
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("told_free", [False, True], ids=["found while writing", "known before"])
def test_a_quota_reached_means_the_online_teacher_and_one_line(tiny_disk, told_free, monkeypatch, caplog):
    if not told_free:  # a quota does not show in the free space
        monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1 << 40}))
    with caplog.at_level(logging.WARNING):
        signal, _ = open_cache(BOTH)
    assert signal.reader is None
    assert caplog.text.count("\n") == 1
    assert_right(signal, BOTH)
    assert not shard_files(tiny_disk)


def test_where_nothing_can_be_written_the_teacher_runs_online_with_one_line(kd_home, caplog):
    kd_home.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        signal, _ = open_cache()
    assert caplog.text.count("\n") == 1
    assert_right(signal)


def test_a_file_system_without_locks_means_the_online_teacher(monkeypatch, caplog):
    def none(self, *args, **kwargs):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.FileLock, "acquire", none)
    signal, _ = open_cache()
    assert signal.reader is None
    assert "No locks" in caplog.text
    assert_right(signal)


def bits(signal):
    found = signal(np.arange(ROWS))
    return found.outputs["logits"].numpy().tobytes(), found.hidden[1].numpy().tobytes()


def test_a_cache_deleted_while_it_is_read_is_computed_again_to_the_last_bit(kd_home, monkeypatch, caplog):
    monkeypatch.setattr(reader, "OPEN_SHARDS", 1)
    signal, _ = open_cache(BOTH)
    whole = bits(signal)
    signal, teacher = open_cache(BOTH)
    signal(np.arange(3))
    shutil.rmtree(kd_home)
    assert bits(signal) == whole
    assert "is gone" in caplog.text
    assert sorted(teacher.asked) == list(range(ROWS))
    assert signal.online == ""


def test_where_a_deleted_cache_cannot_be_computed_again_the_teacher_runs_online_and_it_is_told(kd_home, monkeypatch):
    monkeypatch.setattr(reader, "OPEN_SHARDS", 1)
    signal, _ = open_cache(BOTH)
    told = []
    signal.watched(told.append)
    signal(np.arange(3))
    shutil.rmtree(kd_home)
    kd_home.write_text("a file where the folder should be")
    assert_right(signal, BOTH)
    assert told == [signal.online] != [""]
    assert str(kd_home) not in signal.online


@pytest.mark.parametrize("mode", ["off", "on"])
def test_a_teacher_that_runs_online_from_the_start_says_why(kd_home, mode):
    kd_home.write_text("a file where the folder should be")
    told = []
    open_cache(mode=mode)[0].watched(told.append)
    assert told == ["cache=off" if mode == "off" else "teacher cache not written (Not a directory)"]


def test_a_shard_that_another_training_computed_anew_is_read_from_its_new_file(kd_home, monkeypatch):
    """Its name has a checksum, which changes with the last bit of a value; the others are still the first reader's."""
    monkeypatch.setattr(reader, "OPEN_SHARDS", 1)
    signal, teacher = open_cache()
    asked = len(teacher.asked)
    path = shard_files(kd_home)[2]
    path.rename(path.with_name(f"{path.name.partition('-')[0]}-{'0' * 32}.safetensors"))
    open_cache()
    assert_right(signal)
    assert signal.reader is not None
    assert len(teacher.asked) == asked


# Pruning


def test_a_cache_that_is_read_is_not_pruned_until_its_reader_ends(kd_home):
    signal, _ = open_cache()
    folder = signals.folder_of(wanted())
    with pytest.raises(BlockingIOError):
        store.remove(folder)
    assert_right(signal)
    del signal
    store.remove(folder)
    assert not folder.exists()


def test_a_cache_that_is_filled_is_not_pruned_between_planning_and_its_first_shard(kd_home, monkeypatch):
    fill = signals.fill
    refused = []

    def prune_first(index, teacher, title):
        with pytest.raises(BlockingIOError):
            store.remove(index.folder)
        refused.append(index.folder)
        return fill(index, teacher, title)

    monkeypatch.setattr(signals, "fill", prune_first)
    signal, _ = open_cache()
    assert len(refused) == 1
    assert signal.reader is not None
    assert_right(signal)


def test_a_cache_that_is_being_removed_is_computed_anew_and_not_read_half(kd_home):
    open_cache()
    folder = signals.folder_of(wanted())
    with closing(Use(folder, alone=True)):
        assert signals._whole(wanted()) is None
        with pytest.raises(BlockingIOError):
            Use(folder)
    assert signals._whole(wanted()) is not None


def test_on_a_file_system_without_locks_a_cache_is_still_read(kd_home, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    open_cache()
    monkeypatch.setattr(use.fcntl, "flock", none)
    signal, _ = open_cache()
    assert signal.reader is not None
    assert_right(signal)


@pytest.mark.parametrize("damage", [lambda path: os.truncate(path, 0), lambda path: flip(path, -3)])
def test_a_shard_damaged_between_the_check_and_the_first_look_is_not_read(damage, kd_home):
    open_cache()
    signal, _ = open_cache()
    for path in shard_files(kd_home):
        damage(path)
    assert_right(signal)
    assert signal.computed == 0
    assert all(map(files.is_whole, shard_files(kd_home)))


def test_a_file_renamed_by_another_writer_while_sizes_are_added_does_not_cost_the_cache(kd_home):
    folder = signals.folder_of(wanted())
    folder.mkdir(parents=True)
    (folder / ".000000.tmp").symlink_to(folder / "gone")  # listed, and not there when it is looked at
    signal, _ = open_cache(mode="auto")
    assert signal.reader is not None
    assert_right(signal)


def test_a_file_named_by_its_writer_while_caches_are_listed_ends_no_listing(kd_home):
    (kd_home / "encoded").mkdir(parents=True)
    (kd_home / "encoded" / ".scratch").symlink_to(kd_home / "gone")
    open_cache()
    assert [entry.state for entry in inventory.entries(shard.looks_whole)] == [inventory.WHOLE]


def test_a_teacher_that_fails_leaves_whole_shards_behind_and_no_others(kd_home):
    class Failing(Teacher):
        def __call__(self, rows):
            for count, part in enumerate(super().__call__(rows)):
                if len(self.asked) > 2 * SHARD and count == 1:
                    raise RuntimeError("out of memory")
                yield part

    with pytest.raises(RuntimeError):
        open_cache(teacher=Failing())
    assert len(shard_files(kd_home)) == 2
    signal, _ = open_cache()
    assert signal.computed == ROWS - 2 * SHARD
    assert_right(signal)
