"""What a task must say of itself, so that nothing outside this folder knows what is learned.

Here and in the tasks, torch, transformers and datasets are imported by the functions that need them: comparing and
promoting need a task's metrics alone, and torch alone takes seconds to import.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

import numpy as np
import pandas as pd

from kd.base.judge import Judge
from kd.base.types import Content, MaskName, TaskName, Term

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from kd.data.splits import Splits

Batch: TypeAlias = "dict[str, torch.Tensor]"
Collate: TypeAlias = "Callable[[list[dict[str, Any]]], Batch]"


class Task(Judge, Protocol):
    """One kind of learning. Methods that need the data's vocabulary of outcomes are called on what `fitted` returns."""

    name: ClassVar[TaskName]
    """The word given as `task`."""

    @classmethod
    def from_columns(cls, columns: Mapping[str, str]) -> Task:
        """Make the task from the column options (`text_column`, `label_column`, ...)."""
        ...

    @property
    def inputs(self) -> tuple[str, ...]:
        """Columns every row must fill."""
        ...

    @property
    def target(self) -> str:
        """The column to be learned; empty where the task makes its own."""
        ...

    def fitted(self, splits: Splits) -> Task:
        """Check the rows and learn from train what outcomes there are. Raises UserError."""
        ...

    def load_model(self, folder: Path, option: str, *, finished: bool) -> PreTrainedModel:
        """Load weights with this task's head, float32. UserError where a finished model knows other outcomes."""
        ...

    def encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Dataset:
        """Turn rows into model inputs, in order, with columns `row` (position) and `length` (in tokens) beside them.

        It is asked for some rows at a time, reads the columns of `inputs` and `target` alone, and makes columns of
        numbers or of lists of numbers, without nulls. A row whose target is null is one that `masks` gives no `target`.
        """
        ...

    def collate(self, tokenizer: PreTrainedTokenizerBase) -> Collate:
        """Return the function that pads a list of encoded rows to the longest of them; see `padded`."""
        ...

    def masks(self, batch: Batch) -> Mapping[MaskName, torch.Tensor]:
        """Where the batch is valid: `target` for the task's loss, `positions` for logits, `tokens` for layers."""
        ...

    def loss(self, outputs: Any, batch: Batch) -> Term:
        """The task's own loss against the truth."""
        ...

    def content(self, batch: Batch, tokenizer: PreTrainedTokenizerBase) -> Content | None:
        """Which tokens an explanation speaks of; None where inputs are no tokens. See `content_of`."""
        ...

    def decided(self, outputs: Any) -> torch.Tensor:
        """What a model's output decides for each row, `(batch,)`, as `evidence` takes it."""
        ...

    def evidence(self, outputs: Any, decided: torch.Tensor) -> torch.Tensor:
        """How much an output speaks for these decisions, `(batch,)`, rising; gradients go through it."""
        ...

    def trusted(self, logits: np.ndarray, confidence: float, balanced: bool, seed: int) -> np.ndarray:
        """Which rows to learn from by what a teacher says of them, `(rows,)`, true or false.

        Those whose most probable outcome has `confidence` or more; balanced, as many of each outcome that is predicted
        as the rarest of them allows, drawn by seed.
        """
        ...

    def predictions(self, rows: Dataset, logits: np.ndarray) -> pd.DataFrame:
        """One line an example: `example_id`, `group`, the columns to slice by, and what the methods of `Judge` read."""
        ...

    def baselines(self, splits: Splits) -> Iterator[tuple[str, dict[str, pd.DataFrame]]]:
        """Trivial baselines: (name, predictions on `validation` and `test`)."""
        ...

    def requests(self, rows: Dataset) -> pd.DataFrame:
        """Rows as the served model takes them."""
        ...

    def from_served(self, answers: pd.DataFrame) -> np.ndarray:
        """What the served model answered, as an array that `predictions` takes for logits."""
        ...

    @property
    def served(self) -> Path:
        """The file of the pyfunc that serves this task's models."""
        ...

    def serving(self) -> dict[str, Any]:
        """What the served model must know beside weights and tokenizer; becomes `kd.json` in the model's folder."""
        ...


def padded(rows: Sequence[Mapping[str, Any]], fill: Mapping[str, int], left: bool) -> Batch:
    """Make a batch of encoded rows, without Python for each token.

    Args:
        rows: numbers, or arrays of integers, by column.
        fill: the columns that hold tokens, and what shorter rows are filled up with; a row has as many in each.
        left: whether they are filled up on the left.

    Returns:
        int64: `(batch, length)` for the columns of `fill`, stacked numbers for the others, `length` left out.
    """
    import torch

    tokens = [name for name in rows[0] if name in fill]
    counts = np.array([len(row[tokens[0]]) for row in rows])
    steps = np.arange(counts.max())
    valid = (steps >= counts.max() - counts[:, None]) if left else (steps < counts[:, None])
    batch = {}
    for name in rows[0]:
        if name in tokens:
            values = np.full(valid.shape, fill[name], dtype=np.int64)
            values[valid] = np.concatenate([row[name] for row in rows])
            batch[name] = torch.from_numpy(values)
        elif name != "length":
            batch[name] = torch.from_numpy(np.array([row[name] for row in rows]))
    return batch


def content_of(batch: Batch, tokenizer: PreTrainedTokenizerBase) -> Content:
    """Return the tokens of a text: all but special ones and padding; the padding token stands for nothing."""
    import torch

    special = torch.tensor(tokenizer.all_special_ids, device=batch["input_ids"].device)
    said = batch["attention_mask"].bool() & ~torch.isin(batch["input_ids"], special)
    return Content("input_ids", said, int(tokenizer.pad_token_id))


def token_fill(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Return what a tokenizer fills up each of its columns with."""
    return {
        "input_ids": tokenizer.pad_token_id,
        "attention_mask": 0,
        "token_type_ids": tokenizer.pad_token_type_id,
    }
