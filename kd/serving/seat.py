"""A logged model measured in this process, which is fresh and loads it the way it is served: its RAM is the model's.

Torch is imported for a PyTorch model only: an exported one is served without it. Run as `python -m kd.serving.seat URI`
it measures a round at a time, when the process that started it says so (`kd.serving.sitting`).
"""

import importlib
import json
import os
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import pandas as pd

from kd import tracking
from kd.base.budgets import feasibility
from kd.base.disk import told
from kd.base.files import scratch
from kd.base.judge import MEASURED, RAM_MEANS, WITHOUT_LIBRARIES
from kd.base.memory import importing, ram_mib
from kd.base.types import UserError
from kd.serving import package
from kd.serving.profile import Profile, Profiler, folder_size_mib, machine
from kd.serving.work import COUNTED, counted


@dataclass(frozen=True)
class Measured:
    """What a model costs here: metrics `profile/...` and `model/...`, tags of the measurement, and it in words."""

    metrics: dict[str, float]
    tags: dict[str, str]
    words: str


class Seat:
    """A model that is loaded as it is served, and ready to be timed."""

    def __init__(self, uri: str) -> None:
        """Load it and warm it up. Raises UserError where it is not there, damaged, or its run has no requests."""
        stored = tracking.stored_model(uri, "model")
        self._requests = _requests(stored.run_id)
        self._uri, self._folder, self._settings = stored.uri, stored.folder, package.read_settings(stored.folder)
        self._trained = self._settings["format"] == "safetensors"
        with importing():
            package.require_whole(stored.folder, f"model={stored.uri!r}")
        with tracking.usable(stored.uri):
            with importing():
                _import_libraries(stored.folder, self._trained)
            before = ram_mib()
            self._served = tracking.load_served(stored.uri)
            self.profiler = Profiler(self._call, self._requests, before_mib=before)

    def _call(self, batch: list[pd.DataFrame]) -> Any:
        return self._served.predict(batch[0] if len(batch) == 1 else pd.concat(batch, ignore_index=True))

    def finish(self) -> Measured:
        """Measure batches, and count its work; returns all its figures."""
        profile, model = self.profiler.finish(), self._served.unwrap_python_model()
        metrics = {**profile.metrics, "model/size_mib": folder_size_mib(self._folder)}
        if self._trained:
            requests = [partial(self._call, [request]) for request in self._requests[:COUNTED]]
            metrics |= counted(model.model, requests)
            return self._measured(profile, metrics, machine())
        metrics["model/parameters"] = float(self._settings["parameters"])  # counted before export
        return self._measured(profile, metrics, machine() | {"hw.threads": str(model.threads)})

    def _measured(self, profile: Profile, metrics: dict[str, float], hardware: dict[str, str]) -> Measured:
        p50, p95, speed = (
            metrics[f"profile/{key}"] for key in ("latency_ms_p50", "latency_ms_p95", "throughput_per_s")
        )
        tags = {
            **hardware,
            "kd.feasibility": feasibility(p95),
            MEASURED: self._uri,
            RAM_MEANS: WITHOUT_LIBRARIES,
            "kd.quiet": str(not profile.disturbance).lower(),
        }
        words = (
            f"{self._uri}: p50 {p50:.2f} ms, p95 {p95:.2f} ms ({tags['kd.feasibility']}), "
            f"{speed:.0f} requests/s at batch {profile.batch}, {hardware['hw.threads']} threads"
        )
        if profile.disturbance:
            words += f"\nWarning: the machine was busy ({profile.disturbance}): measure again when it is quiet"
        return Measured(metrics, tags, words)


def _import_libraries(folder: Path, trained: bool) -> None:
    """Import what serves the model first: lazily imported parts of libraries are not the model's RAM."""
    if not trained:
        importlib.import_module("onnxruntime")
        importlib.import_module("tokenizers")
        return
    importlib.import_module("torch")
    transformers = importlib.import_module("transformers")
    kinds = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures") or []
    for name in ("AutoConfig", "AutoTokenizer", *kinds):
        getattr(transformers, name, None)  # imports the part that has it


def _requests(run_id: str) -> list[pd.DataFrame]:
    try:
        table = tracking.table(run_id, tracking.REQUESTS)
    except tracking.Gone as error:
        raise UserError(
            f"model: the run that made it has no {tracking.REQUESTS}, the real inputs to time it on"
        ) from error
    return [table.iloc[[i]].reset_index(drop=True) for i in range(len(table))]


def _take_turns(uri: str, said: IO[str], answers: IO[str]) -> None:
    """Answer each line that comes with a line of JSON, the first by itself; ends when no more can come."""
    seat = Seat(uri)
    with seat.profiler as profiler:
        _answer(answers, {})
        for word in map(str.strip, said):
            if word == "again":
                profiler.begin()
            elif word == "finish":
                _answer(answers, vars(seat.finish()))
                return
            else:
                _answer(answers, {"quiet": profiler.round()})


def _answer(answers: IO[str], given: dict[str, Any]) -> None:
    print(json.dumps(given), file=answers, flush=True)


if __name__ == "__main__":
    # what libraries print must not come between the answers
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        with told(), scratch(), tracking.unbroken(f"measure {sys.argv[1]}"):
            _take_turns(sys.argv[1], sys.stdin, own)
    except UserError as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        sys.exit(2)
