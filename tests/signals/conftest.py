import pytest

from kd import signals


@pytest.fixture(autouse=True)
def told_anew():
    """What is told once a process is told once a test."""
    signals._warn.cache_clear()
