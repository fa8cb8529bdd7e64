"""Which process a trial runs in, and whether that one is still there."""

import os
import socket
from pathlib import Path

import psutil

SAME_S = 2
"""Seconds by which the start of one process may seem to move: the system rounds when it booted to whole ones."""


def _place() -> str:
    """Name the machine and, in containers, the processes that see one another by number."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        space = os.readlink("/proc/self/ns/pid")
    except OSError:  # elsewhere than on Linux
        boot = space = ""
    return f"{socket.gethostname()} {boot} {space}"


def _since_boot(process: psutil.Process) -> float:
    """Return when a process started, in seconds since the machine did: the clock may be set meanwhile."""
    return float(process.create_time() - psutil.boot_time())


def myself() -> str:
    """Sign this process: machine, number, start."""
    return f"{_place()}|{os.getpid()}|{_since_boot(psutil.Process())}"


def host(signature: str) -> str:
    """Return the machine's name in a signature."""
    return signature.split(" ")[0]


def vanished(signature: str) -> bool | None:
    """Say whether a process is gone; None where that cannot be seen from here, as on another machine."""
    place, number, started = signature.rsplit("|", 2)
    if place != _place():
        return None
    try:
        process = psutil.Process(int(number))
        other = abs(_since_boot(process) - float(started)) > SAME_S
        return other or bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
