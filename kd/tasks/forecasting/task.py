"""Forecasting a series from its recent past: windows of one patient, or another item, each an example."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, get_args

import numpy as np
import pandas as pd

from kd.base.console import shown
from kd.base.task import Collate, Record
from kd.base.types import Batch, FormatName, MaskName, ObjectiveName, SplitName, Splits, TaskName, Term, UserError
from kd.config.base import listed
from kd.config.series import MG_PER_MMOL, ItemsName
from kd.tasks.forecasting import scores
from kd.tasks.forecasting.options import ForecastingOptions
from kd.tasks.forecasting.spaces import SPACES

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import PreTrainedModel

    from kd.config import RowOptions


@dataclass(frozen=True)
class Forecasting(scores.ForecastJudge):
    """Forecasts of the next `horizon` values of windows of `history` values.

    Attributes:
        options: of the series, the windows and the models.
        center: mean of the series in the training windows, in mg/dL or the data's own unit; set by `fitted`.
        spreads: standard deviation of each channel there; set by `fitted`.
        step_s: seconds from one value to the next; set by `fitted`.
    """

    options: ForecastingOptions
    center: float = 0.0
    spreads: tuple[float, ...] = ()
    step_s: int = 0
    name: ClassVar[TaskName] = "forecasting"
    spaces: ClassVar[Mapping[str, Mapping[str, Any]]] = SPACES
    objectives: ClassVar[tuple[ObjectiveName, ...]] = ForecastingOptions.objectives
    per_token: ClassVar[bool] = False
    reads_tokens: ClassVar[bool] = False
    formats: ClassVar[tuple[FormatName, ...]] = ("safetensors",)
    named: ClassVar[tuple[str, ...]] = ("dlinear", "gru", "lstm", "patchtst", "persistence")
    inputs: ClassVar[tuple[str, ...]] = ("patient", "time", "step", "history", "ahead")
    target: ClassVar[str] = "target"
    balance: ClassVar[str] = "patient"
    content: ClassVar[tuple[str, ...]] = ("patient", "time", "step", "unit", "history", "ahead", "target")
    scored: ClassVar[tuple[str, ...]] = ("patient", "time", "step", "unit", "target")

    @classmethod
    def from_options(cls, options: ForecastingOptions) -> Forecasting:
        """Make the task from its options."""
        return cls(options)

    def parts(self, config: RowOptions) -> Sequence[ForecastingOptions]:
        """One model for all patients together, or one for each."""
        from kd.data.series.load import items

        options = self.options
        if options.models == "pooled" or options.part:
            return [options]
        among: ItemsName = "left-out" if options.models == "left-out" else "pooled"
        named = items(config.dataset, options, _files(config))
        if len(named) == 1 and options.models == "each":
            return [replace(options, models="pooled")]
        return [replace(options, patients=one, models=among) for one in named]

    def read(self, config: RowOptions) -> Splits:
        """Read series, and cut windows from them, in the order of patients and of time."""
        from kd.data.series.load import load
        from kd.data.series.patients import OWN

        _refuse(config, "group_column", "the groups of windows are patient and day")
        splits = load(config.dataset, self.options, _files(config), listed(config.slice_columns))
        beside = [name for name in splits.train.column_names if name not in OWN]
        if taken := [name for name in beside if name in (*self.slices, *self.outcomes) or name.startswith(self.wide)]:
            raise UserError(
                f"patients_file={self.options.patients_file}: predictions have a column {taken[0]!r} of their own: "
                "rename it"
            )
        return splits

    def read_inputs(self, config: RowOptions) -> Dataset:
        """Read the training windows of all patients but one left out, without what they are followed by."""
        from kd.data.series.load import load_inputs

        return load_inputs(config.dataset, self.options)

    def fitted(self, splits: Splits) -> Forecasting:
        """Measure center and spreads on the histories of train; what is fitted stays as it is."""
        if self.spreads:
            return self
        history = self._windows(splits.train)
        values = history[..., 0]
        spreads = [float(values.std()), *(float(channel.std()) for channel in np.moveaxis(history[..., 1:], -1, 0))]
        for name, spread in zip((self.options.target_column, *self.options.covariate_names), spreads, strict=True):
            if spread == 0:
                option = "covariates" if name in self.options.covariate_names else "target_column"
                raise UserError(f"{option}: {shown(name)} never changes in the training rows: leave it out")
        step = int(splits.train[0]["step"])
        return replace(self, center=float(values.mean()), spreads=tuple(spreads), step_s=step)

    def examples(self, splits: Splits) -> Splits:
        """Every window is an example."""
        return splits

    def identity(self) -> Mapping[str, Any]:
        """What is given and asked, and in which unit it is described."""
        options = self.options
        return {
            "task": {
                "task": self.name,
                "history": options.history,
                "horizon": options.horizon,
                "covariates": list(options.covariate_names),
                "known_ahead": list(options.known_names),
                "quantiles": list(options.levels),
                "units": options.units,
                "patches": [options.patch_length, options.patch_stride],
            }
        }

    @property
    def built(self) -> Mapping[str, Any]:
        """The options of the forecaster."""
        return {name: getattr(self.options, name) for name in self.options.building}

    def make(self, name: str) -> tuple[PreTrainedModel, None]:
        """Make a small forecaster by name; it reads no prompt."""
        from kd.tasks.forecasting.build import Scale, named

        return named(name, self.options, Scale(self.center, self.spreads, self.step_s)), None

    def load(self, folder: Path, option: str, *, finished: bool) -> tuple[PreTrainedModel, Any]:
        """Load a forecaster, or make Time-LLM around a language model; the processor makes its prompts."""
        from kd.tasks.forecasting import build

        if finished or build.is_forecaster(folder):
            model = build.finished(folder, option, self.options, self.step_s)
        else:
            model = build.around(folder, option, self.options, build.Scale(self.center, self.spreads, self.step_s))
        return model, self._prompts(model, folder, option)

    def _prompts(self, model: Any, folder: Path, option: str) -> Any:
        from kd.models.load import fit_together, load_tokenizer
        from kd.tasks.forecasting.prompts import Prompts

        config = model.config
        if config.prompt == "none":
            return None
        tokenizer = load_tokenizer(folder, option)
        if (positions := config.backbone.get("max_position_embeddings")) is not None:
            tokenizer.model_max_length = min(tokenizer.model_max_length, positions)
        fit_together(model, tokenizer, option, 1)
        return Prompts(tokenizer, config.prompt, config.about, self.options.units, self.options.horizon)

    def require_fit(self, model: PreTrainedModel, processor: Any, option: str) -> None:
        """Model and prompts are made together."""

    def processor_digest(self, processor: Any) -> str:
        """Return a digest of the tokenizer and of how prompts are worded; empty without prompts."""
        from kd.base.hashing import fingerprint
        from kd.models.load import tokenizer_digest

        if processor is None:
            return ""
        words = {"kind": processor.kind, "about": processor.about, "unit": processor.unit}
        return fingerprint({**words, "tokenizer": tokenizer_digest(processor.tokenizer)})

    def encode(self, examples: Dataset, processor: Any) -> Dataset:
        """Windows as they are, their prompts as tokens; an absent target is NaN."""
        from datasets import Dataset

        count, blank = len(examples), [float("nan")] * self.options.horizon
        columns: dict[str, Any] = {"history": examples["history"][:], "example": list(range(count))}
        columns["target"] = [blank if one is None else one for one in examples["target"][:]]
        lengths = [self.options.patches] * count
        if self.options.known_names:
            columns["ahead"] = examples["ahead"][:]
        if processor is not None:
            columns["prompt"] = processor(self._reported(self._windows(examples)[..., 0]).tolist())
            lengths = [len(tokens) + self.options.patches for tokens in columns["prompt"]]
        return Dataset.from_dict({**columns, "length": lengths})

    def collate(self, processor: Any) -> Collate:
        """Stack windows; pad prompts behind."""
        from functools import partial

        channels = 1 + len(self.options.covariate_names)
        return partial(stacked, channels=channels, known=len(self.options.known_names))

    def masks(self, batch: Batch) -> Mapping[MaskName, torch.Tensor]:
        """`target` and `positions` are `(batch,)`; `tokens`, `(batch, patches)`, are the patches, which all count."""
        known = ~batch.truth["target"].isnan().any(dim=-1)
        tokens = known.new_ones(len(known), self.options.patches)
        return {"target": known, "positions": known.new_ones(known.shape), "tokens": tokens}

    def outputs(self, raw: Any, batch: Batch) -> Mapping[str, torch.Tensor]:
        """`forecast`, `(batch, horizon)`, or `(batch, horizon, quantiles)`, in standard deviations of the series."""
        said = raw.forecast if raw.quantiles is None else raw.quantiles
        return {"forecast": (said - self.center) / self.spreads[0]}

    def loss(self, raw: Any, batch: Batch) -> Term:
        """Squared error in standard deviations, mean over the horizon; with quantiles the pinball loss.

        The pinball loss (Koenker and Bassett 1978) is max(q e, (q - 1) e) of the error e = truth - forecast, here mean
        over quantiles too.
        """
        import torch

        known = self.masks(batch)["target"]
        said = self.outputs(raw, batch)["forecast"].float()
        truth = ((batch.truth["target"] - self.center) / self.spreads[0]).masked_fill(~known.unsqueeze(-1), 0.0)
        if self.options.levels:
            levels = said.new_tensor(self.options.levels)
            errors = truth.unsqueeze(-1) - said
            each = torch.maximum(levels * errors, (levels - 1) * errors).mean(dim=(-2, -1))
        else:
            each = (said - truth).square().mean(dim=-1)
        return each.masked_fill(~known, 0.0).sum(), known.sum()

    def answer(self, model: Any, batch: Batch) -> list[Record]:
        """`forecast`, `(horizon,)`, and, where there are some, `quantiles`, `(horizon, quantiles)`, of one forward."""
        raw = model(**batch.inputs)
        said = {"forecast": raw.forecast, **({} if raw.quantiles is None else {"quantiles": raw.quantiles})}
        arrays = {name: value.float().cpu().numpy() for name, value in said.items()}
        return [{name: values[place] for name, values in arrays.items()} for place in range(len(batch))]

    def condensed(self, model: Any) -> None:
        """Keep the prototypes themselves in place of what they are made by."""
        model.fold()

    def predictions(self, examples: Dataset, records: Sequence[Sequence[Record]]) -> pd.DataFrame:
        """One line a window: see `scores.frame`; columns of the patients' table are kept beside it."""
        from kd.data.series.patients import OWN

        def said(name: str) -> np.ndarray:
            return self._reported(np.stack([own[name] for (own,) in records]).astype(np.float64))

        levels = self.options.levels
        quantiles = {level: said("quantiles")[..., place] for place, level in enumerate(levels)}
        windows = scores.Windows(
            example_id=examples["example_id"][:],
            group=examples["group"][:],
            patient=examples["patient"][:],
            time=np.asarray(examples["time"][:], dtype=np.int64),
            last=self._reported(self._windows(examples)[:, -1, 0]),
            truth=self._reported(np.asarray(examples["target"][:], dtype=np.float64)),
            step_minutes=self.step_s / 60,
            unit=self.options.units,
        )
        about = {name: examples[name][:] for name in examples.column_names if name not in OWN}
        return scores.frame(windows, said("forecast"), quantiles).assign(**about)

    def baselines(self, splits: Splits) -> Iterator[tuple[str, dict[str, pd.DataFrame]]]:
        """Persistence, and a linear model of the window (ridge regression)."""
        from sklearn.linear_model import Ridge

        scored, steps = {"validation": splits.validation, "test": splits.test}, np.ones(self.options.horizon)
        last = {name: self._windows(rows)[:, -1, :1] * steps for name, rows in scored.items()}
        yield "persistence", {name: self._said(rows, last[name]) for name, rows in scored.items()}
        model = Ridge().fit(self._flat(splits.train), np.asarray(splits.train["target"][:], dtype=np.float64))
        yield "linear", {name: self._said(rows, model.predict(self._flat(rows))) for name, rows in scored.items()}

    def _said(self, examples: Dataset, forecasts: np.ndarray) -> pd.DataFrame:
        """Return the predictions of a forecaster of the mean alone."""
        levels = len(self.options.levels)
        record: list[list[Record]] = [
            [{"forecast": row, "quantiles": np.repeat(row[:, None], levels, axis=1)}] for row in forecasts
        ]
        return self.predictions(examples, record)

    def _flat(self, examples: Dataset) -> np.ndarray:
        """Return all that is known of windows, standardised, `(windows, numbers)`."""
        history = (self._windows(examples) - [self.center, *[0.0] * (len(self.spreads) - 1)]) / self.spreads
        ahead = np.asarray(examples["ahead"][:], dtype=np.float64).reshape(len(examples), -1)
        return np.concatenate([history.reshape(len(examples), -1), ahead], axis=1)

    def requests(self, examples: Dataset) -> pd.DataFrame:
        """One window a line: times and values, each a list."""
        options, count = self.options, len(examples)
        steps = np.arange(1 - options.history, 1)
        times, step = (np.asarray(examples[name][:], dtype=np.int64) for name in ("time", "step"))
        stamps = (times[:, None] + steps * step[:, None]).astype("datetime64[s]").astype(str)
        windows = self._windows(examples)
        columns: dict[str, Any] = {
            options.time_column: stamps.tolist(),
            options.target_column: self._reported(windows[..., 0]).tolist(),
        }
        columns |= {name: windows[..., 1 + i].tolist() for i, name in enumerate(options.covariate_names)}
        ahead = np.asarray(examples["ahead"][:], dtype=np.float64).reshape(count, options.horizon, -1)
        columns |= {f"{name}_ahead": ahead[..., i].tolist() for i, name in enumerate(options.known_names)}
        return pd.DataFrame(columns)

    def from_served(self, answers: pd.DataFrame) -> list[list[Record]]:
        """The forecasts, in the unit that is kept inside."""
        factor = MG_PER_MMOL if self.options.units == "mmol/L" else 1.0
        found: list[list[Record]] = []
        for row in answers.to_dict("records"):
            said = {"forecast": np.asarray(list(row["forecast"]), dtype=np.float64) * factor}
            if self.options.levels:
                quantiles = [list(row["quantiles"][f"{level:g}"]) for level in self.options.levels]
                said["quantiles"] = np.array(quantiles, dtype=np.float64).T * factor
            found.append([said])
        return found

    @property
    def served(self) -> Path:
        """The file of the pyfunc."""
        return Path(__file__).with_name("served.py")

    @property
    def shipped(self) -> Path:
        """The folder of the forecasters' code, which the pyfunc reads."""
        return Path(__file__).parents[2] / "models" / "forecast"

    def serving(self) -> dict[str, Any]:
        """What is given and asked, by which names, and which gaps are filled."""
        options = self.options
        return {
            **self.identity()["task"],
            "step_s": self.step_s,
            "time_column": options.time_column,
            "target_column": options.target_column,
            "item_column": options.item_column,
            "max_gap_minutes": options.max_gap_minutes,
        }

    def _windows(self, examples: Dataset) -> np.ndarray:
        """Return histories, `(windows, history, channels)` float64."""
        flat = np.asarray(examples["history"][:], dtype=np.float64)
        return flat.reshape(len(examples), self.options.history, 1 + len(self.options.covariate_names))

    def _reported(self, values: np.ndarray) -> np.ndarray:
        """Return values of the series in the unit that is reported."""
        return values / MG_PER_MMOL if self.options.units == "mmol/L" else values


