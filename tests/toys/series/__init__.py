"""Windows of a series of floats are mapped to the values that follow: no tokenizer, no text, no labels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from kd.base.judge import CKA, Figure
from kd.base.types import Batch, Splits, UserError
from tests.toys.options import SeriesOptions
from tests.toys.text import Toy

FORECAST = "forecast_"


@dataclass(frozen=True)
class Series(Toy):
    """Forecasting by a BERT without embeddings, on windows of one series each."""

    window: int = 8
    horizon: int = 2
    name: ClassVar[str] = "series"
    directions: ClassVar = {"rmse": False, "mae": False}
    bounds: ClassVar = {"rmse": (0.0, None), "mae": (0.0, None)}
    slices: ClassVar = ("group",)
    spaces: ClassVar = {"default": {"learning_rate": {"type": "float", "low": 1e-3, "high": 1e-2, "log": True}}}
    objectives: ClassVar = SeriesOptions.objectives
    figures: ClassVar = (Figure("fidelity/rmse", "RMSE to teacher", higher_is_better=False), CKA)
    outcomes: ClassVar = ("se", "ae")
    wide: ClassVar = FORECAST
    pictures: ClassVar = ()
    per_token: ClassVar = False
    formats: ClassVar = ("safetensors",)
    inputs: ClassVar = ("value", "step")
    target: ClassVar = ""
    balance: ClassVar = ""
    reads_tokens: ClassVar = True
    content: ClassVar = ("window", "horizon")

    @classmethod
    def from_options(cls, options):
        """Make the task; its columns have fixed names."""
        return cls(options.window, options.horizon)

    def fitted(self, splits):
        """Nothing is learned from the rows."""
        return self

    def examples(self, splits):
        """Every window of each series is an example."""
        from datasets import Dataset

        def windows(rows):
            table = pd.DataFrame({name: rows[name][:] for name in ("group", "step", "value")})
            table = table.astype({"step": int, "value": float})
            found = []
            for group, own in table.groupby("group", sort=True):
                values = own.sort_values("step")["value"].to_list()
                for start in range(len(values) - self.window - self.horizon + 1):
                    end = start + self.window
                    found.append({"example_id": f"{group}:{start}", "group": group, "window": values[start:end],
                                  "horizon": values[end : end + self.horizon]})  # fmt: skip
            if not found:
                raise UserError(f"no series has {self.window + self.horizon} steps")
            return Dataset.from_list(found)

        return Splits(windows(splits.train), windows(splits.validation), windows(splits.test), splits.notes)

    def identity(self):
        """The shapes."""
        return {"task": {"task": self.name, "window": self.window, "horizon": self.horizon}}

    def load(self, folder: Path, option: str, *, finished: bool):
        """Load weights; there is no processor."""
        import torch

        from tests.toys.series.served import SeriesModel

        try:
            model, loaded = SeriesModel.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"{option}: {folder.name} is no model that can be loaded") from error
        if finished and loaded["missing_keys"]:
            raise UserError(f"{option}: weights are missing in {folder.name}")
        return model, None

    def require_fit(self, model, processor, option):
        """Everything fits."""

    def processor_digest(self, processor):
        """There is none."""
        return "none"

    def encode(self, examples, processor):
        """One feature an example."""
        from datasets import Dataset

        count = len(examples)
        return Dataset.from_dict(
            {
                "values": examples["window"][:],
                "horizon": examples["horizon"][:],
                "example": list(range(count)),
                "length": [self.window] * count,
            }
        )

    def collate(self, processor):
        """Stack."""
        return collate

    def masks(self, batch):
        """Everything is valid."""
        import torch

        values = batch.inputs["values"]
        every = torch.ones(len(batch), dtype=torch.bool, device=values.device)
        return {"target": every, "positions": every, "tokens": torch.ones_like(values, dtype=torch.bool)}

    def outputs(self, raw, batch):
        """`forecast`, `(batch, horizon)`."""
        return {"forecast": raw.forecast}

    def loss(self, raw, batch):
        """Squared error, mean over the horizon."""
        squares = (raw.forecast.float() - batch.truth["horizon"]).square().mean(dim=-1)
        return squares.sum(), squares.new_tensor(len(squares))

    def answer(self, model, batch):
        """One forward."""
        return [{"forecast": row} for row in model(**batch.inputs).forecast.float().cpu().numpy()]

    def predictions(self, examples, records):
        """The horizon beside its forecast, and their squared and absolute error."""
        forecast = np.stack([own["forecast"] for (own,) in records]).astype(float)
        truth = np.array(examples["horizon"][:], dtype=float)
        return pd.DataFrame(
            {
                "example_id": examples["example_id"][:],
                "group": examples["group"][:],
                "se": ((forecast - truth) ** 2).mean(axis=1),
                "ae": np.abs(forecast - truth).mean(axis=1),
                **{f"{FORECAST}{i}": forecast[:, i] for i in range(self.horizon)},
            }
        )

    @staticmethod
    def quality(predictions):
        """RMSE is no mean over examples; MAE is."""
        return {"rmse": float(np.sqrt(predictions["se"].mean())), "mae": float(predictions["ae"].mean())}

    @staticmethod
    def diagnostics(validation, test):
        """Nothing is read as a probability."""
        return {}

    @staticmethod
    def churn(before, after):
        """Share of the examples whose error moves by 0.1 and more."""
        moved = np.abs(before["ae"].to_numpy() - after["ae"].to_numpy())
        return {"changed": float((moved >= 0.1).mean())}

    @staticmethod
    def fidelity(student, teacher):
        """RMSE between the two."""
        columns = [name for name in teacher.columns if name.startswith(FORECAST)]
        gap = student[columns].to_numpy() - teacher[columns].to_numpy()
        return {"fidelity/rmse": float(np.sqrt((gap**2).mean()))}

    @staticmethod
    def example_values(predictions, metric):
        """Absolute errors."""
        return predictions["ae"].to_numpy() if metric == "mae" else None

    @staticmethod
    def paired_test(ours, theirs):
        """Wilcoxon's test of absolute errors."""
        from scipy.stats import wilcoxon

        gap = ours["ae"].to_numpy() - theirs["ae"].to_numpy()
        return "Wilcoxon", float(wilcoxon(gap).pvalue) if np.any(gap) else 1.0

    def baselines(self, splits):
        """The last value goes on."""
        tables = {}
        for name in ("validation", "test"):
            examples = getattr(splits, name)
            last = [[{"forecast": np.repeat(window[-1], self.horizon)}] for window in examples["window"][:]]
            tables[name] = self.predictions(examples, last)
        yield "persistence", tables

    def requests(self, examples):
        """One window a line, as JSON."""
        return pd.DataFrame({"window": [json.dumps(window) for window in examples["window"][:]]})

    def from_served(self, answers):
        """The forecasts."""
        return [[{"forecast": np.array(one)}] for one in answers["forecast"]]

    @property
    def served(self):
        """The pyfunc."""
        return Path(__file__).with_name("served.py")

    def serving(self):
        """The shapes."""
        return {"task": self.name, "window": self.window, "horizon": self.horizon}


def collate(features: list[dict[str, Any]]) -> Batch:
    """Stack windows and horizons."""
    import torch

    def stacked(name):
        return torch.tensor(np.array([one[name] for one in features]), dtype=torch.float32)

    numbers = np.array([one["feature"] for one in features])
    return Batch({"values": stacked("values")}, {"horizon": stacked("horizon")}, numbers)
