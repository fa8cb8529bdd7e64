"""The memory that this process takes, in MiB, and what looks through it for garbage."""

import atexit
import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROCESS = Path("/proc/self")


def ram_mib(peak: bool = False) -> float | None:
    """Return the RAM this process uses, or its peak, shared and memory-mapped pages included; None except on Linux."""
    # VmHWM, not getrusage: ru_maxrss survives exec, so a child would report the peak of a bigger parent
    key, status = "VmHWM" if peak else "VmRSS", PROCESS / "status"
    found = re.search(rf"^{key}:\s+(\d+) kB", status.read_text(), re.MULTILINE) if status.exists() else None
    return int(found[1]) / 1024 if found else None


class Peaks:
    """The greatest RAM and GPU memory since construction; earlier peaks of the process do not count."""

    def __init__(self) -> None:
        """Reset the peaks. Only Linux can reset a process's peak RAM; elsewhere there is no figure."""
        import torch

        self._cuda = torch.cuda if torch.cuda.is_available() else None
        self._resets = False
        with suppress(OSError):  # not Linux, or the file may not be written
            (PROCESS / "clear_refs").write_text("5")
            self._resets = True
        if self._cuda:
            self._cuda.reset_peak_memory_stats()

    def read(self) -> dict[str, float]:
        """Return `ram_peak_mib` and, on a GPU, `gpu_peak_mib` (reserved by torch); unmeasured figures are absent."""
        ram = ram_mib(peak=True) if self._resets else None
        found = {} if ram is None else {"ram_peak_mib": ram}
        return found | ({"gpu_peak_mib": self._cuda.max_memory_reserved() / 2**20} if self._cuda else {})


@contextmanager
def importing() -> Iterator[None]:
    """Have Python's cyclic garbage collector leave alone what is imported here, now and when the process ends.

    It finds nothing there, and looking through it again and again was measured to take 2.5 of 6 s of processor time.
    """
    gc.disable()
    atexit.register(gc.freeze)
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
