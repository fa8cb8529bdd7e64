"""The processes of this machine that train side by side."""

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from multiprocessing.context import SpawnProcess
from typing import Any

import torch

PATIENCE_S = 60
"""How long a process that is told to stop may take to write its checkpoint."""


def started(place: int, count: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> SpawnProcess:
    """Start one of `count` processes, with its share of the CPU's threads and of the GPUs; it ends with this one."""
    kept = dict(os.environ)
    try:
        os.environ.update(share(place, count))
        process = multiprocessing.get_context("spawn").Process(target=work, args=arguments, daemon=True)
        process.start()
    finally:
        os.environ.clear()
        os.environ.update(kept)
    return process


def share(place: int, count: int) -> dict[str, str]:
    """Return the environment of one of `count` workers: its share of CPU threads, and its GPU."""
    threads = max(torch.get_num_threads() // count, 1)
    share = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    known = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    devices = [one for one in known if one] or [str(one) for one in range(torch.cuda.device_count())]
    return share | ({"CUDA_VISIBLE_DEVICES": devices[place % len(devices)]} if devices else {})


def end(processes: Sequence[SpawnProcess]) -> None:
    """Have processes write their checkpoints and end, and kill those that do not."""
    for process in processes:
        process.terminate()  # SIGTERM: a trial writes its checkpoint first
    join(processes, PATIENCE_S)
    for process in processes:
        if process.exitcode is None:
            process.kill()
            process.join()


def join(processes: Sequence[SpawnProcess], seconds: float) -> None:
    """Wait for processes to end, all together at most so many seconds."""
    until = time.monotonic() + seconds
    for process in processes:
        process.join(max(until - time.monotonic(), 0))
