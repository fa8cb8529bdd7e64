import pytest

from kd.teacher import signal


@pytest.fixture(autouse=True)
def warned_anew():
    """What is warned of once a process is warned of once a test."""
    signal._warn.cache_clear()
