"""What judges a task's predictions. Comparing and promoting use it alone, so that they need no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes

    from kd.base.types import ObjectiveName

Bounds = tuple[float | None, float | None]
"""Least and greatest value that a metric can have; None where there is none."""
SHARE: Bounds = (0.0, 1.0)
UNBOUNDED: Bounds = (None, None)
FigureGroup = Literal["quality", "fidelity", "errors", "clinical", "explanation", "cost"]
OF_TASKS = ("fidelity/", "calibration/", "forecast/")
"""How the names of tasks' figures begin, all of them of one test set."""


@dataclass(frozen=True)
class Figure:
    """A metric that a report shows beside the one that arms are compared by, as the mean over an arm's runs."""

    key: str
    """Name of the metric; a task's begin as in `OF_TASKS`."""
    heading: str
    form: str = ".3f"
    """How a value is written: as in `format`; `count` has no decimals where it is whole; or `millions`."""
    group: FigureGroup = "fidelity"
    """The table it belongs to: beside the quality; fidelity and calibration; errors in detail; what errors mean to a
    patient; explanations; cost at inference."""
    higher_is_better: bool | None = None
    """Shown as an arrow; None shows none."""
    about: str = ""
    """What a reader must know of it, in a few words below the table."""

    @property
    def title(self) -> str:
        """The heading, with an arrow to where it is better."""
        return self.heading + {True: " ↑", False: " ↓", None: ""}[self.higher_is_better]

    def write(self, value: float) -> str:
        """Write a value."""
        if self.form == "count":
            return f"{value:,.1f}".removesuffix(".0")
        return f"{value / 1e6:.1f}" if self.form == "millions" else format(value, self.form)


@dataclass(frozen=True)
class Picture:
    """A drawing of a task's predictions, for the report."""

    name: str
    """Of its file; no other picture of a report has it."""
    heading: str
    draw: Callable[[Axes, Mapping[str, pd.DataFrame], Mapping[str, str]], bool]
    """Takes the axes to draw on, predictions by an arm's name (with the columns of `wide`), and each arm's colour.

    Artists that a key shall name have labels. Returns whether there was something to draw.
    """
    size: tuple[float, float] = (8.6, 4.3)
    """Width and height in inches."""


class Judge(Protocol):
    """Metrics, figures and tests of a task's predictions, of which there is one line an example.

    Every task's predictions have the columns `example_id` and `group` (examples of one group depend on one another:
    articles, patients); the methods know the others. Runs of one test digest have the same examples in the same order.
    """

    directions: ClassVar[Mapping[str, bool]]
    """Each metric of `quality`, and whether higher is better. The first is the one selected on."""
    bounds: ClassVar[Mapping[str, Bounds]]
    """What values a metric of `quality` can have, so that no interval leaves them; of one not named, any."""
    figures: ClassVar[tuple[Figure, ...]]
    """What reports show beside the quality; a gate on another figure does not apply to this task."""
    slices: ClassVar[tuple[str, ...]]
    """Columns of the predictions that are worth slicing by."""
    outcomes: ClassVar[tuple[str, ...]]
    """Columns of the predictions that nothing is sliced by: they follow from the answers, or say how to read others."""
    wide: ClassVar[str]
    """How the names begin of columns, one a class, say, that `fidelity`, `diagnostics` and `pictures` alone read.

    They are most of a file, and a comparison leaves them out; empty for none.
    """
    pictures: ClassVar[tuple[Picture, ...]]
    """What a report draws of predictions, of one run an arm; may be empty."""
    objectives: ClassVar[tuple[ObjectiveName, ...]]
    """Ways of comparing a student with its teacher that this task can use; the first is the default."""
    spaces: ClassVar[Mapping[str, Mapping[str, Any]]]
    """What a search of hyper-parameters may range over, by name, in the form of the YAML file; `default` is one."""
    per_token: ClassVar[bool]
    """Whether outputs belong to tokens, so that student and teacher must read the same ones."""

    @staticmethod
    def quality(predictions: pd.DataFrame) -> dict[str, float]:
        """Metrics of predictions against the truth, named as in `directions`; absent is what they cannot have.

        The first is never absent, but not finite where an answer is not.
        """

    @staticmethod
    def diagnostics(validation: pd.DataFrame | None, test: pd.DataFrame) -> dict[str, float]:
        """Figures `calibration/...` or `forecast/...` of a model's predictions on test; may be empty.

        What is fitted, is fitted on `validation`, and left out where that is None.
        """

    @staticmethod
    def fidelity(student: pd.DataFrame, teacher: pd.DataFrame) -> dict[str, float]:
        """Figures `fidelity/...`: how far the student does as its teacher does on the same examples."""

    @staticmethod
    def churn(before: pd.DataFrame, after: pd.DataFrame) -> dict[str, float]:
        """Shares of all examples with another answer than before, and which way, in words; the first is all of them."""

    @staticmethod
    def example_values(predictions: pd.DataFrame, metric: str) -> np.ndarray | None:
        """Values `(examples,)` whose mean is the metric; None for a metric that is no such mean."""

    @staticmethod
    def paired_test(ours: pd.DataFrame, theirs: pd.DataFrame) -> tuple[str, float]:
        """Name of the field's paired test over examples, and its two-sided p, for predictions of the same examples."""


def metric_of(judge: Judge | type[Judge], predictions: pd.DataFrame, metric: str) -> float:
    """Return a metric of predictions; NaN where they cannot have it, as a part of a test set may."""
    return judge.quality(predictions).get(metric, math.nan)


MEASURED = "kd.measured"
"""Tag of a run with figures of cost: the model that was measured, of this run or of one of the same shape."""
RAM_MEANS = "kd.ram_means"
"""Tag of a measured run: what its `profile/ram_model_mib` counts. Runs from before there was the tag lack it."""
WITHOUT_LIBRARIES = "without library code"
CKA_ABOUT = "CKA is of layers at the same depth, on validation rows"
CKA = Figure("fidelity/cka", "CKA", higher_is_better=True, about=CKA_ABOUT)
ATTRIBUTION = (
    "Integrated gradients of the input embeddings for what the teacher decides, over content tokens of validation "
    "rows; random: the same student with random weights"
)
EXPLANATIONS = (
    Figure("fidelity/attribution_pearson", "Pearson", ".3f", "explanation", True, ATTRIBUTION),
    Figure("fidelity/attribution_pearson_floor", "Pearson, random", ".3f", "explanation"),
    Figure("fidelity/attribution_top20", "top fifth", ".3f", "explanation", True),
    Figure("fidelity/attribution_top20_floor", "top fifth, random", ".3f", "explanation"),
    Figure("fidelity/attribution_completeness_error", "completeness error", ".1%", "explanation", False),
    Figure("fidelity/attribution_examples", "examples", ".0f", "explanation"),
)
"""Figures of tasks whose models can be explained."""
