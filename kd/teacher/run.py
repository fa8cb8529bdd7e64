"""One pass of a teacher over rows: what it says about each, without a trace of the others in its batch."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from kd.base.types import CALLER_ONLY, EncodedRows, MaskName, TopLogProbs
from kd.models.activations import EAGER, look_into

MANY_OPTIONS = 30_000
"""From this many options on, the most probable ones are kept and the rest as a whole."""
TOP_K = 64
TAIL_POINTS = 8
"""A tail is known at the temperatures 8/1, 8/2, ... 8/8; see `TopLogProbs`."""


def top_log_probs(logits: torch.Tensor, k: int) -> TopLogProbs:
    """Keep the `k` most probable options, and of the rest the sums that say how much they weigh at any temperature.

    Args:
        logits: `(..., options)`, float32.
        k: number of options kept; all of them where there are no more.
    """
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
    """A teacher's outputs for given rows, row by row without padding, without gradient and without dropout.

    Attributes:
        model: on the device to be used; is put into evaluation mode, and out of fused attention for attention maps.
        rows: encoded rows with a column `length` (tokens).
        collate: pads a list of rows.
        masks: where a batch is valid; `tokens` says where padding is.
        contents: `logits`, and `hidden.3`, `attention.3` or `relation.3` of layer 3 (0-based), say.
        autocast: bfloat16 or float16; None computes in the model's own precision.
        tokens: most tokens of a forward, padding included; halved where a GPU's memory runs out.
        whole: keep every option, however many there are.
    """

    model: PreTrainedModel
    rows: EncodedRows
    collate: Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]]
    masks: Callable[[dict[str, torch.Tensor]], Mapping[MaskName, torch.Tensor]]
    contents: tuple[str, ...] = ("logits",)
    autocast: torch.dtype | None = None
    tokens: int = 8192
    whole: bool = False

    def __post_init__(self) -> None:
        """Raises UserError where the model has none of what is asked."""
        self.lengths = np.asarray(self.rows["length"])
        self._inside = look_into(self.model, self.contents, "teacher")
        if "attention" in self._inside.kinds:
            self.model.set_attn_implementation(EAGER)  # SDPA has no maps to give
        self.model.eval()

    def __call__(self, rows: np.ndarray) -> Iterator[dict[str, list[torch.Tensor]]]:
        """Yield outputs for the rows at these positions, in their order, as many at a time as fit.

        A tensor a row: logits `(options,)` or `(length, options)`, hidden states `(length, width)`, attention maps
        `(heads, length, length)`, relations `(3, length, width)`: queries, keys, values. Of 30,000 options or more,
        `logits.values`, `logits.indices` `(..., 64)` and `logits.tail` `(..., 8)`.

        Raises:
            UserError: the model does not give what is asked.
        """
        start = 0
        while start < len(rows):
            longest = int(self.lengths[rows[start:]].max())
            taken = rows[start : start + max(self.tokens // longest, 1)]
            try:
                part = self._forward(taken)
            except torch.OutOfMemoryError:
                if len(taken) == 1:
                    raise
                self.tokens = len(taken) * longest // 2
                continue
            yield part
            start += len(taken)

    def _forward(self, rows: np.ndarray) -> dict[str, list[torch.Tensor]]:
        batch = self.collate(self.rows.__getitems__(rows.tolist()))
        masks = {name: mask.cpu().numpy() for name, mask in self.masks(batch).items()}
        device = self.model.device
        inputs = {key: value.to(device) for key, value in batch.items() if key not in CALLER_ONLY}
        mixed = torch.autocast(device.type, dtype=self.autocast) if self.autocast else nullcontext()
        with torch.inference_mode(), mixed, self._inside.listening() as heard:
            outputs = self.model(**inputs, **self._inside.switches)
            found = self._logits(outputs.logits.float()) if "logits" in self.contents else {}
        tokens, positions = masks["tokens"], masks["positions"]
        steps = tokens if positions.shape == tokens.shape else positions
        result = {name: _unpadded(each, steps, (0,) if positions.ndim > 1 else ()) for name, each in found.items()}
        for name, part in self._inside.picked(outputs, heard).items():
            kind = name.partition(".")[0]
            result[name] = _unpadded(part, tokens, {"hidden": (0,), "attention": (1, 2), "relation": (1,)}[kind])
        return result

    def _logits(self, logits: torch.Tensor) -> dict[str, torch.Tensor]:
        if self.whole or logits.shape[-1] < MANY_OPTIONS:
            return {"logits": logits}
        top = top_log_probs(logits, TOP_K)
        return {"logits.values": top.values, "logits.indices": top.indices, "logits.tail": top.tail}


def _unpadded(values: torch.Tensor, valid: np.ndarray, axes: tuple[int, ...]) -> list[torch.Tensor]:
    """Split a batch into rows, and cut the axes (counted without the batch's) that are as long as the padded inputs."""
    if not axes:
        return list(values)
    rows = []
    for row, mask in zip(values, valid, strict=True):
        start, count = int(mask.argmax()), int(mask.sum())
        if not mask[start : start + count].all():
            raise ValueError("padding within a row")
        rows.append(
            row[tuple(slice(start, start + count) if axis in axes else slice(None) for axis in range(row.dim()))]
        )
    return rows
