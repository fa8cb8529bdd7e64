"""What is shown of the cache is what is there, and only what was named is removed."""

import logging
import os
import time

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from filelock import FileLock

from kd.base import files
from kd.base.files import write
from kd.base.terminal import console
from kd.base.types import UserError
from kd.commands import cache, read
from kd.config import CacheConfig
from kd.data.encoded import encoded
from kd.teacher import signal as signals
from kd.teacher.cache import index
from kd.teacher.cache.inventory import Entry, to_prune
from kd.teacher.run import top_log_probs
from kd.teacher.signal import Wanted, teacher_signal
from kd.teacher.tables import kept_table

ROWS = 20
DAY = 86_400


class Teacher:
    lengths = np.arange(ROWS) + 1

    def __call__(self, rows):
        yield {"outputs.logits": [torch.full((1, 3), float(row)) for row in rows]}


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """Each entry of the cache takes one line."""
    monkeypatch.setattr(console, "width", 140)


@pytest.fixture
def kept(kd_home, monkeypatch):
    """Three caches of five shards each, used 1, 5 and 30 days ago; returns their folders."""
    monkeypatch.setattr(index, "SHARD_ROWS", 4)
    folders = {}
    for key, days in (("new", 1), ("middle", 5), ("old", 30)):
        wanted = Wanted(key, ROWS, about={"teacher": f"models:/{key}/1", "data": "d", "split": "train"})
        teacher_signal(wanted, Teacher, "on")
        folders[key] = signals.folder_of(wanted)
        os.utime(folders[key], (time.time() - days * DAY - 60,) * 2)
    return folders


def said(**options):
    with console.capture() as captured:
        cache.run(CacheConfig(**options))
    return captured.get()


def line_of(text, key):
    return next(line for line in text.splitlines() if f"models:/{key}/1" in line)


def shards_of(folder):
    return sorted(path for path in folder.iterdir() if not path.name.startswith("index"))


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_the_table_says_what_is_there(kept):
    shown = said()
    line = line_of(shown, "middle")
    for word in ("d", "train", str(ROWS), "outputs", "5 days ago", "whole"):
        assert f" {word} " in line
    size = sum(path.stat().st_size for folder in kept.values() for path in folder.iterdir())
    assert f"3 in {kept['new'].parent.parent.parent}, {size / 2**20:.1f} MiB" in shown


def test_a_long_name_is_folded_not_cut(kd_home):
    about = {"teacher": f"models:/{'a-very-' * 30}long-name/17", "data": "d", "split": "train"}
    wanted = Wanted("long", ROWS, about=about)
    teacher_signal(wanted, Teacher, "on")
    shown = said()
    assert "…" not in shown
    assert "17" in shown


def test_looking_is_not_using(kept):
    before = {key: folder.stat().st_mtime_ns for key, folder in kept.items()}
    said(action="list")
    said(action="verify")
    assert {key: folder.stat().st_mtime_ns for key, folder in kept.items()} == before


def test_using_counts_as_using(kept):
    teacher_signal(Wanted("old", ROWS), Teacher, "on")
    assert "today" in line_of(said(), "old")


def test_verify_finds_a_flipped_bit_and_list_a_truncated_or_missing_shard(kept):
    flip(shards_of(kept["new"])[0])
    os.truncate(shards_of(kept["middle"])[1], 100)
    shards_of(kept["old"])[2].unlink()
    listed, verified = said(), said(action="verify")
    assert "whole" in line_of(listed, "new")
    assert "damaged: 4 of 5 shards are whole" in line_of(verified, "new")
    for shown in (listed, verified):
        assert "damaged: 4 of 5 shards are whole" in line_of(shown, "middle")
        assert "unfinished: 4 of 5 shards" in line_of(shown, "old")
    assert "2 damaged" in verified


def test_what_cannot_be_read_is_shown_and_can_be_removed(kept, kd_home):
    (kd_home / "signals" / "former").mkdir()
    (kd_home / "signals" / "former" / "logits.npy").write_bytes(b"1234")
    next(kept["new"].glob("index-*")).write_bytes(b"")
    shown = said()
    assert "of another version" in shown
    assert "damaged: no index" in shown
    assert "Removed 4 of 4" in said(action="prune", all=True)
    assert "No teacher's outputs" in said()
    assert not list((kd_home / "signals").iterdir())


def test_pruning_by_age_leaves_what_is_younger(kept):
    assert "Removed 1 of 3" in said(action="prune", older_than_days=10)
    assert {key for key, folder in kept.items() if folder.exists()} == {"new", "middle"}


def test_pruning_by_size_removes_what_was_used_least_recently(kept):
    one = sum(path.stat().st_size for path in kept["new"].iterdir())
    said(action="prune", keep_gib=1.5 * one / 2**30)
    assert {key for key, folder in kept.items() if folder.exists()} == {"new"}


def test_a_cache_that_is_being_written_is_kept(kept):
    with FileLock(kept["old"].with_suffix(".lock")):
        shown = said(action="prune", all=True)
    assert "Kept, because it is being written" in shown
    assert "Removed 2 of 3" in shown
    assert kept["old"].exists()


def test_a_cache_that_a_training_reads_is_kept_and_named(kept):
    reading = teacher_signal(Wanted("old", ROWS), Teacher, "on")
    shown = said(action="prune", all=True)
    assert f"Kept, because a training uses it: {kept['old']}" in shown.replace("\n", "")
    assert "Removed 2 of 3" in shown
    assert reading(np.array([0])).outputs["logits"].tolist() == [[0.0] * 3]


