"""A folder is published whole or not at all."""

from pathlib import Path

import pytest

from kd.base.home import home, publish


def test_home_is_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv("KD_HOME", str(tmp_path / "elsewhere"))
    assert home() == tmp_path / "elsewhere"


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_word_home_is_in_the_users_cache(monkeypatch, tmp_path, value):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KD_HOME") if value is None else monkeypatch.setenv("KD_HOME", value)
    assert home() == Path(tmp_path) / ".cache" / "kd"


def test_nothing_is_seen_before_all_of_it_is_there(tmp_path):
    target = tmp_path / "deep" / "target"
    with publish(target) as scratch:
        (scratch / "one").write_text("1")
        assert not target.exists()
        assert scratch.parent == target.parent  # a rename within one file system is one step
    assert (target / "one").read_text() == "1"
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_a_failure_leaves_nothing_behind(tmp_path):
    target = tmp_path / "target"
    with pytest.raises(ZeroDivisionError), publish(target) as scratch:
        (scratch / "one").write_text(f"{1 / 0}")
    assert list(tmp_path.iterdir()) == []


def test_the_first_of_two_processes_wins_and_the_second_leaves_no_litter(tmp_path):
    target = tmp_path / "target"
    with publish(target) as slow:
        (slow / "one").write_text("slow")
        with publish(target) as quick:
            (quick / "one").write_text("quick")
    assert (target / "one").read_text() == "quick"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_file_in_the_way_is_an_error_and_not_overwritten(tmp_path):
    target = tmp_path / "target"
    target.write_text("something of the user's")
    with pytest.raises(OSError, match="target"), publish(target):
        pass
    assert target.read_text() == "something of the user's"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
