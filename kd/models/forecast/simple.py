"""Small forecasters without a language model: what Time-LLM must be better than."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PatchTSTConfig, PatchTSTForPrediction

from .base import Forecaster, ForecasterConfig

KERNEL = 25
"""Longest moving average of DLinear, in steps."""
RECURRENT_WIDTH = {"gru": 104, "lstm": 90}
"""Units of each of the two layers: about 100,000 weights."""


class Persistence(Forecaster):
    """The last value, for every step: what any forecast must be better than."""

    def __init__(self, config: ForecasterConfig) -> None:
        """Make one of this shape."""
        super().__init__(config)
        self.weight = nn.Parameter(torch.ones(()), requires_grad=False)  # a model has a weight, and by it a device
        self.post_init()

    def standard(self, values: torch.Tensor, others: torch.Tensor, *_: Any) -> tuple[torch.Tensor, None]:
        """Repeat the last value."""
        last = self.weight * values[:, -1]
        return last[:, None, None].expand(-1, self.config.horizon, self.numbers), None


class DLinear(Forecaster):
    """One linear layer for the moving average, one for the rest (Zeng et al. 2023, https://arxiv.org/abs/2205.13504).

    The average is over at most 25 steps, with the first and the last value repeated at the ends. Further channels enter
    the same two layers.
    """

    def __init__(self, config: ForecasterConfig) -> None:
        """Make one of this shape."""
        super().__init__(config)
        length = min(KERNEL, config.history)
        self.kernel = length - (length % 2 == 0)
        width = config.history * config.channels
        self.trend, self.rest = (nn.Linear(width, config.horizon * self.numbers) for _ in range(2))
        for part in (self.trend, self.rest):  # starts as the mean of the window, as the authors' code can
            nn.init.constant_(part.weight, 1 / width)
            nn.init.zeros_(part.bias)
        self.post_init()

    def standard(self, values: torch.Tensor, others: torch.Tensor, *_: Any) -> tuple[torch.Tensor, None]:
        """Add what the two layers make of trend and rest."""
        channels = torch.cat([values.unsqueeze(-1), others], dim=-1).transpose(1, 2)
        side = self.kernel // 2
        smooth = F.avg_pool1d(F.pad(channels, (side, side), mode="replicate"), self.kernel, stride=1)
        found = self.trend(smooth.flatten(1)) + self.rest((channels - smooth).flatten(1))
        return found.view(-1, self.config.horizon, self.numbers), None


class Recurrent(Forecaster):
    """Two layers of GRU or LSTM, about 100,000 weights; a linear layer adds to the last value."""

    def __init__(self, config: ForecasterConfig) -> None:
        """Make one of this shape."""
        super().__init__(config)
        kind, width = (nn.GRU if config.kind == "gru" else nn.LSTM), RECURRENT_WIDTH[config.kind]
        self.cells = kind(config.channels, width, num_layers=2, batch_first=True)
        self.head = nn.Linear(width, config.horizon * self.numbers)
        self.post_init()

    def standard(self, values: torch.Tensor, others: torch.Tensor, *_: Any) -> tuple[torch.Tensor, None]:
        """Read the past in order."""
        states, _last = self.cells(torch.cat([values.unsqueeze(-1), others], dim=-1))
        found = self.head(states[:, -1]).view(-1, self.config.horizon, self.numbers)
        return values[:, -1, None, None] + found, None


class PatchTST(Forecaster):
    """PatchTST of transformers (Nie et al. 2023, https://arxiv.org/abs/2211.14730), with its own scaling of windows."""

    def __init__(self, config: ForecasterConfig) -> None:
        """Make one of this shape."""
        super().__init__(config)
        length = min(4, config.history)
        self.peer = PatchTSTForPrediction(
            PatchTSTConfig(
                num_input_channels=config.channels,
                context_length=config.history,
                prediction_length=config.horizon,
                patch_length=length,
                patch_stride=max(length // 2, 1),
                num_hidden_layers=config.num_hidden_layers,
                d_model=config.hidden_size,
                num_attention_heads=config.num_attention_heads,
                ffn_dim=4 * config.hidden_size,
                do_mask_input=False,
                loss="mse",
            )
        )
        if config.quantiles:
            self.spread_head = nn.Linear(config.horizon, config.horizon * self.numbers)
        self.post_init()

    def standard(self, values: torch.Tensor, others: torch.Tensor, *_: Any) -> tuple[torch.Tensor, None]:
        """Ask the peer for the first channel."""
        given = torch.cat([values.unsqueeze(-1), others], dim=-1)
        mean = self.peer(past_values=given).prediction_outputs[..., 0]
        if not self.config.quantiles:
            return mean.unsqueeze(-1), None
        last = values[:, -1, None]
        return mean.unsqueeze(-1) + self.spread_head(mean - last).view(-1, self.config.horizon, self.numbers), None
