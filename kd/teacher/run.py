"""One pass of a teacher over features: its outputs for each, independent of the others in its batch."""

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from kd.base.task import Collate, Task
from kd.base.types import OUTPUTS, Batch, Features, LayerKind, TopLogProbs
from kd.models.activations import EAGER, look_into

PADDED_AXES: Mapping[LayerKind, tuple[int, ...]] = {"hidden": (0,), "attention": (1, 2), "relation": (1,)}
"""Axes of a feature's content along which it is padded."""

MANY_OPTIONS = 30_000
"""From this many options, only the most probable ones are kept, and the rest as a whole."""
TOP_K = 64
TAIL_POINTS = 8
"""A tail is exact at the temperatures 8/1, 8/2, ... 8/8; see `TopLogProbs`."""


def top_log_probs(logits: torch.Tensor, k: int) -> TopLogProbs:
    """Keep the `k` most probable options of float32 logits `(..., options)`, and sums for the mass of the rest."""
    log_probabilities = torch.log_softmax(logits, dim=-1)
    values, indices = log_probabilities.topk(min(k, logits.shape[-1]), dim=-1)
    root = (log_probabilities / TAIL_POINTS).exp().scatter(-1, indices, 0.0)
    power, sums = torch.ones_like(root), []
    for _ in range(TAIL_POINTS):
        power = power * root
        sums.append(power.sum(dim=-1))
    return TopLogProbs(values, indices, torch.stack(sums, dim=-1).log().clamp(min=-1e4))


@dataclass
class TeacherPass:
    """A teacher's outputs for given features, one by one without padding, without gradient and without dropout.

    Attributes:
        model: on the device to be used; is set to evaluation mode, and to plain attention for attention maps.
        features: with a column `length`.
        collate: pads a list of features.
        task: gives the valid positions of a batch, and the outputs that are compared.
        contents: `outputs`, and `hidden.3`, `attention.3` or `relation.3` of layer 3 (0-based), say.
        autocast: bfloat16 or float16; None computes in the model's own precision.
        tokens: most tokens in a forward, padding included; halved where a GPU's memory runs out.
    """

    model: PreTrainedModel
    features: Features
    collate: Collate
    task: Task
    contents: tuple[str, ...] = (OUTPUTS,)
    autocast: torch.dtype | None = None
    tokens: int = 8192

    def __post_init__(self) -> None:
        """Find the contents in the model. Raises UserError where it does not have them."""
        self.lengths = np.asarray(self.features["length"])
        self._inside = look_into(self.model, self.contents, "teacher")
        if "attention" in self._inside.kinds:
            self.model.set_attn_implementation(EAGER)  # SDPA has no maps to give
        self.model.eval()

    def __call__(self, features: np.ndarray) -> Iterator[dict[str, list[torch.Tensor]]]:
        """Yield outputs for the features at these positions, in their order, as many at a time as fit.

        A tensor a feature: the task's outputs `outputs.NAME` `(positions, ...)`, hidden states `(length, width)`,
        attention maps `(heads, length, length)`, relations `(3, length, width)`: queries, keys, values. Outputs of
        30,000 options or more are `outputs.NAME.values`, `.indices` `(positions, 64)` and `.tail` `(positions, 8)`.
        Raises UserError where the model does not give a content.
        """
        start = 0
        while start < len(features):
            longest = int(self.lengths[features[start:]].max())
            taken = features[start : start + max(self.tokens // longest, 1)]
            try:
                part = self._forward(taken)
            except torch.OutOfMemoryError:
                if len(taken) == 1:
                    raise
                self.tokens = len(taken) * longest // 2
                continue
            yield part
            start += len(taken)

    def _forward(self, features: np.ndarray) -> dict[str, list[torch.Tensor]]:
        batch = self.collate(self.features.__getitems__(features.tolist()))
        masks = self.task.masks(batch)
        device = self.model.device
        batch = batch.to(device)
        mixed = torch.autocast(device.type, dtype=self.autocast) if self.autocast else nullcontext()
        with torch.inference_mode(), mixed, self._inside.listening() as heard:
            raw = self.model(**batch.inputs, **self._inside.switches)
            found = self._outputs(raw, batch) if OUTPUTS in self.contents else {}
        counts = masks["positions"].reshape(len(batch), -1).sum(dim=1).tolist()
        result = {name: list(torch.split(values, counts)) for name, values in found.items()}
        tokens = masks["tokens"].cpu().numpy()
        for name, part in self._inside.picked(raw, heard).items():
            result[name] = _unpadded(part, tokens, PADDED_AXES[self._inside.contents[name].kind])
        return result

    def _outputs(self, raw: Any, batch: Batch) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = {}
        for name, values in self.task.outputs(raw, batch).items():
            named = f"{OUTPUTS}.{name}"
            if values.dim() < 2 or values.shape[-1] < MANY_OPTIONS:
                found[named] = values.float()
                continue
            top = top_log_probs(values.float(), TOP_K)
            found |= {f"{named}.values": top.values, f"{named}.indices": top.indices, f"{named}.tail": top.tail}
        return found


def _unpadded(values: torch.Tensor, valid: np.ndarray, axes: tuple[int, ...]) -> list[torch.Tensor]:
    """Split a batch into features, and remove the padding along `axes` (counted without the batch's)."""
    features = []
    for feature, mask in zip(values, valid, strict=True):
        start, count = int(mask.argmax()), int(mask.sum())
        if not mask[start : start + count].all():
            raise ValueError("padding within a feature")
        span = slice(start, start + count)
        features.append(feature[tuple(span if axis in axes else slice(None) for axis in range(feature.dim()))])
    return features
