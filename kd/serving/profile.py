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
from typing import Any, Generic, TypeVar

import numpy as np

from kd.base.memory import ram_mib

T = TypeVar("T")
Call = Callable[[list[T]], object]

MIB = 2**20
WARMUP_CALLS = 3
MIN_REQUESTS = 20  # a 95th percentile needs 1 / (1 - 0.95) samples
GOAL_REQUESTS = 50
P99_REQUESTS = 100
ROUNDS = 5
NOISY = 1.25
"""Rounds of requests whose medians differ by more than this factor were disturbed by other work."""
BUSY = 0.1
"""Share of the time that threads wait for a processor from which on other work disturbs; alone it is under 0.01."""
REFRESHED = 10
"""Before each round requests are sent untimed, for this part of the warm-up."""
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


@dataclass(frozen=True)
class Profile:
    """The cost of one callable.

    Attributes:
        metrics: figures under their tracked names, `profile/...`; lower is better except for throughput and
            utilisation. One that was not measured is absent.

            - `latency_ms_p50`, `_p95`, `_p99`: ms a request at batch 1, percentiles over all timed requests,
              disturbances included; of fewer than 100 requests there is no p99.
            - `throughput_per_s`: examples a second at the best batch size.
            - `ram_peak_mib`: the process's highest resident MiB since its start: imports, loading, and serving at batch
              1, but not batches, whose sizes differ from model to model. Only on Linux.
            - `ram_model_mib`: resident MiB after warm-up minus `before_mib`: the model, and memory that libraries take
              to serve it.
            - `gpu_peak_mib`: most MiB that torch reserved since the process started, batches left out; without the CUDA
              context itself.
            - `gpu_utilisation_pct`, `gpu_energy_j`: NVML's mean utilisation, 0 to 100, and joules a request, while
              single requests are timed; of the whole GPU, other processes and idle power included.
        requests: timed requests of batch 1, behind the latencies and the mean energy.
        rounds_ms: medians of the five rounds.
        batch: the batch size of the throughput.
        disturbance: what shows that the machine was busy, so that the latencies may be too high; empty where it was
            quiet.
    """

    metrics: Mapping[str, float]
    requests: int
    rounds_ms: tuple[float, ...]
    batch: int
    disturbance: str


def profile_callable(
    call: Call[T], requests: Sequence[T], budget: TimeBudget | None = None, before_mib: float | None = None
) -> Profile:
    """Measure one callable on real requests, by itself; see `Profiler`."""
    with Profiler(call, requests, budget, before_mib) as profiler:
        for _ in range(ROUNDS):
            profiler.round()
        return profiler.finish()


