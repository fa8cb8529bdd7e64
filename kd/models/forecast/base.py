"""A forecaster's configuration, what it answers, and what all have in common."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput


class ForecasterConfig(PreTrainedConfig):
    """The shape of a forecaster; what is empty or 0 its kind has not."""

    model_type = "kd_forecaster"
    kind: str = "persistence"
    """One of FORECASTERS."""
    history: int = 12
    """Steps that it sees."""
    horizon: int = 6
    """Steps that it forecasts."""
    step_s: int = 0
    """Seconds from one step to the next."""
    channels: int = 1
    """Series that it sees: the one that is forecast, and covariates."""
    covariates: list[str] = field(default_factory=list)
    """Names of the covariates, in the order of the channels after the first."""
    known: list[int] = field(default_factory=list)
    """Channels (0-based) whose values over the horizon it is given too."""
    quantiles: list[float] = field(default_factory=list)
    """Rising; empty for a forecast of the mean alone."""
    num_hidden_layers: int = 0
    hidden_size: int = 0
    num_attention_heads: int = 0
    patch_length: int = 0
    """Steps of a patch."""
    patch_stride: int = 0
    """Steps from one patch to the next."""
    patch_width: int = 0
    """d_model, width of an embedded patch."""
    head_width: int = 0
    """d_ff, how many of the backbone's dimensions are read."""
    key_width: int = 0
    """d_keys, width of each head of the reprogramming attention."""
    heads: int = 0
    """Of the reprogramming attention."""
    prototypes: int = 0
    """How many summarise the table of words."""
    folded: bool = False
    """Whether the prototypes are kept themselves, and not what they are made by."""
    around: str = ""
    """What stands between patches and head: `pretrained`, `random`, `attention` or `none`."""
    train_backbone: bool = False
    """Whether the backbone's weights learn."""
    prompt: str = "none"
    """How much each window is described in words: `none`, `short` or `full`."""
    about: str = ""
    """The first sentence of a full prompt."""
    backbone: dict[str, Any] = field(default_factory=dict)
    """Settings of the backbone."""

    @property
    def in_words(self) -> str:
        """How many layers there are, or what is in their place."""
        count = self.num_hidden_layers
        layers = f"{count} layer{'s' * (count > 1)}"
        known = {"random": f"{count} random layers", "attention": "attention alone", "none": "no layers"}
        return known.get(self.around, layers if count else "whole")

    @property
    def patches(self) -> int:
        """Patches of a window whose last value is repeated `patch_stride` times."""
        return (self.history + self.patch_stride - self.patch_length) // self.patch_stride + 1


@dataclass
class Forecast(ModelOutput):
    """What a forecaster answers, in the unit of the data."""

    forecast: torch.Tensor | None = None
    """`(batch, horizon)`: the mean, or the median where quantiles are forecast."""
    quantiles: torch.Tensor | None = None
    """`(batch, horizon, quantiles)`; None where they are not forecast."""
    hidden_states: tuple[torch.Tensor, ...] | None = None
    """`(batch, patches, width)` at the patches: what enters the backbone, and the output of each of its layers."""


class Forecaster(PreTrainedModel):
    """A model that is given the past `(batch, history, channels)`, the forecast series first, and what is known ahead.

    Subclasses make of standardised inputs a forecast in the same measure, `standard`.
    """

    config_class = ForecasterConfig
    base_model_prefix = ""
    main_input_name = "history"
    center: torch.Tensor
    spreads: torch.Tensor

    def __init__(self, config: ForecasterConfig) -> None:
        """Make one of this shape."""
        super().__init__(config)
        self.numbers = max(len(config.quantiles), 1)
        self.register_buffer("center", torch.zeros(()))
        self.register_buffer("spreads", torch.ones(config.channels))
        width = config.horizon * len(config.known)
        self.ahead = nn.Linear(width, config.horizon * self.numbers) if width else None
        if self.ahead is not None:  # starts as if nothing were known
            nn.init.zeros_(self.ahead.weight)
            nn.init.zeros_(self.ahead.bias)

    def _init_weights(self, module: nn.Module) -> None:
        """Leave weights as their modules made them."""

    def scaled_by(self, center: float, spreads: Sequence[float]) -> None:
        """Measure the forecast series from `center`, and each channel in its spread."""
        self.center.fill_(center)
        self.spreads.copy_(torch.tensor(spreads))

    def fold(self) -> None:
        """Keep only what a trained model needs to answer."""

    def forward(
        self,
        history: torch.Tensor,
        ahead: torch.Tensor | None = None,
        prompt_ids: torch.Tensor | None = None,
        prompt_length: torch.Tensor | None = None,
        output_hidden_states: bool = False,
    ) -> Forecast:
        """Forecast a batch.

        Args:
            history: `(batch, history, channels)`, in the unit of the data.
            ahead: `(batch, horizon, known)`, covariates over the horizon, in their units.
            prompt_ids: `(batch, longest)`, tokens that describe each window, padded behind; read by Time-LLM alone.
            prompt_length: `(batch,)`, tokens of each prompt.
            output_hidden_states: whether the layers' outputs at the patches are returned, by models that have some.
        """
        values = (history[..., 0] - self.center) / self.spreads[0]
        others = history[..., 1:] / self.spreads[1:]
        found, states = self.standard(values, others, prompt_ids, prompt_length, output_hidden_states)
        if self.ahead is not None and ahead is not None:
            found = found + self.ahead((ahead / self.spreads[self.config.known]).flatten(1)).view_as(found)
        found = found.float() * self.spreads[0] + self.center
        if not self.config.quantiles:
            return Forecast(found.squeeze(-1), None, states)
        middle = min(range(self.numbers), key=lambda place: abs(self.config.quantiles[place] - 0.5))
        return Forecast(found[..., middle], found, states)

    def standard(
        self,
        values: torch.Tensor,
        others: torch.Tensor,
        prompt_ids: torch.Tensor | None,
        prompt_length: torch.Tensor | None,
        deep: bool,
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...] | None]:
        """Forecast `(batch, horizon, numbers)` of `values` `(batch, history)` and `others` `(batch, history, rest)`."""
        raise NotImplementedError
