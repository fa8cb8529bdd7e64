"""Where caches live."""

from pathlib import Path

import pytest

from kd.base.home import home


def test_home_is_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv("KD_HOME", str(tmp_path / "elsewhere"))
    assert home() == tmp_path / "elsewhere"


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_word_home_is_in_the_users_cache(monkeypatch, tmp_path, value):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KD_HOME") if value is None else monkeypatch.setenv("KD_HOME", value)
    assert home() == Path(tmp_path) / ".cache" / "kd"