def test_what_cannot_be_removed_is_said_and_the_rest_is_removed(kept, kd_home):
    elsewhere = kd_home / "elsewhere"
    kept["old"].rename(elsewhere)
    kept["old"].symlink_to(elsewhere, target_is_directory=True)
    shown = said(action="prune", all=True)
    assert "Kept, because it cannot be removed" in shown
    assert "Removed 2 of 3" in shown
    assert any(elsewhere.iterdir())


def test_after_pruning_the_teacher_fills_the_cache_again(kept, caplog):
    said(action="prune", all=True)
    with caplog.at_level(logging.WARNING):
        assert teacher_signal(Wanted("old", ROWS), Teacher, "on").computed == ROWS
    assert not caplog.text


def test_a_clock_set_back_prunes_nothing_by_age(kept):
    entry = Entry(kept["new"], {}, ROWS, 10, used=time.time() + 99 * DAY, state="whole")
    assert to_prune([entry], time.time(), 0.0, None) == []


def test_what_is_not_kept_of_many_options_is_told(kd_home):
    class Talker(Teacher):
        def __call__(self, rows):
            for _ in rows:
                top = top_log_probs(torch.zeros(2, 100), 80)
                parts = {"values": top.values, "indices": top.indices, "tail": top.tail}
                yield {f"outputs.logits.{name}": [part] for name, part in parts.items()}

    signal = teacher_signal(Wanted("many", ROWS), Talker, "on")
    assert signal(np.array([0, 3])).outputs["logits"].indices.shape == (4, 80)
    with console.capture() as captured:
        console.print(cache.table(cache.entries(files.is_whole), time.time()), width=300)
    assert "outputs (most probable; the rest weighs 20.00%)" in captured.get()


def test_encoded_rows_are_shown_checked_and_pruned_too(kept, kd_home):
    split = Dataset.from_dict({"n": [1, 2, 3]})
    made = Dataset.from_dict({"input_ids": [[1], [2], [3]], "example": [0, 1, 2]})
    for data in ("good", "bad"):
        encoded(split, lambda _: made, {"data": data}, {"data": f"the {data} set", "split": "test"})
    folder = kd_home / "encoded"
    (bad,) = (path for path in folder.glob("*.arrow") if b"the bad set" in path.read_bytes())
    flip(bad)
    (folder / ".0123abcd").write_bytes(b"of a killed writer")
    shown = said()
    line = next(line for line in shown.splitlines() if "the good set" in line)
    for word in ("test", "3", "encoded features", "whole"):
        assert f" {word} " in line
    assert "the bad set" not in shown
    assert (shown.count("damaged"), shown.count("unfinished")) == (1, 1)
    assert "Removed 1 of 6" in said(action="prune", older_than_days=10)  # a teacher's
    assert "Removed 5 of 5" in said(action="prune", all=True)
    assert not list(folder.iterdir())


def test_predictions_are_shown_checked_and_pruned_too(kept, kd_home):
    """They would fill the disk unseen."""
    folder, table = kd_home / "predictions", pd.DataFrame({"example_id": ["a", "b", "c"]})
    for key in ("good", "bad"):
        about = {"teacher": f"models:/{key}/1", "data": "d", "split": "test", "precision": "fp32"}
        kept_table(folder, key, lambda: table, about)
    write(folder, "former", ".parquet", table.to_parquet)  # of a version that says nothing of it
    flip(next(folder.glob("bad-*")))
    shown = said()
    line = line_of(shown, "good")
    for word in ("d", "test", "fp32", "3", "predictions", "today", "whole"):
        assert f" {word} " in line
    assert "models:/bad/1" not in shown
    assert (shown.count(" predictions "), shown.count(" damaged ")) == (3, 1)
    assert "1 damaged" in said(action="verify")
    with FileLock(folder.with_suffix(".lock")):
        assert "Removed 3 of 6" in said(action="prune", all=True)
    assert "Removed 3 of 3" in said(action="prune", all=True)
    assert not list(folder.iterdir())


def test_a_table_that_is_read_counts_as_used(kd_home):
    folder, table = kd_home / "predictions", pd.DataFrame({"example_id": ["a"]})
    kept_table(folder, "key", lambda: table, {})
    (path,) = folder.iterdir()
    os.utime(path, (time.time() - 5 * DAY - 60,) * 2)
    assert "5 days ago" in said()
    pd.testing.assert_frame_equal(kept_table(folder, "key", lambda: None, {}), table)
    assert "today" in said()


def test_encoded_rows_that_are_being_written_are_kept(kd_home):
    folder = kd_home / "encoded"
    folder.mkdir(parents=True)
    (folder / f".{'a' * 32}xyz").write_bytes(b"half")
    with FileLock(folder / f"{'a' * 32}.lock"):
        assert "Removed 0 of 1" in said(action="prune", all=True)
    assert (folder / f".{'a' * 32}xyz").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--action", "prune"],
        ["--action", "prune", "--all", "True", "--keep_gib", "1"],
        ["--all", "true"],
        ["--older_than_days", "3"],
        ["--action", "prune", "--older_than_days", "-1"],
        ["--action", "drop"],
    ],
    ids=" ".join,
)
def test_nothing_is_removed_by_an_unclear_command(words):
    with pytest.raises(UserError, match=r"action|older_than_days"):
        read("cache", words)
