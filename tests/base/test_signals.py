"""A signal is never lost, never becomes another error, and leaves no lock behind."""

import signal
import sys
import time
from weakref import ref

import pytest

from kd.base import signals
from kd.base.types import Stopped

WORK = """
def work(come, done, seconds):
    come()
    until = clock() + seconds
    while clock() < until:
        pass
    done.append(True)
"""


@pytest.fixture(autouse=True)
def raising():
    """Signals raise, as in a command."""
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)}
    hook = sys.unraisablehook
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signals.raise_on_signals(lambda: Stopped("SIGTERM came"))
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    sys.unraisablehook = hook
    for number, handler in former.items():
        signal.signal(number, handler)


def wait(seconds=5.0):
    """Do nothing, in the way of Python code, until a signal ends it."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
    pytest.fail("the signal was lost")


def in_library(name):
    """Return a function that belongs to a module of that name."""
    names = {"__name__": name, "clock": time.monotonic}
    exec(WORK, names)
    return names["work"]


BOTH = pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, Stopped), (signal.SIGINT, KeyboardInterrupt)])


@BOTH
@pytest.mark.parametrize("library", ["sqlalchemy.engine.base", "mlflow.tracking.client", "importlib._bootstrap"])
def test_a_signal_within_the_store_or_an_import_waits_for_its_end(number, error, library):
    done = []

    def work_and_wait():
        in_library(library)(lambda: signal.raise_signal(number), done, 0.1)
        wait()

    with pytest.raises(error):
        work_and_wait()
    assert done == [True]


@BOTH
def test_a_signal_elsewhere_raises_at_once(number, error):
    done = []
    with pytest.raises(error):
        in_library("kd.search.schedule")(lambda: signal.raise_signal(number), done, 0.1)
    assert done == []


def test_a_store_that_does_not_end_is_left(monkeypatch):
    monkeypatch.setattr(signals, "LONGEST_S", 0.1)
    done = []
    with pytest.raises(Stopped):
        in_library("sqlalchemy")(lambda: signal.raise_signal(signal.SIGTERM), done, 5.0)
    assert done == []


@BOTH
def test_a_signal_whose_error_python_drops_comes_again(number, error):
    class Freed:
        pass

    freed = [Freed()]
    kept = ref(freed[0], lambda _: signal.raise_signal(number))

    def free_and_wait():
        freed.clear()
        wait()

    with pytest.raises(error):
        free_and_wait()
    assert kept() is None


@BOTH
def test_a_signal_that_is_held_raises_afterwards(number, error):
    done = []

    @signals.signals_held()
    def work():
        signal.raise_signal(number)
        done.append(True)

    with pytest.raises(error):
        work()
    assert done == [True]


def test_an_ignored_ctrl_c_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signals.raise_on_signals(lambda: Stopped("SIGTERM came"))
    signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
