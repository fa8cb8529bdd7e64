"""Kills for real, so that nothing can clean up: a process kills itself before or after the n-th call of a function.

The environment of an entry point says where, as in `KD_KILL="after kd.tracking.registry:set_alias 2"`; processes that
it spawns count calls of their own. With `group` behind it the whole process group dies, workers included.
`KD_KILL=apart` kills nobody, but gives the entry point a process group that another process can kill.
"""

import importlib
import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from itertools import count
from typing import Any


def arm(*, spawned: bool = False) -> None:
    """Do in this process what `KD_KILL` says; called before the entry point runs."""
    words = os.environ.get("KD_KILL", "").split()
    if not words:
        return
    if not spawned:
        os.setpgid(0, 0)
    if words == ["apart"]:
        return
    when, where, number, *group = words
    module, _, name = where.partition(":")
    *owners, last = name.split(".")
    owner: Any = importlib.import_module(module)
    for each in owners:
        owner = getattr(owner, each)
    original = getattr(owner, last)
    deadly = _deadly(original, when, int(number), bool(group))
    setattr(owner, last, deadly)
    for known in [*sys.modules.values()]:  # who took it over by `from ... import`
        for alias, value in [*vars(known).items()] if known else []:
            if value is original:
                setattr(known, alias, deadly)


def _deadly(original: Callable[..., Any], when: str, number: int, group: bool) -> Callable[..., Any]:
    assert when in ("before", "after")
    calls = count(1)

    @wraps(original)
    def called(*args: Any, **kwargs: Any) -> Any:
        last = next(calls) == number
        if last and when == "before":
            _die(group)
        result = original(*args, **kwargs)
        if last:
            _die(group)
        return result

    return called


def _die(group: bool) -> None:
    if group:
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
