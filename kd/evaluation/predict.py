"""A model's outputs for every example, in the rows' order."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from kd.base.types import CALLER_ONLY, EncodedRows


def logits(
    model: torch.nn.Module,
    rows: EncodedRows,
    collate: Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]],
    batch_size: int,
    autocast: torch.dtype | None = None,
    progress: str = "",
) -> np.ndarray:
    """Run `model` once over encoded rows, longest first, without gradient and without dropout.

    Args:
        model: on the device to be used; its mode is put back afterwards.
        rows: encoded rows with a column `length` (tokens).
        collate: pads a list of rows.
        batch_size: rows a pass.
        autocast: bfloat16 or float16; None computes in the model's own precision.
        progress: what the progress bar says; empty shows none.

    Returns:
        `(rows, ...)` float32 in the order of `rows`.
    """
    device = next(model.parameters()).device
    order = np.argsort(-np.asarray(rows["length"]), kind="stable")
    was_training = model.training
    model.eval()
    parts = []
    mixed = torch.autocast(device.type, dtype=autocast) if autocast else nullcontext()
    starts = range(0, len(order), batch_size)
    with torch.inference_mode(), mixed:
        for start in tqdm(starts, desc=progress, disable=not progress, dynamic_ncols=True, leave=False):
            batch = collate(rows.__getitems__(order[start : start + batch_size].tolist()))
            inputs = {key: value.to(device) for key, value in batch.items() if key not in CALLER_ONLY}
            parts.append(model(**inputs).logits.float().cpu().numpy())
    model.train(was_training)
    result = np.empty((len(order), *parts[0].shape[1:]), dtype=np.float32)
    result[order] = np.concatenate(parts)
    return result