class Profiler(Generic[T]):
    """Measures one callable on real requests, in steps, between which other models may be measured.

    Order: warm-up; single requests in five rounds; then batches. Each of the three starts the same seeded shuffle of
    the requests, repeated, so that every model gets the same lengths in the same order. Python's cyclic garbage
    collection is off while timing and runs between rounds, so that no latency includes its pauses. With torch on CUDA
    the device is synchronised before and after each call. On a quiet machine two measurements of one model agree within
    10 % at p50; the median of the rounds' medians was tried as p50 and agreed no better.
    """

    def __init__(
        self,
        call: Call[T],
        requests: Sequence[T],
        budget: TimeBudget | None = None,
        before_mib: float | None = None,
    ) -> None:
        """Warm up.

        Args:
            call: takes a list of requests, of length 1 for a single one, and returns when its predictions are ready.
            requests: real inputs with the task's distribution of lengths.
            budget: how long to measure; None is `TimeBudget()`.
            before_mib: `ram_mib()` before the model was loaded; without it `ram_model_mib` is absent.

        Raises:
            ValueError: `requests` is empty.
        """
        if len(requests) == 0:
            raise ValueError("requests: got none; at least one is needed to time a model")
        self._call, self._requests, self._budget = call, requests, budget or TimeBudget()
        self._untimed(self._budget.warmup_s, WARMUP_CALLS)
        after_mib = ram_mib()
        self._model_mib = None if before_mib is None or after_mib is None else after_mib - before_mib
        self._gc_was_on = gc.isenabled()
        self._times: list[_Rounds] = []
        self.begin()

    def __enter__(self) -> "Profiler[T]":
        """Put garbage collection off."""
        gc.disable()
        gc.collect()
        gc.freeze()  # with the libraries' objects each collection between rounds would take a third of a second
        return self

    def __exit__(self, *_: object) -> None:
        """Put garbage collection on again, where it was on."""
        gc.unfreeze()
        if self._gc_was_on:
            gc.enable()

    def begin(self) -> None:
        """Begin the rounds, or begin them again: of several times one in which the machine was quiet counts."""
        self._stream = _stream(self._requests)
        self._times.append(_Rounds(_GpuMeter(_cuda())))

    def round(self) -> bool:
        """Time a round of requests; returns whether the machine has been quiet since the first of these rounds."""
        self._untimed(self._budget.warmup_s / REFRESHED, 1)  # another model may have filled the processor's caches
        now = self._times[-1]
        start, waited = time.perf_counter(), _waited_s()
        now.latencies.append(_time_round(self._call, self._stream, self._budget, now.meter))
        now.waited_s += _waited_s() - waited
        now.spent_s += time.perf_counter() - start
        return not now.disturbance

    def finish(self) -> Profile:
        """Return the figures of the rounds, and measure batches."""
        counts = min(self._times, key=lambda one: (one.disturbance != "", one.spread))
        latencies = np.concatenate(counts.latencies)
        p50, p95, p99 = np.percentile(latencies, (50, 95, 99)).tolist()
        figures: dict[str, float | None] = {
            "latency_ms_p50": p50,
            "latency_ms_p95": p95,
            "latency_ms_p99": p99 if len(latencies) >= P99_REQUESTS else None,
            "ram_peak_mib": ram_mib(peak=True),
            "ram_model_mib": self._model_mib,
            **counts.meter.figures(len(latencies)),
        }
        single_per_s = 1000 / float(latencies.mean())
        batch, figures["throughput_per_s"] = _throughput(
            self._call, _stream(self._requests), self._budget, single_per_s
        )
        metrics = {f"profile/{name}": value for name, value in figures.items() if value is not None}
        return Profile(metrics, len(latencies), counts.medians, batch, counts.disturbance)

    def _untimed(self, seconds: float, least: int) -> None:
        """Call with single requests for so many seconds, and so often at least."""
        stream, calls, end = _stream(self._requests), 0, time.perf_counter() + seconds
        while calls < least or time.perf_counter() < end:
            self._call([next(stream)])
            calls += 1


@dataclass
class _Rounds:
    """Rounds of requests, one after the other: latencies in ms, and for how long their threads waited."""

    meter: "_GpuMeter"
    latencies: list[list[float]] = field(default_factory=list)
    waited_s: float = 0.0
    spent_s: float = 0.0

    @property
    def medians(self) -> tuple[float, ...]:
        return tuple(float(np.median(part)) for part in self.latencies)

    @property
    def spread(self) -> float:
        """How many times over the medians differ."""
        return max(self.medians) / min(self.medians)

    @property
    def disturbance(self) -> str:
        """What shows that the machine was busy, in words; empty where it was quiet."""
        said = [f"medians of the rounds differ {self.spread:.1f} times over"] if self.spread > NOISY else []
        if (waited := self.waited_s / self.spent_s) > BUSY:  # a load that never changes shows here alone
            said.append(f"threads waited for a processor for {waited:.0%} of the time")
        return ", ".join(said)


def _waited_s() -> float:
    """Return the seconds for which this process's threads have waited for a processor, added up; 0 except on Linux."""
    waited_ns = 0
    for thread in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError):  # it has ended
            waited_ns += int(thread.read_text().split()[1])
    return waited_ns / 1e9


def _stream(requests: Sequence[T]) -> Iterator[T]:
    """Yield the requests in an order that is the same for every model, again and again."""
    order = random.Random(0).sample(range(len(requests)), len(requests))  # noqa: S311 - not a secret
    return (requests[i] for i in itertools.cycle(order))


def _time_round(call: Call[T], stream: Iterator[T], budget: TimeBudget, meter: "_GpuMeter") -> list[float]:
    """Return the latencies of one round's requests, in ms."""
    goal, least = GOAL_REQUESTS // ROUNDS, MIN_REQUESTS // ROUNDS
    latencies: list[float] = []
    gc.collect()
    meter.begin()
    start, spent = time.perf_counter(), 0.0
    while (
        len(latencies) < least or spent < budget.latency_s or (len(latencies) < goal and spent < budget.latency_limit_s)
    ):
        latencies.append(_seconds(call, [next(stream)], meter.cuda) * 1000)
        spent = (time.perf_counter() - start) * ROUNDS
    meter.end()
    return latencies


