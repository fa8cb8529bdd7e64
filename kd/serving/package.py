"""A model's folder as it is served: weights, tokenizer, settings, and pip requirements.

Torch is not imported here: a process that measures an exported model is without it.
"""

import json
import runpy
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pandas as pd

from kd.base.types import FormatName, UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

EVERY = ("mlflow", "pandas", "numpy", "tokenizers")


def save(
    folder: Path, model: "PreTrainedModel", processor: Any, settings: Mapping[str, Any], code: Path | None = None
) -> None:
    """Write weights (safetensors), configuration, processor, `kd.json` (settings) and code into `folder`."""
    model.save_pretrained(folder)
    if code is not None:
        (folder / code.name).mkdir()
        for path in sorted(code.glob("*.py")):
            (folder / code.name / path.name).write_bytes(path.read_bytes())
    if processor is not None:
        if getattr(processor, "is_fast", False):  # settings of its last call, which are not part of it
            processor.backend_tokenizer.no_truncation()
            processor.backend_tokenizer.no_padding()
        processor.save_pretrained(folder)
    write_settings(folder, settings)
    for path in folder.glob("*.safetensors"):  # the library gives them a mode of its own, for their owner alone
        path.chmod((folder / "kd.json").stat().st_mode)


def write_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write `kd.json`: the settings that the pyfunc reads beside weights and tokenizer."""
    (folder / "kd.json").write_text(json.dumps(dict(settings), indent=1), encoding="utf-8")


def read_settings(folder: Path) -> dict[str, Any]:
    """Read `kd.json`; `format`, of the weights, is safetensors by default. Raises UserError where it is damaged."""
    try:
        return {"format": "safetensors", **json.loads((folder / "kd.json").read_text(encoding="utf-8"))}
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{folder / 'kd.json'} is damaged: train or export the model again") from error


def require_whole(folder: Path, named: str) -> None:
    """Check that the files of a PyTorch model are whole and belong together, before a library reads them.

    Raises UserError, with what is `named`, where they are not.
    """
    if read_settings(folder)["format"] == "safetensors":
        from kd.models.folder import require_safe

        require_safe(folder, named)


def requirements(form: FormatName) -> list[str]:
    """Return exact pip requirements for serving, without build labels such as `+cpu`, which no package index has."""
    engine = ("torch", "transformers", "safetensors") if form == "safetensors" else ("onnxruntime",)
    return [f"{name}=={version(name).partition('+')[0]}" for name in (*EVERY, *engine)]


def answer(served: Path, folder: Path, requests: pd.DataFrame) -> pd.DataFrame:
    """Return the answers of the pyfunc in the file `served`, with the model in `folder`, to `requests`, as a table."""
    model = runpy.run_path(str(served))["model"]
    model.load_context(SimpleNamespace(artifacts={"model": str(folder)}))
    return pd.DataFrame(model.predict(None, requests))
