"""Importance of layers: how far a model's loss moves without each of them, measured once and kept on disk."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from kd.base import files
from kd.base.files import home
from kd.base.hashing import fingerprint
from kd.base.task import Collate
from kd.base.types import Batch, Features, Term
from kd.models.layers import without_layers

ROWS_AT_ONCE = 32
SUFFIX = ".json"


@dataclass(frozen=True)
class Importance:
    """A model's mean loss over the same features, with all its layers and without each of them.

    Attributes:
        rows: number of features.
        loss: with all layers.
        without: without layer 0, 1, ...
    """

    rows: int
    loss: float
    without: tuple[float, ...]

    @property
    def moved(self) -> tuple[float, ...]:
        """Absolute change of the loss without each layer, >= 0."""
        return tuple(abs(each - self.loss) for each in self.without)


def measure(
    model: PreTrainedModel,
    features: Features,
    positions: Sequence[int],
    collate: Collate,
    loss: Callable[[Any, Batch], Term],
) -> Importance:
    """Measure a model's mean loss on the features at `positions`, and without each layer: its input is its output.

    The model, on the device to be used, is not changed. Raises UserError where it has no single list of layers.
    """
    chosen = np.asarray(positions)
    order = chosen[np.argsort(-np.asarray(features["length"])[chosen], kind="stable")].tolist()
    starts = range(0, len(order), ROWS_AT_ONCE)
    batches = [collate(features.__getitems__(order[start : start + ROWS_AT_ONCE])) for start in starts]
    was_training = model.training
    model.eval()
    losses = [_mean_loss(model, batches, loss)]
    for layer in range(model.config.num_hidden_layers):
        with without_layers(model, [layer]):
            losses.append(_mean_loss(model, batches, loss))
    model.train(was_training)
    return Importance(len(chosen), losses[0], tuple(losses[1:]))


def _mean_loss(model: PreTrainedModel, batches: Sequence[Batch], loss: Callable[[Any, Batch], Term]) -> float:
    total = count = 0.0
    with torch.inference_mode():
        for batch in batches:
            there = batch.to(model.device)
            each, valid = loss(model(**there.inputs), there)
            total, count = total + float(each), count + float(valid)
    return total / count


def remembered(parts: Mapping[str, str], measured: Callable[[], Importance]) -> Importance:
    """Return what is kept for `parts`, all that the result depends on, or measure it and keep it on disk."""
    key, folder = fingerprint(parts), home() / "importance"
    if (path := files.find(folder, key, SUFFIX)) is not None:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return Importance(kept["rows"], kept["loss"], tuple(kept["without"]))
    found = measured()
    text = json.dumps(asdict(found))
    files.keep(folder, key, SUFFIX, lambda path: path.write_text(text, encoding="utf-8"), "the importances of layers")
    return found
