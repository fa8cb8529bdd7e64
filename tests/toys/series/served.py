"""The forecaster, and how MLflow serves it; this file alone is enough."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import torch
from mlflow.types.type_hints import TypeFromExample
from transformers import BertConfig, BertModel, PreTrainedModel
from transformers.utils import ModelOutput


@dataclass
class Forecast(ModelOutput):
    """What the model returns."""

    forecast: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class SeriesModel(PreTrainedModel):
    """BERT over the values of a window, and a linear head over its mean state."""

    config_class = BertConfig
    base_model_prefix = "bert"
    _supports_sdpa = True

    def __init__(self, config: BertConfig) -> None:
        """Random weights."""
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=False)
        self.embed = torch.nn.Linear(1, config.hidden_size)
        self.head = torch.nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, values: torch.Tensor, **options: Any) -> Forecast:
        """Forecast the values after `(batch, window)`."""
        states = self.bert(inputs_embeds=self.embed(values.unsqueeze(-1)), **options)
        return Forecast(self.head(states.last_hidden_state.mean(dim=1)), states.hidden_states, states.attentions)


class Forecaster(mlflow.pyfunc.PythonModel):
    """Windows in, forecasts out."""

    def load_context(self, context: Any) -> None:
        """Load weights."""
        folder = Path(context.artifacts["model"])
        self.model = SeriesModel.from_pretrained(folder, dtype=torch.float32, use_safetensors=True).eval()

    def predict(
        self, context: Any, model_input: TypeFromExample, params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Return a forecast for each window."""
        column = model_input.iloc[:, 0] if isinstance(model_input, pd.DataFrame) else model_input
        windows = torch.tensor([json.loads(one) for one in column], dtype=torch.float32)
        with torch.inference_mode():
            return [{"forecast": row} for row in self.model(windows).forecast.tolist()]


model = Forecaster()
mlflow.models.set_model(model)
