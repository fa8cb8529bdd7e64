import pytest

from kd.teacher import signal


@pytest.fixture(autouse=True)
def told_anew():
    """What is told once a process is told once a test."""
    signal._warn.cache_clear()
