"""Peak memory of this process during a training."""

import re
from contextlib import suppress
from pathlib import Path

import torch

MIB = 2**20
PROCESS = Path("/proc/self")


class Peaks:
    """The greatest RAM and GPU memory since construction; earlier peaks of the process do not count."""

    def __init__(self) -> None:
        """Reset the peaks. Only Linux can reset a process's peak RAM; elsewhere there is no figure."""
        self._resets = False
        with suppress(OSError):  # not Linux, or the file may not be written
            (PROCESS / "clear_refs").write_text("5")
            self._resets = True
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def read(self) -> dict[str, float]:
        """Return `ram_peak_mib` and, on a GPU, `gpu_peak_mib` (reserved by torch); unmeasured figures are absent."""
        found: dict[str, float] = {}
        if self._resets:
            peak = re.search(r"^VmHWM:\s+(\d+) kB", (PROCESS / "status").read_text(), re.MULTILINE)
            found |= {"ram_peak_mib": int(peak[1]) / 1024} if peak else {}
        if torch.cuda.is_available():
            found["gpu_peak_mib"] = torch.cuda.max_memory_reserved() / MIB
        return found
