"""Options of forecasting. Nothing heavy is imported, because `--help` reads this file."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from kd.base.console import shown
from kd.base.numbers import number
from kd.base.types import ObjectiveName, UserError
from kd.config.base import Group, NonNegativeInt, PositiveInt
from kd.config.series import SeriesOptions

AroundName = Literal["pretrained", "random", "attention", "none"]
PromptName = Literal["full", "short", "none"]
MODEL = Group("the forecaster")


@dataclass(frozen=True, kw_only=True)
class ForecastingOptions(SeriesOptions):
    """Forecasting: the next values of a series, such as glucose, from its recent past."""

    heading: ClassVar[str] = "forecasting"
    example: ClassVar[str] = "--patients 570,584 --horizon 6"
    objectives: ClassVar[tuple[ObjectiveName, ...]] = ("mse", "hidden", "cosine")
    defaults: ClassVar[Mapping[str, Any]] = MappingProxyType({"learning_rate": 2e-3})
    building: ClassVar[tuple[str, ...]] = (
        *("backbone", "backbone_layers", "train_backbone", "prompt", "prompt_about"),
        *("patch_width", "head_width", "prototypes"),
    )
    backbone: Annotated[AroundName, MODEL] = "pretrained"
    """What reads the patches in Time-LLM: the language model that teacher or student names; the same with random
    weights; one layer of attention in its place; or nothing."""
    backbone_layers: Annotated[NonNegativeInt, MODEL] = 0
    """Use the first so many layers of the language model; 0 uses all."""
    train_backbone: Annotated[bool, MODEL] = False
    """Whether the language model's own weights learn too."""
    prompt: Annotated[PromptName, MODEL] = "full"
    """Prompt that describes each window: full, as published; short, with its statistics only; or none."""
    prompt_about: Annotated[str, MODEL] = "Glucose of a person with diabetes, measured by a sensor under the skin."
    """The sentence of a full prompt that says what the data are."""
    patch_length: Annotated[PositiveInt, MODEL] = 4
    """Steps of a patch; 16 is usual for long histories."""
    patch_stride: Annotated[PositiveInt, MODEL] = 2
    """Steps from one patch to the next."""
    patch_width: Annotated[PositiveInt, MODEL] = 32
    """Width of an embedded patch (the paper's d_model)."""
    head_width: Annotated[PositiveInt, MODEL] = 32
    """How many of the backbone's dimensions are read, and the width of each of 8 heads of attention (d_ff)."""
    prototypes: Annotated[PositiveInt, MODEL] = 1000
    """How many text prototypes summarise the table of words."""
    quantiles: Annotated[str, MODEL] = ""
    """Quantiles to forecast, comma-separated and with 0.5 among them, such as 0.1,0.5,0.9; empty forecasts the mean."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.levels  # noqa: B018  # refuses what are no quantiles
        longest = self.history + self.patch_stride
        if self.patch_length > longest:
            raise UserError(
                f"patch_length={self.patch_length} is more than history={self.history} and patch_stride="
                f"{self.patch_stride} together: give at most {longest}"
            )

    @property
    def levels(self) -> tuple[float, ...]:
        """The quantiles, rising; empty where the mean is forecast."""
        if not self.quantiles:
            return ()
        try:
            found = tuple(map(number, self.quantiles.split(",")))
        except ValueError:
            found = ()
        rising = all(low < high for low, high in pairwise((0.0, *found, 1.0)))
        if not found or not rising or 0.5 not in found:
            raise UserError(
                f"quantiles={shown(self.quantiles)} is not understood: give rising numbers between 0 and 1, 0.5 among "
                "them, such as 0.1,0.5,0.9"
            )
        return found

    @property
    def patches(self) -> int:
        """Patches of a window whose last value is repeated `patch_stride` times."""
        return (self.history + self.patch_stride - self.patch_length) // self.patch_stride + 1
