"""Options of text classification. Nothing heavy is imported, because `--help` reads this file."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from kd.base.types import ObjectiveName, UserError
from kd.config.base import Range, TaskOptions


@dataclass(frozen=True, kw_only=True)
class ClassificationOptions(TaskOptions):
    """Text classification: one label from a closed set for a text, or for a pair of texts."""

    heading: ClassVar[str] = "text classification"
    example: ClassVar[str] = "--text_column review --label_column stars"
    objectives: ClassVar[tuple[ObjectiveName, ...]] = (
        "soft", "hard", "hidden", "attention", "relation", "cosine", "patient", "jsd", "dkd",
    )  # fmt: skip
    text_column: str = "text"
    """Column of the text."""
    text_pair_column: str = ""
    """Column of the second text, for tasks on pairs."""
    label_column: str = "label"
    """Column of the label."""
    max_length: Annotated[int, Range(lambda value: value >= 4, "a number of tokens >= 4")] = 128
    """Longest input in tokens, >= 4; longer ones are cut."""

    def __post_init__(self) -> None:
        super().__post_init__()
        named = [column for column in (self.text_column, self.text_pair_column, self.label_column) if column]
        if len(set(named)) < len(named):
            raise UserError(f"text_column, text_pair_column and label_column name one column twice: {', '.join(named)}")
