"""Measure the latency, RAM, GPU memory and energy of any callable, on the machine that runs it.

Meant for a fresh process that loads the served artifact, so that peaks belong to that artifact. Figures are comparable
between models measured on the same, otherwise quiet, machine with the same number of threads.
"""

import gc
import importlib
import importlib.metadata
import itertools
import os
import platform
import random
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

T = TypeVar("T")
Call = Callable[[list[T]], object]
Feasibility = Literal["excellent", "good", "acceptable", "challenging"]

MIB = 2**20
WARMUP_CALLS = 3
MIN_REQUESTS = 20  # a 95th percentile needs 1 / (1 - 0.95) samples
GOAL_REQUESTS = 50
P99_REQUESTS = 100
ROUNDS = 5
METRICS = (
    *("latency_ms_p50", "latency_ms_p95", "latency_ms_p99", "throughput_per_s", "ram_peak_mib", "ram_model_mib"),
    *("gpu_peak_mib", "gpu_utilisation_pct", "gpu_energy_j"),
)
LIBRARIES = ("torch", "transformers", "tokenizers", "mlflow", "numpy", "onnxruntime")


@dataclass(frozen=True)
class TimeBudget:
    """How long to measure. The defaults take about 4 s for a request of 5 ms, at most about 20 s for one of 500 ms."""

    warmup_s: float = 0.5
    """Seconds of untimed requests, > 0; at least 3 requests are sent."""
    latency_s: float = 2.0
    """Seconds of timed requests, > 0, once 50 requests are timed."""
    latency_limit_s: float = 10.0
    """Seconds after which fewer than 50 requests are enough; at least 20 are always timed."""
    throughput_s: float = 0.25
    """Seconds of timed batches for each batch size, > 0."""
    throughput_limit_s: float = 2.0
    """Seconds for all batch sizes; a size of which one batch is expected to exceed them is not tried."""
    batch_sizes: tuple[int, ...] = (8, 32, 128)
    """Requests in a batch, tried after 1, ascending."""
    seed: int = 0
    """Seed of the order of the requests."""


@dataclass(frozen=True)
class Profile:
    """The cost of one callable; lower is better except for throughput and utilisation.

    Latencies are milliseconds a request at batch 1, percentiles over all timed requests, disturbances included.
    Utilisation and energy are the whole GPU's over that time, other processes and idle power included.
    """

    requests: int
    """Timed requests of batch 1, behind the latencies and the mean energy."""
    latency_ms_p50: float
    latency_ms_p95: float
    latency_ms_p99: float | None
    """None for fewer than 100 requests."""
    latency_ms_p50_rounds: tuple[float, ...]
    """Medians of the five rounds; where they are far apart the machine was not quiet: measure again."""
    throughput_per_s: float
    """Examples a second at the best batch size, higher is better."""
    throughput_batch: int
    """The batch size of that throughput."""
    throughput_by_batch: Mapping[int, float]
    """Examples a second for each batch size tried; sizes after the first decrease, or too slow to try, are absent."""
    ram_peak_mib: float | None
    """The process's highest resident MiB since its start: imports, loading, and serving at batch 1, but not batches,
    whose sizes differ from model to model. None except on Linux."""
    ram_model_mib: float | None
    """Resident MiB after warm-up minus `before_mib`: the model, and memory that libraries take to serve it."""
    gpu_peak_mib: float | None
    """Most MiB that torch reserved since the process started, batches left out; without the CUDA context itself."""
    gpu_utilisation_pct: float | None
    """Mean of NVML's utilisation, 0 to 100, read after each round."""
    gpu_energy_j: float | None
    """Joules a request: the mean over the whole window of timed single requests."""
    gpu_notes: tuple[str, ...]
    """Why a GPU figure is absent."""
    threads: int | None
    """Threads that torch uses in one operation; None where torch is not loaded."""

    def metrics(self) -> dict[str, float]:
        """Return the figures under their tracked names; a figure that was not measured is absent."""
        return {f"profile/{name}": value for name in METRICS if (value := getattr(self, name)) is not None}


def profile_callable(
    call: Call[T], requests: Sequence[T], budget: TimeBudget | None = None, before_mib: float | None = None
) -> Profile:
    """Measure one callable on real requests.

    Order: warm-up; single requests in five rounds, back to back; then batches. Each of the three starts the same
    seeded shuffle of the requests, repeated, so that every model gets the same lengths in the same order. Python's
    cyclic garbage collection is off while timing and runs between rounds, so that no latency includes its pauses. With
    torch on CUDA the device is synchronised before and after each call. On a quiet machine two measurements of one
    model agree within 10 % at p50; the median of the rounds' medians was tried as p50 and agreed no better.

    Args:
        call: takes a list of requests, of length 1 for a single one, and returns when its predictions are ready.
        requests: real inputs with the task's distribution of lengths.
        budget: how long to measure; None is `TimeBudget()`.
        before_mib: `resident_mib()` before the model was loaded; without it `ram_model_mib` is None.

    Raises:
        ValueError: `requests` is empty.
    """
    if len(requests) == 0:
        raise ValueError("requests: got none; at least one is needed to time a model")
    gc_was_on = gc.isenabled()
    try:
        return _measure(call, requests, budget or TimeBudget(), before_mib)
    finally:
        gc.unfreeze()
        if gc_was_on:
            gc.enable()


