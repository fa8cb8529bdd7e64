"""The processor of Time-LLM: each window described in words, and the words as tokens of its language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kd.base.types import UserError
from kd.models.forecast.prompt import prompt_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Prompts:
    """Makes tokens of windows."""

    tokenizer: PreTrainedTokenizerBase
    kind: str
    """`full` or `short`."""
    about: str
    """The first sentence of a full prompt."""
    unit: str
    """Of the values, in words."""
    horizon: int
    """Steps that are forecast."""
    padding_side = "right"

    def __call__(self, windows: Sequence[Sequence[float]]) -> list[list[int]]:
        """Return the tokens of each window's description; UserError where they are more than the model can read."""
        texts = [prompt_text(self.kind, self.about, self.unit, window, self.horizon) for window in windows]
        found: list[list[int]] = self.tokenizer(texts)["input_ids"]
        longest, most = max(map(len, found)), self.tokenizer.model_max_length
        if longest + len(windows[0]) > most:  # there are fewer patches than steps
            raise UserError(
                f"prompt={self.kind!r}: a window takes {longest} tokens and its patches, and the model reads {most}: "
                "give prompt=short, or a shorter prompt_about"
            )
        return found

    def save_pretrained(self, folder: Path) -> None:
        """Write the tokenizer beside the model."""
        self.tokenizer.save_pretrained(folder)
