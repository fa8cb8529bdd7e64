"""A teacher's predictions on a split are made once, read again as they were, and made again when damaged."""

import errno
import logging
import os

import numpy as np
import pandas as pd
import pytest

from kd.teacher.tables import kept_table

TABLE = pd.DataFrame(
    {
        "example_id": ["a", "b", "c"],
        "label": ["good", "bad", "good"],
        "loss": np.random.default_rng(0).normal(size=3),
        "words": [3, 1, 2],
    }
)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "predictions"


def never():
    raise AssertionError("the teacher ran although its predictions are kept")


def only_file(folder):
    (path,) = folder.iterdir()
    return path


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_what_was_made_is_read_again_to_the_last_bit(folder):
    pd.testing.assert_frame_equal(kept_table(folder, "key", lambda: TABLE, {}), TABLE, check_exact=True)
    pd.testing.assert_frame_equal(kept_table(folder, "key", never, {}), TABLE, check_exact=True)
    assert only_file(folder).suffix == ".parquet"


def test_another_key_is_another_table(folder):
    kept_table(folder, "key", lambda: TABLE, {})
    other = TABLE.assign(loss=0.0)
    pd.testing.assert_frame_equal(kept_table(folder, "keys", lambda: other, {}), other)
    pd.testing.assert_frame_equal(kept_table(folder, "key", never, {}), TABLE)


@pytest.mark.parametrize(
    "damage",
    [flip, lambda path: os.truncate(path, 100), lambda path: path.write_bytes(b""), lambda path: path.unlink()],
    ids=["a flipped bit", "cut short", "empty", "gone"],
)
def test_a_damaged_table_is_never_read_and_is_made_again(folder, damage):
    kept_table(folder, "key", lambda: TABLE, {})
    damage(only_file(folder))
    calls = []
    pd.testing.assert_frame_equal(kept_table(folder, "key", lambda: calls.append(1) or TABLE, {}), TABLE)
    assert calls == [1]
    pd.testing.assert_frame_equal(kept_table(folder, "key", never, {}), TABLE)


def test_a_file_under_a_checksum_that_is_not_its_own_is_not_read(folder):
    kept_table(folder, "key", lambda: TABLE, {})
    path = only_file(folder)
    path.rename(folder / f"key-{'0' * 32}.parquet")
    calls = []
    kept_table(folder, "key", lambda: calls.append(1) or TABLE, {})
    assert calls == [1]


def test_a_full_disk_means_the_teachers_predictions_one_line_and_no_litter(folder, monkeypatch, caplog):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk, caplog.at_level(logging.WARNING):
        disk.setattr(os, "replace", full)
        pd.testing.assert_frame_equal(kept_table(folder, "key", lambda: TABLE, {}), TABLE)
    assert caplog.text.count("\n") == 1
    assert "No space left" in caplog.text
    assert not list(folder.iterdir())
    kept_table(folder, "key", lambda: TABLE, {})
    assert only_file(folder).exists()


def test_where_nothing_can_be_written_the_teacher_answers_each_time(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        pd.testing.assert_frame_equal(kept_table(tmp_path / "file" / "predictions", "key", lambda: TABLE, {}), TABLE)
    assert caplog.text.count("\n") == 1


def test_a_teacher_that_fails_leaves_nothing_behind(folder):
    with pytest.raises(RuntimeError):
        kept_table(folder, "key", lambda: (_ for _ in ()).throw(RuntimeError("out of memory")), {})
    assert not folder.exists() or not list(folder.iterdir())


def test_a_file_that_goes_while_it_is_looked_at_is_made_again(folder):
    """Another command prunes meanwhile."""
    folder.mkdir()
    (folder / f"key-{'0' * 32}.parquet").symlink_to(folder / "gone")
    pd.testing.assert_frame_equal(kept_table(folder, "key", lambda: TABLE, {}), TABLE)
