"""A model's folder as it is served: safetensors, tokenizer, settings, and what pip must install."""

import importlib.util
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

SERVING_PACKAGES = ("mlflow", "torch", "transformers", "safetensors", "tokenizers", "pandas", "numpy")


def save(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: Mapping[str, Any]) -> None:
    """Write weights (safetensors), configuration, tokenizer and `kd.json` (settings) into `folder`."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "kd.json").write_text(json.dumps(dict(settings), indent=1), encoding="utf-8")


def requirements() -> list[str]:
    """Return the exact pip requirements for serving; a build label such as `+cpu` is left out, as no index has it."""
    return [f"{name}=={version(name).partition('+')[0]}" for name in SERVING_PACKAGES]


def answer(served: Path, folder: Path, requests: pd.DataFrame) -> pd.DataFrame:
    """Return what the pyfunc in the file `served` gives for `requests` with the model in `folder`."""
    spec = importlib.util.spec_from_file_location("kd_served_model", served)
    if spec is None or spec.loader is None:
        raise ImportError(f"{served} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.model.load_context(SimpleNamespace(artifacts={"model": str(folder)}))
    table: pd.DataFrame = module.model.predict(None, requests)
    return table