def _files(config: RowOptions) -> dict[SplitName, str]:
    named: dict[SplitName, str] = {name: getattr(config, f"{name}_file") for name in get_args(SplitName)}
    return {name: file for name, file in named.items() if file}


def _refuse(config: RowOptions, option: str, why: str) -> None:
    if value := getattr(config, option):
        raise UserError(f"{option}={shown(value)} means nothing for task=forecasting: {why}; leave it out")


def stacked(features: Sequence[Mapping[str, Any]], channels: int, known: int) -> Batch:
    """Make a batch of windows.

    Returns:
        `history` `(batch, history, channels)`, `ahead` `(batch, horizon, known)` and the truth `target`
        `(batch, horizon)` in float32; `prompt_ids` `(batch, longest)`, padded behind by 0, and `prompt_length`
        `(batch,)` in int64, where there are prompts.
    """
    import torch

    def floats(name: str, width: int) -> torch.Tensor:
        values = np.array([one[name] for one in features], dtype=np.float32)
        return torch.from_numpy(values.reshape(len(features), -1, width))

    inputs = {"history": floats("history", channels)}
    if known:
        inputs["ahead"] = floats("ahead", known)
    if "prompt" in features[0]:
        counts = np.array([len(one["prompt"]) for one in features])
        tokens = np.zeros((len(features), counts.max()), dtype=np.int64)
        tokens[np.arange(counts.max()) < counts[:, None]] = np.concatenate([one["prompt"] for one in features])
        inputs |= {"prompt_ids": torch.from_numpy(tokens), "prompt_length": torch.from_numpy(counts)}
    truth = {"target": floats("target", 1).squeeze(-1)}
    return Batch(inputs, truth, np.array([one["feature"] for one in features]))
