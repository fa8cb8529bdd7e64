"""What a task must say of itself, so that nothing outside its folder knows what is learned.

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
from kd.base.types import Batch, Content, FormatName, MaskName, Splits, TaskName, Term

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import PreTrainedModel

Processor: TypeAlias = Any
"""What makes features of examples, such as a tokenizer; None where a task needs none."""
Collate: TypeAlias = "Callable[[list[dict[str, Any]]], Batch]"
Record: TypeAlias = Mapping[str, Any]
"""What a model answers for one feature: small, numbers and text by name."""


class Task(Judge, Protocol):
    """One kind of learning. Methods that need the data's vocabulary of outcomes are called on what `fitted` returns.

    A row of the user's data becomes examples, which are scored; an example becomes features, which the model is fed.
    """

    name: ClassVar[TaskName]
    """The word given as `task`."""
    formats: ClassVar[tuple[FormatName, ...]]
    """What a model can be exported as."""

    named: ClassVar[tuple[str, ...]]
    """Models that it makes by name, given as teacher or student in place of weights; none where all start from some."""
    reads_tokens: ClassVar[bool]
    """Whether layers have a state for each token of the text, so that comparing them needs equal tokenizers."""

    @classmethod
    def from_options(cls, options: Any) -> Task:
        """Make the task from its own options, of the class that `options_of` names."""

    def parts(self, config: Any) -> Sequence[Any]:
        """Return the task's options for each model that these options (`RowOptions`) ask for; most often one."""

    def read(self, config: Any) -> Splits:
        """Read the rows that options (`RowOptions`) name, and split them. Raises UserError."""

    def read_inputs(self, config: Any) -> Dataset:
        """Read the training rows of a data set without their targets: `inputs`, `example_id` and `group`."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Columns every row must fill."""

    @property
    def target(self) -> str:
        """The column to be learned; empty where the task makes its own."""

    @property
    def balance(self) -> str:
        """The column whose values a subset keeps in equal numbers; empty where there is none."""

    def fitted(self, splits: Splits) -> Task:
        """Check the rows and learn from train what outcomes there are. Raises UserError."""

    def examples(self, splits: Splits) -> Splits:
        """Turn rows into what is scored, such as windows of a series; the rows themselves where they are that.

        Examples have the columns of `content`, `example_id` (the same in every run on these rows) and `group`.
        """

    @property
    def content(self) -> tuple[str, ...]:
        """Columns of the examples that the model sees or is scored on: what digests are made of."""

    @property
    def scored(self) -> tuple[str, ...]:
        """Those columns of `content` that say what is scored: models that see it otherwise can still be compared."""

    def identity(self) -> Mapping[str, Any]:
        """What of the task changes what is learned, in JSON's types; part of every arm and key."""

    @property
    def built(self) -> Mapping[str, Any]:
        """What of the options decides what is built around weights, or by name; part of such a model's identity."""

    def make(self, name: str) -> tuple[PreTrainedModel, Processor]:
        """Make one of the `named` models, with random weights."""

    def load(self, folder: Path, option: str, *, finished: bool) -> tuple[PreTrainedModel, Processor]:
        """Load weights with this task's head, float32, and the processor beside them.

        Raises UserError where they cannot be loaded, do not fit each other, or a finished model knows other outcomes.
        """

    def require_fit(self, model: PreTrainedModel, processor: Processor, option: str) -> None:
        """Let model and processor agree, on the padding token say. Raises UserError where they cannot."""

    def processor_digest(self, processor: Processor) -> str:
        """Name everything about a processor that its features depend on."""

    def encode(self, examples: Dataset, processor: Processor) -> Dataset:
        """Turn examples into features, in order: the model's inputs, the truth, and columns `example` and `length`.

        It is given some examples at a time, reads their columns of `content`, and makes columns of numbers or lists of
        numbers, without nulls; `example` counts from 0 among those given. An example may have several features. One
        whose target is null gets features to which `masks` gives no `target`.
        """

    def collate(self, processor: Processor) -> Collate:
        """Return the function that pads a list of features to the longest of them; see `padded`.

        It is a pure function of the features: what is random, such as masking, is drawn from their numbers and a seed,
        so that student and teacher see the same.
        """

    def masks(self, batch: Batch) -> Mapping[MaskName, torch.Tensor]:
        """Say where the batch is valid: `target` for the task's loss, `positions` for outputs, `tokens` for layers.

        `target` and `positions` have one shape, `(batch,)` or `(batch, length)`; `tokens` is `(batch, length)`.
        """

    def outputs(self, raw: Any, batch: Batch) -> Mapping[str, torch.Tensor]:
        """Return what a teacher is followed in, by name: each `(positions, ...)`, at valid `positions`, in order."""

    def loss(self, raw: Any, batch: Batch) -> Term:
        """Return the task's own loss against the truth."""

    def answer(self, model: Any, batch: Batch) -> list[Record]:
        """Have a model answer a batch, by a forward or by generation; a record for each feature, in order."""

    def condensed(self, model: Any) -> None:
        """Take out of a trained model what only training needs; it answers as before."""

    def predictions(self, examples: Dataset, records: Sequence[Sequence[Record]]) -> pd.DataFrame:
        """Return one line an example of a split: example_id, group, and what the metrics need.

        `records` are, for each example, the records of its features, in order.
        """

    def baselines(self, splits: Splits) -> Iterator[tuple[str, dict[str, pd.DataFrame]]]:
        """Yield trivial baselines: (name, predictions on `validation` and `test`)."""

    def requests(self, examples: Dataset) -> pd.DataFrame:
        """Return examples as the served model takes them, one line each."""

    def from_served(self, answers: pd.DataFrame) -> list[list[Record]]:
        """Return what the served model answers, a line an example, as `predictions` takes it."""

    @property
    def served(self) -> Path:
        """The file of the pyfunc that serves this task's models."""

    @property
    def shipped(self) -> Path | None:
        """A folder of code that the pyfunc reads from beside the weights; None where it needs none."""

    def serving(self) -> dict[str, Any]:
        """Return what the served model must know beside weights and processor; becomes `kd.json` in its folder."""


class Explainable(Protocol):
    """A task whose decisions can be attributed to tokens."""

    def explained(self, batch: Batch, processor: Processor) -> Content:
        """Say which tokens an explanation speaks of."""

    def decided(self, raw: Any) -> torch.Tensor:
        """Return what a model's output decides for each feature, `(batch,)`, as `evidence` takes it."""

    def evidence(self, raw: Any, decided: torch.Tensor) -> torch.Tensor:
        """Return how much an output speaks for these decisions, `(batch,)`, rising; gradients go through it."""


class Filters(Protocol):
    """A task that can choose transfer rows by what a teacher says of them."""

    def trusted(self, outputs: Mapping[str, np.ndarray], confidence: float, balanced: bool, seed: int) -> np.ndarray:
        """Return which features to learn from, `(features,)`, by the task's `outputs`, `(features, ...)`.

        Those whose most probable outcome has `confidence` or more; balanced, as many of each outcome that is predicted
        as the rarest of them allows, drawn by seed.
        """
