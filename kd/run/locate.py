"""Find the model that an option names, digest its weights, and load it."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import PreTrainedModel

from kd import tracking
from kd.base.hashing import digest_of_files, fingerprint
from kd.base.task import Processor, Task
from kd.base.types import UserError
from kd.models.folder import require_safe
from kd.models.load import fetch_weights
from kd.serving.package import read_settings


@dataclass(frozen=True)
class Located:
    """A model's folder, its name with an alias resolved to a version, and the sha256 of weights, settings and words.

    `run_id` is empty for a model that no run logged.
    """

    folder: Path
    uri: str
    digest: str
    run_id: str = ""


@dataclass(frozen=True)
class Loaded:
    """A model with a task's head, and the processor beside it."""

    located: Located
    model: PreTrainedModel
    processor: Processor

    def on_device(self) -> PreTrainedModel:
        """Return the model on the GPU, where there is one."""
        model: PreTrainedModel = self.model.to("cuda" if torch.cuda.is_available() else "cpu")
        return model


def locate(name: str, option: str) -> Located:
    """Find `models:/...`, `runs:/...`, `builtin:...`, a folder or a hub id.

    Raises:
        UserError: it does not exist, or is no model this project can load safely.
    """
    if name.startswith(("models:/", "runs:/")):
        stored = tracking.stored_model(name, option)
        folder, uri, run_id = stored.folder, stored.uri, stored.run_id or ""
        if read_settings(folder)["format"] != "safetensors":
            raise UserError(f"{option}={name!r} is exported: give the version it came from (its tag kd.exported_from)")
        require_safe(folder, f"{option}={name!r}")
    else:
        folder, uri, run_id = fetch_weights(name, option), name, ""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".json", ".txt", ".model"))
    return Located(folder, uri, digest_of_files(files), run_id)


def load(task: Task, name: str, option: str, *, finished: bool) -> Loaded:
    """Find a model and load it, or make it by name; a `finished` one knows the task's outcomes. Raises UserError."""
    named = f"{option}={name!r}"
    if name in task.named and not finished:
        made, processor = task.make(name)
        return Loaded(Located(Path(), name, fingerprint({"made": name, **task.built})), made, processor)
    if name in task.named:
        raise UserError(f"{named}: a finished model is needed here: train it first by kd teacher, or by kd main")
    try:
        located = locate(name, option)
    except UserError as error:
        if type(error) is not UserError or finished or not task.named or ":" in name:
            raise
        raise UserError(f"{error}; or by name {', '.join(task.named)}") from error
    model, processor = task.load(located.folder, named, finished=finished)
    if not finished and task.built:
        located = replace(located, digest=fingerprint({"weights": located.digest, **task.built}))
    depth = getattr(model.config, "num_hidden_layers", None)
    if not isinstance(depth, int) or depth < task.reads_tokens:
        raise UserError(
            f"{named}: {type(model).__name__} has no layers of its own ({depth}); give a model of text alone"
        )
    return Loaded(located, model, processor)
