"""Options of text classification. Nothing heavy is imported, because `--help` reads this file."""

from dataclasses import dataclass
from typing import ClassVar

from kd.base.types import ObjectiveName, UserError
from kd.config.base import TaskOptions, require


@dataclass(frozen=True, kw_only=True)
class ClassificationOptions(TaskOptions):
    """Text classification: one label from a closed set for a text, or for a pair of texts."""

    heading: ClassVar[str] = "text classification"
    objectives: ClassVar[tuple[ObjectiveName, ...]] = (
        "soft", "hard", "hidden", "attention", "relation", "cosine", "patient", "jsd", "dkd",
    )  # fmt: skip
    text_column: str = "text"
    """Column of the text."""
    text_pair_column: str = ""
    """Column of the second text, for tasks on pairs."""
    label_column: str = "label"
    """Column of the label."""
    max_length: int = 128
    """Longest input in tokens, >= 4; longer ones are cut."""

    def __post_init__(self) -> None:
        """Refuse a column that is named twice."""
        super().__post_init__()
        require(self.max_length >= 4, "max_length", self.max_length, "a number of tokens >= 4")
        named = [column for column in (self.text_column, self.text_pair_column, self.label_column) if column]
        if len(set(named)) < len(named):
            raise UserError(f"text_column, text_pair_column and label_column name one column twice: {', '.join(named)}")
