"""Which process owns something, such as a run or a temporary folder, and whether it is gone: it may have been killed.

A signature names the machine, its boot, the processes that see one another by number (in a container not all), and the
process by number and start.
"""

import os
import re
import socket
from pathlib import Path

import psutil

from kd.base.hashing import text_digest

SAME_S = 2
"""Seconds by which the start of one process may seem to move: the system rounds when it booted to whole ones."""


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:  # elsewhere than on Linux
        return ""


def _place() -> str:
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    boot, machine = _read("/proc/sys/kernel/random/boot_id"), _read("/etc/machine-id")
    return f"{socket.gethostname()} {boot} {space} {machine}"


def _since_boot(process: psutil.Process) -> float:
    """Return when a process started, in seconds since the machine did: the clock may be set meanwhile."""
    return float(process.create_time() - psutil.boot_time())


def myself() -> str:
    """Sign this process: machine, number, start."""
    return f"{_place()}|{os.getpid()}|{_since_boot(psutil.Process()):.2f}"


def host(signature: str) -> str:
    """Return the machine's name in a signature."""
    return signature.split(" ")[0]


def vanished(signature: str) -> bool | None:
    """Say whether a process is gone; None where that cannot be seen from here, as on another machine."""
    place, number, started = signature.rsplit("|", 2)
    here = _place()
    if place != here:
        return True if _before_this_boot(place, here) else None
    return _gone(int(number), float(started))


def _gone(number: int, started: float) -> bool:
    """Say whether the process with this number that started so many seconds after this machine did has ended."""
    try:
        process = psutil.Process(number)
        other = abs(_since_boot(process) - started) > SAME_S
        return other or bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _before_this_boot(place: str, here: str) -> bool:
    """Whether a place is this machine, by name and number, before it was started the last time."""
    then, now = place.split(" "), here.split(" ")
    if len(then) != len(now) or not (then[1] and now[1] and now[3]):
        return False
    return (then[0], then[3]) == (now[0], now[3]) and then[1] != now[1]


def mark() -> str:
    """Sign this process in a few characters, for names of files and folders that it alone uses."""
    return f"{text_digest(_place())[:8]}-{os.getpid()}-{_since_boot(psutil.Process()):.1f}"


def is_left(name: str) -> bool:
    """Whether a file or folder with a `mark` in its name belongs to a process of this machine that is gone."""
    found = re.search(r"\b([0-9a-f]{8})-(\d+)-(\d+\.\d)\b", name)
    return found is not None and found[1] == text_digest(_place())[:8] and _gone(int(found[2]), float(found[3]))
