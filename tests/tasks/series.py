"""A small file of made-up glucose, and forecasters of it as they are served."""

import runpy
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import torch

from kd.data.series.load import load
from kd.models.forecast import ForecasterConfig, made
from kd.serving import package
from kd.tasks.forecasting.build import channels
from kd.tasks.forecasting.options import ForecastingOptions
from kd.tasks.forecasting.prompts import Prompts
from kd.tasks.forecasting.task import Forecasting
from tests import tiny

STEP = 300
START = np.datetime64("2027-05-01T00:00:00", "s").astype(np.int64)
SIZES = {"patch_width": 4, "head_width": 8, "prototypes": 5, "time_column": "when", "target_column": "glucose"}


def stamp(place, zone=""):
    """The time of a step."""
    return f"{np.datetime64(int(START + STEP * place), 's')}{zone}"


def rows(seed=0, count=400, holes=0.0, swing=50.0):
    """Rows of a table, a step each, in which the share `holes` of the glucose is None, and never the first."""
    draw = np.random.default_rng(seed)
    days = np.arange(count) / 288
    values = 140 + swing * np.sin(2 * np.pi * 6 * days + seed) + np.cumsum(draw.normal(0, 1.5, count))
    absent = draw.random(count) < holes
    absent[0] = False
    return [
        {
            "when": stamp(place),
            "glucose": None if absent[place] else round(float(np.clip(values[place], 41, 400)), 1),
            "carbs": float(draw.integers(0, 2) * draw.integers(5, 60)),
            "rate": round(float(draw.random()), 2),
        }
        for place in range(count)
    ]


def written(path, patients, unit=1.0):
    """Write rows of patients as a CSV file."""
    lines = ["item_id,when,glucose,carbs,rate"]
    for item, own in patients.items():
        for row in own:
            glucose = "" if row["glucose"] is None else repr(row["glucose"] / unit)
            lines.append(f"{item},{row['when']},{glucose},{row['carbs']},{row['rate']}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def forecasting(path, **options):
    """The task fitted on a file, and its windows."""
    chosen = ForecastingOptions(**SIZES, **options)
    splits = load(str(path), chosen, {})
    return Forecasting.from_options(chosen).fitted(splits), splits


def language(folder):
    """Write a tiny language model that knows the words of prompts; returns the folder."""
    return tiny.saved_bert(folder, words=tiny.PROMPT_WORDS, positions=256)


def varied(model):
    """Make the answers of random weights differ from window to window."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.startswith(("head", "trend", "rest", "ahead", "spread_head")) and weight.dim() > 1:
                torch.nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(1))
    return model.eval()


def saved(folder, task, kind, words):
    """Make a forecaster by name, or around the language model in `words`, and store it; returns both and processor."""
    torch.manual_seed(0)
    if kind == "time-llm":
        model, processor = task.load(words, "teacher", finished=False)
    else:
        model, processor = task.make(kind)
    task.condensed(varied(model))
    package.save(folder, model, processor, task.serving(), task.shipped)
    return model, processor


def service(folder, served=None):
    """The pyfunc on a folder."""
    found = runpy.run_path(str(served or Forecasting.served.fget(None)))["model"]
    found.load_context(SimpleNamespace(artifacts={"model": str(folder)}))
    return found


HORIZON = 12
CONTRACT = {
    **SIZES,
    "horizon": HORIZON,
    "quantiles": "0.1,0.5,0.9",
    "covariates": "carbs,rate",
    "known_ahead": "carbs",
    "time_split": "0.4,0.2,0.4",
    "prompt": "short",
}
"""Options of the case of forecasting in the contract tests."""
PATCHES = ForecastingOptions(**CONTRACT).patches


def contract_splits():
    """Windows of two patients, low and high glucose among them."""
    with TemporaryDirectory() as folder:
        patients = {name: rows(seed, 300, 0.05, 90.0) for seed, name in enumerate("ab")}
        return load(str(written(Path(folder) / "two.csv", patients)), ForecastingOptions(**CONTRACT), {})


def prompts(task):
    """What describes windows, with the tiny tokenizer."""
    options = task.options
    words = tiny.tokenizer(tiny.PROMPT_WORDS, 256)
    return Prompts(words, options.prompt, options.prompt_about, options.units, options.horizon)


def time_llm(task):
    """A tiny Time-LLM of a fitted task."""
    backbone = tiny.bert(layers=2, words=tiny.PROMPT_WORDS, positions=256).config
    config = ForecasterConfig(
        kind="time-llm",
        **channels(task.options, task.step_s),
        num_hidden_layers=2,
        hidden_size=backbone.hidden_size,
        num_attention_heads=2,
        patch_length=task.options.patch_length,
        patch_stride=task.options.patch_stride,
        patch_width=4,
        head_width=8,
        key_width=8,
        heads=2,
        prototypes=5,
        around="random",
        prompt=task.options.prompt,
        backbone={**backbone.to_dict(), "model_type": "bert"},
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = made(config)
    model.scaled_by(task.center, task.spreads)
    return model.eval()
