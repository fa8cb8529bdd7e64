"""How much memory this process takes at most from now on."""

import re
from contextlib import suppress
from pathlib import Path

import torch

MIB = 2**20
PROCESS = Path("/proc/self")


class Peaks:
    """The greatest RAM and GPU memory from construction on; earlier peaks of the process do not count."""

    def __init__(self) -> None:
        """Begin to watch. Linux resets a process's peak on request; elsewhere there is no figure."""
        self._resets = False
        with suppress(OSError):  # no such file off Linux, or the system does not let it be written
            (PROCESS / "clear_refs").write_text("5")
            self._resets = True
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def read(self) -> dict[str, float]:
        """Return `ram_peak_mib`, and on a GPU `gpu_peak_mib` (reserved by torch); what cannot be measured is absent."""
        found: dict[str, float] = {}
        if self._resets:
            peak = re.search(r"^VmHWM:\s+(\d+) kB", (PROCESS / "status").read_text(), re.MULTILINE)
            found |= {"ram_peak_mib": int(peak[1]) / 1024} if peak else {}
        if torch.cuda.is_available():
            found["gpu_peak_mib"] = torch.cuda.max_memory_reserved() / MIB
        return found
