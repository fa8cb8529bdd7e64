"""A model's folder is looked at before a library reads it: whole, of ordinary files, and without code of its own."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel

from kd.base.console import one_line
from kd.base.types import UserError

UNUSABLE = (
    *(OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, AssertionError, ImportError),
    *(ArithmeticError, MemoryError, StrictDataclassError, SafetensorError),
)
"""What libraries raise for a configuration, a tokenizer or weights that they can make no model of."""
READ = (".json", ".txt", ".model", ".jinja", ".safetensors", ".bin")
"""Ends of the names of files that are read."""
OF_CODE = ("auto_map", "custom_pipelines", "quantization_config", "compression_config", "transformers_weights")
"""Settings that name code in the folder or on the hub, bring kernels that are fetched from there, or name other files
with weights than those that were looked at."""
IMPLEMENTATIONS = ("eager", "sdpa", "flex_attention", "grouped_mm", "batched_mm", None)
"""What attention and experts may be computed by: others are fetched from the hub, as `owner/kernel` is."""
COUNTS = {"layer": 1000, "group": 1000, "block": 1000, "expert": 1000, "num_labels": 10**6}
"""Parts of names of settings that count what is built one by one -> what they may be whatever the weights."""
TIMES, BESIDE = 2, 10**7
"""How many elements a model may have for each one of its weights, and beside them: a new head has none yet."""


def require_safe(folder: Path, named: str) -> None:
    """Check that a folder holds a model that may be loaded: configuration, and whole weights as safetensors.

    Raises UserError, which begins with `named`, for files that are no ordinary ones or damaged, for settings that would
    run code or fetch kernels, and for counts that the weights do not have.
    """
    for path in sorted(folder.iterdir()):
        if path.suffix in READ and not path.is_file():
            raise UserError(f"{named}: {path.name} is no ordinary file; save the model again")
    if (folder / "adapter_config.json").exists():
        raise UserError(f"{named}: the folder holds an adapter; give the model that it was merged into")
    for name in ("config.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            _require_no_code(read_object(folder / name, named), named, name)
    shapes = shapes_of(folder, named)
    for name, value in _settings(read_object(folder / "config.json", named)):
        most = max((most for part, most in COUNTS.items() if part in name), default=None)
        if most is not None and isinstance(value, int) and value > max(len(shapes), most):
            raise UserError(
                f"{named}: its config.json says {name}={value}, and its weights are {len(shapes)} tensors: they do not "
                "belong together; save the model again"
            )


def read_object(path: Path, named: str) -> dict[str, Any]:
    """Return the JSON object in a file; UserError where it holds none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{named}: its {path.name} is damaged: it is not JSON; save the model again") from error
    if not isinstance(found, dict):
        raise UserError(f"{named}: its {path.name} is damaged: it holds no settings; save the model again")
    return found


def shapes_of(folder: Path, named: str) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor in a folder's safetensors files, by its name; UserError where one is damaged."""
    found: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                found |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise UserError(f"{named}: {path.name} is damaged ({one_line(error)}); copy or save it again") from error
    index = folder / "model.safetensors.index.json"
    if index.is_file() and not (folder / "model.safetensors").is_file():
        parts = read_object(index, named).get("weight_map")
        if not isinstance(parts, dict) or not {*map(str, parts.values())} <= {
            one.name for one in folder.glob("*.safetensors")
        }:
            raise UserError(f"{named}: {index.name} names files that are not there; copy or save the model again")
    return found


def require_weights(make: Callable[[], PreTrainedModel], folder: Path, named: str) -> None:
    """Check that a configuration is that of the weights beside it, before memory is taken for what it describes.

    Args:
        make: builds the model; called where tensors take no memory.
        folder: has safetensors files.
        named: what an error begins with.

    Raises:
        UserError: the model has many more elements than the weights.
    """
    with torch.device("meta"):
        model = make()
    elements = sum(value.numel() for value in (*model.parameters(), *model.buffers()))
    kept = sum(map(math.prod, shapes_of(folder, named).values()))
    if elements > TIMES * kept + BESIDE:
        raise UserError(
            f"{named}: its config.json describes {elements:,} numbers, and its weights are {kept:,}: they do not "
            "belong together; save the model again"
        )


def _require_no_code(settings: dict[str, Any], named: str, file: str) -> None:
    for name, value in _settings(settings):
        if name in OF_CODE and value is not None:
            break
        if name.lstrip("_") in ("attn_implementation", "experts_implementation", "attn_implementation_internal"):
            chosen = value.values() if isinstance(value, dict) else [value]
            if not all(one in IMPLEMENTATIONS for one in chosen):
                break
    else:
        return
    raise UserError(
        f"{named} needs code of its own to run, which is never executed ({name} in {file}); use another model, or "
        "remove that setting where the model works without it"
    )


def _settings(value: Any) -> Iterator[tuple[str, Any]]:
    """Go through all settings by name, also those within others; labels may have any name."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name not in ("id2label", "label2id"):
                yield name, inner
                yield from _settings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _settings(inner)
