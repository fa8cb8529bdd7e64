import pytest

from kd.base import files


@pytest.fixture(autouse=True)
def warned_anew():
    """What is warned of once a process is warned of once a test."""
    files.warn_once.cache_clear()