def _measure(call: Call[T], requests: Sequence[T], budget: TimeBudget, before_mib: float | None) -> Profile:
    _warm_up(call, _stream(requests, budget), budget)
    after_mib, meter = resident_mib(), _GpuMeter(_cuda())
    gc.disable()
    gc.collect()
    gc.freeze()  # with the libraries' objects each collection between rounds would take a third of a second
    stream = _stream(requests, budget)
    rounds = [_time_round(call, stream, budget, meter) for _ in range(ROUNDS)]
    latencies, medians = np.concatenate(rounds), tuple(float(np.median(part)) for part in rounds)
    gpu, peak_mib = meter.close(len(latencies)), _process_mib("VmHWM")
    by_batch = _throughput(call, _stream(requests, budget), budget, 1000.0 / float(latencies.mean()))
    best = max(by_batch, key=lambda size: by_batch[size])
    torch = sys.modules.get("torch")
    return Profile(
        requests=len(latencies),
        latency_ms_p50=float(np.median(latencies)),
        latency_ms_p95=float(np.percentile(latencies, 95)),
        latency_ms_p99=float(np.percentile(latencies, 99)) if len(latencies) >= P99_REQUESTS else None,
        latency_ms_p50_rounds=medians,
        throughput_per_s=by_batch[best],
        throughput_batch=best,
        throughput_by_batch=by_batch,
        ram_peak_mib=peak_mib,
        ram_model_mib=None if before_mib is None or after_mib is None else after_mib - before_mib,
        **gpu,
        threads=torch.get_num_threads() if torch else None,
    )


def _stream(requests: Sequence[T], budget: TimeBudget) -> Iterator[T]:
    order = random.Random(budget.seed).sample(range(len(requests)), len(requests))  # noqa: S311 - not a secret
    return (requests[i] for i in itertools.cycle(order))


def _warm_up(call: Call[T], stream: Iterator[T], budget: TimeBudget) -> None:
    end, calls = time.perf_counter() + budget.warmup_s, 0
    while calls < WARMUP_CALLS or time.perf_counter() < end:
        call([next(stream)])
        calls += 1


