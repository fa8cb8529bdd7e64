"""SIGTERM and Ctrl-C outside trainings: an error in the main thread, but not where it would be lost."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from kd.base.types import Stopped

UNSAFE = ("sqlalchemy", "mlflow", "importlib._bootstrap")
"""Where an error out of nowhere is dropped, becomes one of the store, or leaves a lock that others wait for."""
AGAIN_S, LONGEST_S = 0.002, 10.0
"""How soon a signal that came at a bad time comes again, and for how long it is put off."""


def raise_on_signals(stopped: Callable[[], Stopped]) -> None:
    """Raise `stopped()` on SIGTERM, and KeyboardInterrupt on Ctrl-C unless that is ignored."""
    sys.unraisablehook = _hook(sys.unraisablehook)
    signal.signal(signal.SIGTERM, _raising(stopped))
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _raising(KeyboardInterrupt))


@contextmanager
def signals_held() -> Iterator[None]:
    """Act on a SIGTERM or Ctrl-C that comes meanwhile at the end: what is begun here is known to who ends it."""
    here = threading.current_thread() is threading.main_thread()
    came: list[int] = []
    former: dict[int, Any] = {}
    try:
        for name in (signal.SIGTERM, signal.SIGINT) if here else ():
            former[name] = signal.getsignal(name)
            signal.signal(name, lambda one, _: came.append(one))
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    for number in came[:1]:
        signal.raise_signal(number)


def _raising(error: Callable[[], BaseException]) -> Callable[[int, FrameType | None], None]:
    began: list[float] = []

    def act(number: int, frame: FrameType | None) -> None:
        began.append(time.monotonic())
        if _is_unsafe(frame) and began[-1] - began[0] < LONGEST_S:
            _again(number)
            return
        began.clear()
        raise error()

    return act


def _is_unsafe(frame: FrameType | None) -> bool:
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith(UNSAFE):
            return True
        frame = frame.f_back
    return False


def _again(number: int) -> None:
    """Send a signal to this process a little later, to whatever handles it then."""
    signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(number))
    signal.setitimer(signal.ITIMER_REAL, AGAIN_S)


def _hook(former: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a hook for errors that Python drops, as in a callback of the garbage collector: a signal's comes again."""

    def hook(dropped: Any) -> None:
        if isinstance(dropped.exc_value, Stopped):
            _again(signal.SIGTERM)
        elif isinstance(dropped.exc_value, KeyboardInterrupt):
            _again(signal.SIGINT)
        else:
            former(dropped)

    return hook