def _throughput(call: Call[T], stream: Iterator[T], budget: TimeBudget, single_per_s: float) -> tuple[int, float]:
    """Return the batch size of the most examples a second, and their number; the first that is slower is the last."""
    best, per_s, cuda = 1, single_per_s, _cuda()
    end = time.perf_counter() + budget.throughput_limit_s
    for size in budget.batch_sizes:
        if size / per_s > end - time.perf_counter():
            break
        call(list(itertools.islice(stream, size)))  # libraries prepare for new shapes outside the timing
        gc.collect()
        spent, batches = 0.0, 0
        while batches == 0 or spent < budget.throughput_s:
            spent += _seconds(call, list(itertools.islice(stream, size)), cuda)
            batches += 1
        if batches * size / spent < per_s:
            break
        best, per_s = size, batches * size / spent
    return best, per_s


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


class _GpuMeter:
    """Reads the device that torch uses while rounds are timed; a figure that cannot be read is None."""

    def __init__(self, cuda: Any) -> None:
        self.cuda = cuda
        self.nvml: Any = _nvml() if cuda else None
        self.handle = None
        self.utilisation: list[float] = []
        self.used_mj: list[float | None] = []
        if self.nvml:
            cuda.synchronize()
            # by UUID: CUDA_VISIBLE_DEVICES renumbers torch's devices, not NVML's
            uuid = cuda.get_device_properties(cuda.current_device()).uuid
            self.handle = self._read("nvmlDeviceGetHandleByUUID", f"GPU-{uuid}")

    def _read(self, function: str, argument: Any) -> Any:
        if argument is not None:
            with suppress(self.nvml.NVMLError):
                return getattr(self.nvml, function)(argument)
        return None

    def begin(self) -> None:
        """Read the energy used before a round."""
        self.start_mj = self._read("nvmlDeviceGetTotalEnergyConsumption", self.handle)

    def end(self) -> None:
        """Read the energy used in a round, and the utilisation, which NVML averages over its last 1/6 to 1 s."""
        end_mj = self._read("nvmlDeviceGetTotalEnergyConsumption", self.handle)
        self.used_mj.append(None if None in (self.start_mj, end_mj) else end_mj - self.start_mj)
        rates = self._read("nvmlDeviceGetUtilizationRates", self.handle)
        self.utilisation += [] if rates is None else [float(rates.gpu)]

    def figures(self, requests: int) -> dict[str, float | None]:
        """Return the GPU's figures for this many requests."""
        used = [mj for mj in self.used_mj if mj is not None]
        return {
            "gpu_peak_mib": self.cuda.max_memory_reserved() / MIB if self.cuda else None,
            "gpu_utilisation_pct": float(np.mean(self.utilisation)) if self.utilisation else None,
            "gpu_energy_j": sum(used) / 1000 / requests if used and len(used) == len(self.used_mj) else None,
        }


def _nvml() -> Any:
    """Return NVML started; None where it cannot be."""
    try:
        pynvml = importlib.import_module("pynvml")  # the package nvidia-ml-py is optional
        pynvml.nvmlInit()
    except ImportError:
        return None
    except pynvml.NVMLError:
        return None
    return pynvml


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
    nvml = _nvml()
    if nvml and (handles := [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]):
        tags["hw.gpu"] = "; ".join(nvml.nvmlDeviceGetName(handle) for handle in handles)
        tags["hw.driver"] = nvml.nvmlSystemGetDriverVersion()
    tags |= {"os.platform": platform.platform(), "lib.python": platform.python_version()}
    for name in LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            tags[f"lib.{name}"] = importlib.metadata.version(name)
    return {name: value for name, value in tags.items() if value}


def folder_size_mib(path: Path) -> float:
    """Return the MiB of all files below a model folder; raises NotADirectoryError if it is not a folder."""
    if not path.is_dir():
        raise NotADirectoryError(f"{path} is not a folder")
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / MIB
