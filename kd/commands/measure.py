"""Profile a logged model. The process is fresh and loads the model the way it is served, so its RAM is the model's.

Torch is imported for a PyTorch model only: an exported one is served without it.
"""

import importlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from kd import tracking
from kd.base.budgets import budgets_of, fits
from kd.base.console import say
from kd.base.judge import RAM_MEANS, WITHOUT_LIBRARIES
from kd.base.memory import ram_mib
from kd.base.types import UserError
from kd.config import MeasureConfig
from kd.serving import package
from kd.serving.profile import feasibility, folder_size_mib, machine, profile_callable
from kd.serving.work import COUNTED, counted

NOISY = 1.25
"""Rounds of requests whose medians differ by more than this factor were disturbed by other work."""


def run(config: MeasureConfig) -> None:
    """Measure, and log into a new run or, for a training stage, into the run that trained the model."""
    if config.into_run:
        with tracking.unbroken(f"measure {config.model}"):
            _measure(config, tracking.Run(config.into_run))
        return
    with tracking.session(config.experiment), tracking.run(f"measure {config.model}", {"kd.stage": "measure"}) as run:
        run.log_params({"model": config.model})
        _measure(config, run)


def _measure(config: MeasureConfig, run: tracking.Run) -> None:
    stored = tracking.stored_model(config.model, "model")
    requests = _requests(stored.run_id)
    settings = package.read_settings(stored.folder)
    trained = settings["format"] == "safetensors"
    _import_libraries(stored.folder, trained)
    before = ram_mib()
    served = tracking.load_served(stored.uri)

    def call(batch: list[pd.DataFrame]) -> Any:
        return served.predict(batch[0] if len(batch) == 1 else pd.concat(batch, ignore_index=True))

    profile = profile_callable(call, requests, before_mib=before)
    model = served.unwrap_python_model()
    hardware = machine() if trained else machine() | {"hw.threads": str(model.threads)}
    metrics = {**profile.metrics, "model/size_mib": folder_size_mib(stored.folder)}
    if trained:
        metrics |= counted(model.model, [partial(call, [request]) for request in requests[:COUNTED]])
    else:
        metrics["model/parameters"] = float(settings["parameters"])  # counted before export
    verdicts = fits(metrics, budgets_of(config))
    p50, p95, speed = (metrics[f"profile/{name}"] for name in ("latency_ms_p50", "latency_ms_p95", "throughput_per_s"))
    spread = max(profile.rounds_ms) / min(profile.rounds_ms)
    tags = {
        **hardware,
        **{f"kd.fits_{name}": str(fit).lower() for name, fit in verdicts.items()},
        "kd.feasibility": feasibility(p95),
        "kd.measured": stored.uri,
        RAM_MEANS: WITHOUT_LIBRARIES,
        "kd.quiet": str(spread <= NOISY).lower(),
    }
    run.log_metrics(metrics)
    run.set_tags(tags)
    say(
        f"{stored.uri}: p50 {p50:.2f} ms, p95 {p95:.2f} ms ({tags['kd.feasibility']}), "
        f"{speed:.0f} requests/s at batch {profile.batch}, {hardware['hw.threads']} threads"
    )
    if spread > NOISY:
        say(f"Warning: the machine was not quiet (medians of the rounds differ {spread:.1f} times over); measure again")
    for budget, fit in verdicts.items():
        say(f"{budget} budget: {'fits' if fit else 'does not fit'}")


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
