"""Batches of tokens: padding, and which tokens carry meaning. Torch is imported by the functions that need it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kd.base.types import Batch, Content

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NUMBERS = ("feature", "example", "length")
"""Columns of features that a batch does not have."""


def padded(
    features: Sequence[Mapping[str, Any]], fill: Mapping[str, int], left: bool, truth: Collection[str] = ()
) -> Batch:
    """Pad features into a batch, without a Python loop over tokens.

    Args:
        features: numbers, or arrays of integers, by column.
        fill: padding value of each column that has a value for each token; these columns have equal lengths.
        left: whether to pad on the left.
        truth: columns that are not inputs of the model.

    Returns:
        int64: `(batch, length)` for the columns of `fill`, stacked numbers for the others.
    """
    import torch

    tokens = [name for name in features[0] if name in fill]
    counts = np.array([len(one[tokens[0]]) for one in features])
    steps = np.arange(counts.max())
    valid = (steps >= counts.max() - counts[:, None]) if left else (steps < counts[:, None])
    parts: tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]] = ({}, {})
    for name in features[0]:
        if name in NUMBERS:
            continue
        if name in tokens:
            values = np.full(valid.shape, fill[name], dtype=np.int64)
            values[valid] = np.concatenate([one[name] for one in features])
        else:
            values = np.array([one[name] for one in features])
        parts[name in truth][name] = torch.from_numpy(values)
    return Batch(*parts, np.array([one["feature"] for one in features]))


def content_of(batch: Batch, tokenizer: PreTrainedTokenizerBase) -> Content:
    """Return the content tokens of a text: all except special ones and padding; the padding token is the blank."""
    import torch

    ids = batch.inputs["input_ids"]
    special = torch.tensor(tokenizer.all_special_ids, device=ids.device)
    said = batch.inputs["attention_mask"].bool() & ~torch.isin(ids, special)
    return Content("input_ids", said, int(tokenizer.pad_token_id))


def token_fill(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Return the padding value of each column of a tokenizer."""
    return {
        "input_ids": tokenizer.pad_token_id,
        "attention_mask": 0,
        "token_type_ids": tokenizer.pad_token_type_id,
    }
