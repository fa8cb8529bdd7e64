"""Models that forecast a series from its recent past: Time-LLM and the simpler ones that it must be better than.

This folder is shipped with each stored model and run from there, so nothing of this project is imported, and its files
import one another by their place. Models take and give values in the unit of the data: what scales them is kept with
their weights.
"""

from pathlib import Path

from safetensors.torch import load_file

from .base import Forecast, Forecaster, ForecasterConfig
from .prompt import prompt_text
from .simple import DLinear, PatchTST, Persistence, Recurrent
from .time_llm import TimeLLM

FORECASTERS: dict[str, type[Forecaster]] = {
    "persistence": Persistence,
    "dlinear": DLinear,
    "gru": Recurrent,
    "lstm": Recurrent,
    "patchtst": PatchTST,
    "time-llm": TimeLLM,
}
"""Every kind of forecaster."""


def made(config: ForecasterConfig) -> Forecaster:
    """Make a forecaster of its configuration, with random weights."""
    return FORECASTERS[config.kind](config)


def read(folder: Path) -> Forecaster:
    """Read a forecaster back that was saved, in float32; raises what the libraries raise."""
    model = made(ForecasterConfig.from_pretrained(folder))
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model


__all__ = ["FORECASTERS", "Forecast", "Forecaster", "ForecasterConfig", "made", "prompt_text", "read"]