def _time_round(call: Call[T], stream: Iterator[T], budget: TimeBudget, meter: "_GpuMeter") -> list[float]:
    """Return the latencies of one round's requests, in ms."""
    goal, least = -(-GOAL_REQUESTS // ROUNDS), -(-MIN_REQUESTS // ROUNDS)
    latencies: list[float] = []
    gc.collect()
    start, spent = time.perf_counter(), 0.0
    while (
        len(latencies) < least or spent < budget.latency_s or (len(latencies) < goal and spent < budget.latency_limit_s)
    ):
        latencies.append(_seconds(call, [next(stream)], meter.cuda) * 1000)
        spent = (time.perf_counter() - start) * ROUNDS
    meter.sample()
    return latencies


def _throughput(call: Call[T], stream: Iterator[T], budget: TimeBudget, single_per_s: float) -> dict[int, float]:
    """Return examples a second by batch size, up to the first size that is slower than the one before."""
    by_batch, last, cuda = {1: single_per_s}, single_per_s, _cuda()
    end = time.perf_counter() + budget.throughput_limit_s
    for size in budget.batch_sizes:
        if size / last > end - time.perf_counter():
            break
        call(list(itertools.islice(stream, size)))  # libraries prepare for new shapes outside the timing
        gc.collect()
        spent, batches = 0.0, 0
        while batches == 0 or spent < budget.throughput_s:
            spent += _seconds(call, list(itertools.islice(stream, size)), cuda)
            batches += 1
        by_batch[size] = batches * size / spent
        if by_batch[size] < last:
            break
        last = by_batch[size]
    return by_batch


def _seconds(call: Call[T], batch: list[T], cuda: Any) -> float:
    if cuda:
        cuda.synchronize()
    start = time.perf_counter_ns()
    call(batch)
    if cuda:
        cuda.synchronize()
    return (time.perf_counter_ns() - start) / 1e9


def _cuda() -> Any:
    """Return `torch.cuda` where this process has a CUDA context, else None; never creates one."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch and torch.cuda.is_available() and torch.cuda.is_initialized() else None


@dataclass
class _GpuMeter:
    """Reads the device that torch uses, from construction to `close`; a figure that cannot be read leaves a note."""

    cuda: Any
    notes: list[str] = field(default_factory=list)
    utilisation: list[float] = field(default_factory=list)
    handle: Any = None
    nvml: Any = None

    def __post_init__(self) -> None:
        self.nvml, reason = _nvml() if self.cuda else (None, "torch has no CUDA context in this process")
        if reason:
            self.notes.append(reason)
        else:
            self.cuda.synchronize()
            # by UUID: CUDA_VISIBLE_DEVICES renumbers torch's devices, not NVML's
            uuid = self.cuda.get_device_properties(self.cuda.current_device()).uuid
            self.handle = self._read("nvmlDeviceGetHandleByUUID", f"GPU-{uuid}")
        self.start_mj = self._read("nvmlDeviceGetTotalEnergyConsumption", self.handle)

    def _read(self, function: str, argument: Any) -> Any:
        if argument is None:
            return None
        try:
            return getattr(self.nvml, function)(argument)
        except self.nvml.NVMLError as error:
            self.notes.append(f"{function}: {error}")
            return None

    def sample(self) -> None:
        """Read the utilisation, which NVML averages over its last 1/6 to 1 s."""
        rates = self._read("nvmlDeviceGetUtilizationRates", self.handle)
        self.utilisation += [] if rates is None else [float(rates.gpu)]

    def close(self, requests: int) -> dict[str, Any]:
        """Return the GPU's fields of `Profile` for this many requests."""
        end_mj = self._read("nvmlDeviceGetTotalEnergyConsumption", self.handle)
        return {
            "gpu_peak_mib": self.cuda.max_memory_reserved() / MIB if self.cuda else None,
            "gpu_utilisation_pct": float(np.mean(self.utilisation)) if self.utilisation else None,
            "gpu_energy_j": None if None in (self.start_mj, end_mj) else (end_mj - self.start_mj) / 1000 / requests,
            "gpu_notes": tuple(dict.fromkeys(self.notes)),
        }


def _nvml() -> tuple[Any, str]:
    """Return NVML started, or the reason why it cannot be."""
    try:
        pynvml = importlib.import_module("pynvml")  # the package nvidia-ml-py is optional
    except ImportError as error:
        return None, str(error)
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return None, str(error)
    return pynvml, ""


def resident_mib() -> float | None:
    """Return the MiB of RAM this process uses, shared and memory-mapped pages included; None except on Linux."""
    return _process_mib("VmRSS")


def _process_mib(key: str) -> float | None:
    # VmHWM, not getrusage: ru_maxrss survives exec, so a child would report the peak of a bigger parent
    status = Path("/proc/self/status")
    found = re.search(rf"^{key}:\s+(\d+) kB", status.read_text(), re.MULTILINE) if status.exists() else None
    return int(found[1]) / 1024 if found else None


def machine() -> dict[str, str]:
    """Return tags for the hardware and the libraries, without host, user or path; absent parts have no tag.

    `hw.cores`: logical cores this process may use. `hw.threads`: threads that torch uses in one operation, where it is
    loaded. `hw.ram_gib`: the machine's RAM, not a container's limit.
    """
    cpuinfo, torch = Path("/proc/cpuinfo"), sys.modules.get("torch")
    models = re.findall(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else []
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    tags = {"hw.cpu": models[0] if models else platform.processor(), "hw.cores": str(cores or "")}
    if torch:
        tags["hw.threads"] = str(torch.get_num_threads())
    if hasattr(os, "sysconf"):
        tags["hw.ram_gib"] = f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.1f}"
    nvml, _ = _nvml()
    if nvml and (handles := [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]):
        tags["hw.gpu"] = "; ".join(nvml.nvmlDeviceGetName(handle) for handle in handles)
        tags["hw.driver"] = nvml.nvmlSystemGetDriverVersion()
    tags |= {"os.platform": platform.platform(), "lib.python": platform.python_version()}
    for name in LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            tags[f"lib.{name}"] = importlib.metadata.version(name)
    return {name: value for name, value in tags.items() if value}


def feasibility(latency_ms_p95: float) -> Feasibility:
    """Return the class of a 95th percentile of latency: below 100 ms, 500 ms, 1000 ms, or above."""
    if latency_ms_p95 < 100:
        return "excellent"
    if latency_ms_p95 < 500:
        return "good"
    return "acceptable" if latency_ms_p95 < 1000 else "challenging"


def folder_size_mib(path: str | Path) -> float:
    """Return the MiB of all files below a model folder; raises NotADirectoryError if it is not a folder."""
    if not Path(path).is_dir():
        raise NotADirectoryError(f"{path} is not a folder")
    return sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file()) / MIB
