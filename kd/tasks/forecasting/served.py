"""The forecaster as MLflow serves it: from this file and the folder of forecasters beside its weights.

Nothing of this project is imported. The model declares no inputs to MLflow, which would turn nulls into texts, and drop
columns, before they come here.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any
from uuid import uuid4

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException

GREATEST = 1e30
"""Number that training reads too."""
AT_ONCE = 128
"""Windows in a forward."""
MMOL = 18.016
"""mg/dL of glucose in 1 mmol/L."""
LEAST_MG, MOST_MMOL = 30.0, 35.0
"""Glucose that stays below the one is no mg/dL, above the other no mmol/L."""
TOLERANCE = 0.25
"""Of a step: what is nearer to a multiple of it counts as one."""
UNEVEN = 0.2
"""Share of times, or one of them, that may be so far from the step after the one before."""
YEARS = range(1801, 2200)
"""In which a time can be meant."""
CODE = "forecast"
"""Folder of the forecasters' code beside the weights."""


class Refused(MlflowException):
    """A request that cannot be answered. The server answers 400 with this sentence, and not with the request."""

    def serialize_as_json(self) -> str:
        """Return the body of the answer."""
        return json.dumps({"error_code": self.error_code, "message": self.args[0]})


class ForecastService(mlflow.pyfunc.PythonModel):
    """Takes the recent past of one series or more, and forecasts each.

    A request is one of these, with the column names of training; other columns change nothing:

    - A table, a list of objects, or an object of columns, with a time and a value in each row: one series, or one for
      each id where there is the column of items.
    - An object with a list of times and one of values: one series. A list or a table of such: a series in each row.
      Only so can a covariate that is known ahead be given, as `<name>_ahead`, a list of `horizon` values.

    Times rise, one step apart, all with a zone or all without; the last is when the forecast is made. More than
    `history` steps are cut to the newest. A step that is left out, or whose value is null, was not measured: such gaps
    are filled by the value before, up to `max_gap_minutes`. With covariates there must be a row for each step.
    """

    def load_context(self, context: Any) -> None:
        """Load code, weights and settings."""
        import torch

        folder = Path(context.artifacts["model"])
        self.settings = settings = json.loads((folder / "kd.json").read_text(encoding="utf-8"))
        self.names = [settings["target_column"], *settings["covariates"]]
        self.ahead = [f"{name}_ahead" for name in settings["known_ahead"]]
        self.factor = MMOL if settings["units"] == "mmol/L" else 1.0
        self.code = _imported(folder / CODE)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = self.code.read(folder).requires_grad_(False).to(self.device).eval()
        self.tokenizer = None
        if self.model.config.prompt != "none":
            from transformers import AutoTokenizer

            self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)

    def predict(
        self,
        context: Any,
        model_input: pd.DataFrame,  # and whatever else; MLflow infers and converts nothing from this type
        params: dict[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """Return for each series its forecast, with times and unit, and how many values of its past were filled.

        An answer has `item` where there are items, `timestamps`, `forecast`, `unit`, `filled`, and `quantiles`, a list
        for each, where the model forecasts some.
        """
        series = [self._prepared(where, item, columns) for where, item, columns in self._series(model_input)]
        parts = (self._forecast(series[start : start + AT_ONCE]) for start in range(0, len(series), AT_ONCE))
        return [answer for part in parts for answer in part]

    def _forecast(self, series: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        import torch

        names = ("history", "ahead") if self.ahead else ("history",)
        given = {name: np.stack([one[name] for one in series]) for name in names} | self._prompts(series)
        with torch.inference_mode():
            said = self.model(**{name: torch.from_numpy(value).to(self.device) for name, value in given.items()})
        levels = [f"{level:g}" for level in self.settings["quantiles"]]
        numbers = [said.forecast] if said.quantiles is None else [said.forecast, *said.quantiles.unbind(-1)]
        forecast, *quantiles = (each.float().cpu().numpy().astype(np.float64) / self.factor for each in numbers)
        answers = []
        for place, one in enumerate(series):
            if not np.isfinite([each[place] for each in (forecast, *quantiles)]).all():
                raise _refused(f"{one['where']}: the forecast is no finite number: its values are too large")
            answer = {} if one["item"] is None else {"item": one["item"]}
            answer |= {"timestamps": one["timestamps"], "forecast": forecast[place].tolist()}
            answer |= {"unit": self.settings["units"], "filled": one["filled"]}
            if levels:
                answer["quantiles"] = {level: q[place].tolist() for level, q in zip(levels, quantiles, strict=True)}
            answers.append(answer)
        return answers

    def _prompts(self, series: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the tokens of each window's description, padded behind, and how many there are."""
        if self.tokenizer is None:
            return {}
        config, settings = self.model.config, self.settings
        texts = [
            self.code.prompt_text(config.prompt, config.about, settings["units"], window, settings["horizon"])
            for window in (one["history"][:, 0].astype(np.float64) / self.factor for one in series)
        ]
        tokens = self.tokenizer(texts)["input_ids"]
        counts = np.array([len(one) for one in tokens])
        if counts.max() + config.patches > self.tokenizer.model_max_length:
            where = series[int(counts.argmax())]["where"]
            raise _refused(f"{where}: its values have too many digits to be described")
        padded = np.zeros((len(tokens), counts.max()), dtype=np.int64)
        padded[np.arange(counts.max()) < counts[:, None]] = np.concatenate(tokens)
        return {"prompt_ids": padded, "prompt_length": counts}

    def _series(self, requests: Any) -> list[tuple[str, Any, dict[str, list[Any]]]]:
        """Return each series: how a refusal names it, its item or None, and its columns."""
        time, item = self.settings["time_column"], self.settings["item_column"]
        needed = [time, *self.names, *self.ahead]
        table = _table(requests, [*needed, item], time)
        for name in needed:
            if name not in table:
                there = ", ".join(repr(str(one))[:50] for one in _names(requests)[:10]) or "no column"
                raise _refused(f"the column {name!r} is missing; there is {there}")
        count = len(table[time])
        if not count:
            raise _refused(f"there is no row: give the last {self.settings['history']} values")
        for name, values in table.items():
            if len(values) != count:
                raise _refused(f"{name!r} has {len(values)} values, and {time!r} has {count}: give as many")
        items = [_item(one, f"row {i}, {item!r}") for i, one in enumerate(table.get(item, []))] or [None] * count
        if any(map(_is_list, table[time])):
            return [
                (
                    "the series" if count == 1 else f"row {place}",
                    one,
                    {name: _listed(table[name][place], f"row {place}, {name!r}") for name in needed},
                )
                for place, one in enumerate(items)
            ]
        if self.ahead:
            raise _refused(
                f"{self.ahead[0]!r} is a list for each series: give one object a series, in which each column is a list"
            )
        rows: dict[Any, list[int]] = {}
        for place, one in enumerate(items):
            rows.setdefault(one, []).append(place)
        found = {one: {name: [table[name][place] for place in own] for name in needed} for one, own in rows.items()}
        return [("the series" if one is None else f"item {one!r}"[:60], one, own) for one, own in found.items()]

    def _prepared(self, where: str, item: Any, columns: Mapping[str, list[Any]]) -> dict[str, Any]:
        """Put a series on its grid, cut the newest window from it, and fill what may be filled."""
        settings = self.settings
        history, horizon = settings["history"], settings["horizon"]
        seconds, newest = self._times(where, columns[settings["time_column"]])
        for name in self.names:
            if len(columns[name]) != len(seconds):
                raise _refused(f"{where}: {name!r} has {len(columns[name])} values, and there are {len(seconds)} times")
        places, off = self._places(where, seconds)
        first = len(seconds) - len(places)
        series = _numbers(where, self.names[0], columns[self.names[0]], first, nulls=True)
        self._require_unit(where, series)
        values, filled = self._filled(where, places, off, series)
        if self.names[1:] and not np.array_equal(places, np.arange(history)):
            raise _refused(
                f"{where}: {self.names[1]!r} must be known at each of the last {history} steps: give a row for each, "
                f"and null for a {self.names[0]!r} that was not measured"
            )
        others = [_numbers(where, name, columns[name], first) for name in self.names[1:]]
        ahead = [_numbers(where, name, columns[name]) for name in self.ahead]
        for name, one in zip(self.ahead, ahead, strict=True):
            if len(one) != horizon:
                raise _refused(f"{where}: {name!r} has {len(one)} values, and {horizon} are needed")
        return {
            "where": where,
            "item": item,
            "history": np.stack([values * self.factor, *others], axis=-1).astype(np.float32),
            "ahead": np.stack(ahead, axis=-1).astype(np.float32) if ahead else None,
            "filled": filled,
            "timestamps": [_later(newest, settings["step_s"] * step) for step in range(1, horizon + 1)],
        }

    def _times(self, where: str, given: list[Any]) -> tuple[Any, Any]:
        """Return times in whole seconds since 1970, rising, and the last one as it was given."""
        named = f"{where}: {self.settings['time_column']!r}, value"
        found = [_time(value, f"{named} {place} (counted from 0)") for place, value in enumerate(given)]
        if not found:
            raise _refused(f"{where}: there is no row: give the last {self.settings['history']} values")
        zoned = [one.utcoffset() is not None for one in found]
        if len({*zoned}) > 1:
            place = zoned.index(not zoned[0])
            raise _refused(
                f"{named} {place} (counted from 0), has {'a' if zoned[place] else 'no'} time zone, unlike the first: "
                "give all times with their zone, or all without"
            )
        start = datetime(1970, 1, 1, tzinfo=UTC if zoned[0] else None)
        seconds = np.array([(one - start) // timedelta(seconds=1) for one in found], dtype=np.int64)
        if (falls := np.diff(seconds) <= 0).any():
            raise _refused(
                f"{named} {int(falls.argmax()) + 1} (counted from 0), is not later than the one before: sort the "
                "times, and give each once"
            )
        return seconds, given[-1]

    def _places(self, where: str, seconds: Any) -> tuple[Any, Any]:
        """Return the step of the newest window that each of its times is nearest to, and how far off that is in steps.

        Steps are counted from 0; times before the window are left out.
        """
        step, history = self.settings["step_s"], self.settings["history"]
        back = (seconds[-1] - seconds) / step
        kept = np.rint(back) < history
        between, back = np.diff(seconds[kept]) / step, back[kept]
        usual = float(np.median(between)) if len(between) else 1.0
        uneven = np.abs(between - np.maximum(1, np.rint(between))) > TOLERANCE
        if abs(usual - 1) > TOLERANCE or uneven.sum() > max(1, UNEVEN * len(between)):
            found = "not evenly apart" if abs(usual - 1) <= TOLERANCE else f"{usual * step / 60:g} minutes apart"
            raise _refused(
                f"{where}: its times are {found}, and in training they were {step / 60:g} minutes apart: give values "
                "at that rate"
            )
        return history - 1 - np.rint(back).astype(np.int64), np.abs(back - np.rint(back))

    def _filled(self, where: str, places: Any, off: Any, series: Any) -> tuple[Any, int]:
        """Return the history, `(history,)`, gaps filled as in validation and test, and how many values that are."""
        history, minutes = self.settings["history"], self.settings["step_s"] / 60
        measured = [place for place in np.argsort(-off, kind="stable") if not np.isnan(series[place])]
        values = np.full(history, np.nan)
        values[places[measured]] = series[measured]  # of two at one step the nearer one, which comes last
        there, steps = ~np.isnan(values), np.arange(history)
        if not there[0]:
            raise _refused(
                f"{where}: the last {history} values are needed, {minutes:g} minutes apart, and the first of them must "
                f"be a measured one; {int(there.sum())} are there"
            )
        last = np.maximum.accumulate(np.where(there, steps, 0))
        longest, most = int((steps - last).max()), int(self.settings["max_gap_minutes"] / minutes + 1e-9)
        if longest > most:
            raise _refused(
                f"{where}: {longest} values in a row are missing, and at most {most} are filled, "
                f"{self.settings['max_gap_minutes']:g} minutes"
            )
        return values[last], int((~there).sum())

    def _require_unit(self, where: str, series: Any) -> None:
        """Refuse glucose that is of the other unit for sure."""
        known, unit = series[~np.isnan(series)], self.settings["units"]
        if not len(known) or unit == "none":
            return
        if known.max() < LEAST_MG if unit == "mg/dL" else known.min() > MOST_MMOL:
            raise _refused(
                f"{where}: {self.names[0]!r} is {known.min():g} to {known.max():g}, which is no glucose in {unit}: "
                f"give it in {unit}, as in training"
            )


def _imported(folder: Path) -> Any:
    """Import the forecasters' code by a name of its own, so that models of two releases can be loaded together.

    Nothing is written beside it: a stored model stays as it was logged.
    """
    name, written = f"kd_forecast_{uuid4().hex}", sys.dont_write_bytecode
    about = spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
    assert about is not None
    assert about.loader is not None
    sys.modules[name] = module = module_from_spec(about)
    sys.dont_write_bytecode = True
    try:
        about.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = written
    return module


def _names(requests: Any) -> list[Any]:
    """Return the column names of whatever a request may be."""
    if isinstance(requests, pd.DataFrame | Mapping):
        return list(requests)
    rows = list(requests) if _is_list(requests) else []
    if rows and all(isinstance(row, Mapping) for row in rows):
        return list(dict.fromkeys(name for row in rows for name in row))
    raise _refused("a table is needed, or a list of objects with a time and a value")


def _table(requests: Any, wanted: Sequence[str], time: str) -> dict[str, list[Any]]:
    """Return the wanted columns that are there, a cell for each row; one series as an object is one row of lists."""
    names = _names(requests)
    there = [name for name in wanted if name in names]
    if twice := [name for name in there if names.count(name) > 1]:
        raise _refused(f"the column {twice[0]!r} is there twice: give it once")
    if isinstance(requests, pd.DataFrame):
        return {name: requests[name].tolist() for name in there}
    if not isinstance(requests, Mapping):
        return {name: [_cell(row.get(name)) for row in requests] for name in there}
    cells = {name: _cell(requests[name]) for name in there}
    times: Any = cells.get(time)
    of_rows = _is_list(times) and (_is_list(cells.get(wanted[-1])) or any(map(_is_list, times)))
    if not of_rows:
        return {name: [value] for name, value in cells.items()}
    return {name: list(map(_cell, value)) if _is_list(value) else [value] for name, value in cells.items()}


def _cell(value: Any) -> Any:
    """Return a value as it was sent: MLflow's server makes an array of each."""
    return value[()] if isinstance(value, np.ndarray) and not value.ndim else value


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple | pd.Series) or (isinstance(value, np.ndarray) and value.ndim > 0)


def _listed(value: Any, where: str) -> list[Any]:
    if not _is_list(value):
        raise _refused(f"{where}: a list is needed, as each row is a series, got {_shown(value)}")
    return list(map(_cell, value))


def _item(value: Any, where: str) -> Any:
    """Return the name of a series."""
    value = value.item() if isinstance(value, np.generic) else value
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise _refused(f"{where}: a name is needed, text or a whole number, got {_shown(value)}")
    return value


def _time(value: Any, where: str) -> Any:
    """Return a time, with its zone where it has one."""
    with suppress(ValueError, OverflowError):
        found: Any = datetime.fromisoformat(value.strip()) if isinstance(value, str) else None
        if isinstance(value, datetime | np.datetime64):
            found = pd.Timestamp(value).to_pydatetime(warn=False)
        if found is not None and found.year in YEARS:  # NaT has none
            return found
    raise _refused(f"{where}: a time such as 2027-05-01T08:05:00 is needed, got {_shown(value)}")


def _later(newest: Any, seconds: int) -> str:
    """Return the time so many seconds after the newest, which is known to be one, written with its zone, if any."""
    found = _time(newest, "").replace(microsecond=0)
    if found.utcoffset() is None:
        return str((found + timedelta(seconds=seconds)).isoformat())
    later: str = (found.astimezone(UTC) + timedelta(seconds=seconds)).astimezone(found.tzinfo).isoformat()
    return later.replace("+00:00", "Z") if isinstance(newest, str) and newest.strip()[-1] in "Zz" else later


def _numbers(where: str, name: str, given: Sequence[Any], first: int = 0, nulls: bool = False) -> Any:
    """Return the numbers from the place `first` on; with `nulls` NaN where there is none."""
    found = np.full(len(given) - first, np.nan)
    for place, value in enumerate(given[first:]):
        number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
        with suppress(OverflowError):
            found[place] = value if number else np.nan
        absent = value is None or value is pd.NA or (number and value != value)
        if not (absent and nulls) and not abs(found[place]) <= GREATEST:
            raise _refused(
                f"{where}: {name!r}, value {place + first} (counted from 0): a number is needed, got {_shown(value)}"
            )
    return found


def _shown(value: Any) -> str:
    if _is_list(value):
        return "a list"
    if isinstance(value, Mapping):
        return "an object"
    if value is None or pd.isna(value):
        return "null"
    return f"{str(value)[:50]!r} ({type(value).__name__})"


def _refused(sentence: str) -> Refused:
    refused: Refused = Refused.invalid_parameter_value(sentence)
    return refused


model = ForecastService()
mlflow.models.set_model(model)
