"""Metrics of forecasts. Predictions have one line a window, and columns `step:...` of its single steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from kd.analysis.diebold_mariano import diebold_mariano
from kd.base.judge import CKA, Bounds, Figure, Picture
from kd.config.series import UnitName
from kd.tasks.forecasting import figures, plots
from kd.tasks.forecasting.grids import ZONES
from kd.tasks.forecasting.reading import WIDE, in_mg, placed, quantiles_of, steps_of

Array = npt.NDArray[np.float64]
MOVED = 0.1
"""Share of the mean absolute error by which a window's must move to count as changed."""
ZONES_ABOUT = "Clarke's zones and Parkes' for type 1 are of the last step"
EVENTS_ABOUT = "hypo and hyper: windows in which glucose leaves 70 to 180 mg/dL for 15 minutes, announced or not"
RANGES_ABOUT = "low, in range and high: values truly below 70, 70 to 180, and above 180 mg/dL"
LAG_ABOUT = "lag: of the last step's forecasts, of which the gain is what is left of the horizon, in minutes"
FIGURES = (
    Figure("fidelity/rmse", "RMSE to teacher", group="quality", higher_is_better=False),
    Figure("fidelity/correlation", "correlation of errors"),
    CKA,
    *(Figure(f"forecast/rmse_step_{k}", f"RMSE, step {k}", ".2f", "errors", False) for k in (1, 6, 12)),
    *(
        Figure(f"forecast/rmse_{key}", f"RMSE {words}", ".2f", "errors", False, RANGES_ABOUT)
        for key, words in (("low", "low"), ("in_range", "in range"), ("high", "high"))
    ),
    Figure("forecast/rmse_patient_mean", "RMSE, mean of patients", ".2f", "errors", False),
    Figure("forecast/rmse_patient_sd", "RMSE, sd of patients", ".2f", "errors"),
    Figure("forecast/mae_patient_mean", "MAE, mean of patients", ".2f", "errors", False),
    Figure("forecast/mae_patient_sd", "MAE, sd of patients", ".2f", "errors"),
    Figure("forecast/lag_minutes", "lag", ".1f", "errors", False, LAG_ABOUT),
    Figure("forecast/temporal_gain_minutes", "gain", ".1f", "errors", True),
    Figure("forecast/pinball", "pinball loss", ".3f", "errors", False),
    Figure("forecast/coverage", "coverage", ".1%", "errors", about="coverage: values between the outermost quantiles"),
    Figure("forecast/coverage_expected", "coverage expected", ".1%", "errors"),
    Figure("forecast/grmse", "gRMSE", ".2f", "clinical", False, "errors that could do more harm weigh more in gRMSE"),
    *(
        Figure(f"forecast/{kind}_{key}", f"{kind} {words}", ".2f", "clinical", True, EVENTS_ABOUT)
        for kind in ("hypo", "hyper")
        for key, words in (("sensitivity", "sensitivity"), ("precision", "precision"), ("mcc", "MCC"))
    ),
    *(
        Figure(f"forecast/{grid.lower()}_{zone.lower()}", f"{grid} {zone}", ".1%", "clinical", about=ZONES_ABOUT)
        for grid in ("Clarke", "Parkes")
        for zone in ZONES
    ),
)


@dataclass(frozen=True)
class Windows:
    """What is forecast, a window each; all values in `unit`.

    Attributes:
        example_id: of each window.
        group: of each window: patient and day.
        patient: of each window.
        time: of the last value of the history, in whole seconds, `(windows,)`.
        last: that value, `(windows,)`.
        truth: what came, `(windows, horizon)`.
        step_minutes: from one step to the next.
        unit: of the values; none where they are not glucose.
    """

    example_id: Sequence[str]
    group: Sequence[str]
    patient: Sequence[str]
    time: npt.NDArray[np.int64]
    last: Array
    truth: Array
    step_minutes: float
    unit: UnitName = "none"


class ForecastJudge:
    """Judges forecasts, as `kd.base.judge.Judge` says."""

    directions: ClassVar[Mapping[str, bool]] = {"rmse": False, "mae": False, "mape": False, "skill": True}
    bounds: ClassVar[Mapping[str, Bounds]] = {
        "rmse": (0.0, None),
        "mae": (0.0, None),
        "mape": (0.0, None),
        "skill": (None, 1.0),
    }
    figures: ClassVar[tuple[Figure, ...]] = FIGURES
    slices: ClassVar[tuple[str, ...]] = ("patient", "range")
    outcomes: ClassVar[tuple[str, ...]] = (
        *("time", "step_minutes", "horizon", "unit", "last"),
        *("squared_error", "absolute_error", "percentage_error", "squared_error_persistence"),
    )
    wide: ClassVar[str] = WIDE
    pictures: ClassVar[tuple[Picture, ...]] = (
        Picture("forecasts", "Forecasts of the last step over two days", plots.over_time),
        Picture("error_by_step", "RMSE by minutes ahead", plots.by_step),
        Picture("error_by_patient", "RMSE by patient", plots.by_patient),
        Picture("error_grid", "Clarke's error grid of the last step", plots.error_grid, (7.2, 6.4)),
    )

    @staticmethod
    def quality(predictions: pd.DataFrame) -> dict[str, float]:
        """Return RMSE and MAE in the unit of the values, MAPE as a fraction, and skill: 1 - RMSE / that of persistence.

        MAPE is absent where a truth is 0, and skill where persistence is never wrong.
        """
        squared, absolute, percentage, persistence = (
            float(predictions[name].to_numpy().mean())  # NaN where a part is
            for name in ("squared_error", "absolute_error", "percentage_error", "squared_error_persistence")
        )
        found = {"rmse": float(np.sqrt(squared)), "mae": absolute}
        found |= {} if np.isnan(percentage) else {"mape": percentage}
        return found | ({"skill": 1 - float(np.sqrt(squared / persistence))} if persistence else {})

    @staticmethod
    def diagnostics(validation: pd.DataFrame | None, test: pd.DataFrame) -> dict[str, float]:
        """Return figures `forecast/...` of test, as `kd.tasks.forecasting.figures` says; nothing is fitted.

        Those of a patient's risk are absent where the values are not glucose, all where a forecast is not finite.
        """
        truth, forecast, last = steps_of(test, "truth"), steps_of(test, "forecast"), test["last"].to_numpy()
        if not np.isfinite(forecast).all():
            return {}
        patients, places = placed(test)
        step = float(test["step_minutes"].iloc[0])
        found = figures.by_step(truth, forecast)
        found |= figures.by_patient(patients, test["squared_error"].to_numpy(), test["absolute_error"].to_numpy())
        found |= figures.delay(truth, forecast, last, patients, step)
        found |= figures.intervals(truth, quantiles_of(test))
        unit = test["unit"].iloc[0]
        if unit == "none":
            return found
        truth_mg, forecast_mg, last_mg = (in_mg(values, unit) for values in (truth, forecast, last))
        weights = figures.glucose_weights(truth_mg, forecast_mg)
        return {
            **found,
            **figures.by_range(truth_mg, forecast - truth),
            "forecast/grmse": float(np.sqrt((weights * (forecast - truth) ** 2).mean())),
            **figures.events(figures.Placed(truth_mg, forecast_mg, last_mg, patients, places, step)),
            **figures.zones(truth_mg[:, -1], forecast_mg[:, -1]),
        }

    @staticmethod
    def churn(before: pd.DataFrame, after: pd.DataFrame) -> dict[str, float]:
        """Return shares of windows whose absolute error moved by over a tenth of the mean of all, and which way.

        Raises:
            ValueError: the two are not predictions of the same examples.
        """
        _require_same(before, after)
        was, now = (table["absolute_error"].to_numpy() for table in (before, after))
        enough = MOVED * (was.mean() + now.mean()) / 2
        smaller, larger = float((was - now > enough).mean()), float((now - was > enough).mean())
        return {"error changed": smaller + larger, "to smaller": smaller, "to larger": larger}

    @staticmethod
    def fidelity(student: pd.DataFrame, teacher: pd.DataFrame) -> dict[str, float]:
        """Return the RMSE between both forecasts, falling, and Pearson's correlation of their errors, over all steps.

        The correlation is absent where the errors of one have no spread.

        Raises:
            ValueError: the two are not predictions of the same examples.
        """
        _require_same(student, teacher)
        ours, theirs = steps_of(student, "forecast"), steps_of(teacher, "forecast")
        found = {"fidelity/rmse": float(np.sqrt(((ours - theirs) ** 2).mean()))}
        truth = steps_of(teacher, "truth")
        mine, its = (ours - truth).ravel(), (theirs - truth).ravel()
        if np.ptp(mine) > 0 and np.ptp(its) > 0:
            found["fidelity/correlation"] = float(np.corrcoef(mine, its)[0, 1])
        return found

    @staticmethod
    def example_values(predictions: pd.DataFrame, metric: str) -> Array | None:
        """Return `(windows,)` values whose mean is MAE or MAPE; None for RMSE and skill."""
        column = {"mae": "absolute_error", "mape": "percentage_error"}.get(metric)
        return None if column is None else predictions[column].to_numpy(dtype=float)

    @staticmethod
    def paired_test(ours: pd.DataFrame, theirs: pd.DataFrame) -> tuple[str, float]:
        """Return the two-sided p of the Diebold-Mariano test of squared errors, which knows that windows overlap.

        Raises:
            ValueError: the two are not predictions of the same examples.
        """
        _require_same(ours, theirs)
        gaps = ours["squared_error"].to_numpy() - theirs["squared_error"].to_numpy()
        return "Diebold-Mariano", diebold_mariano(gaps, *placed(ours), int(ours["horizon"].iloc[0]))


def frame(windows: Windows, forecasts: Array, quantiles: Mapping[float, Array] | None = None) -> pd.DataFrame:
    """Put forecasts beside the truth, one line a window; errors are means over its steps, in the unit of the values.

    Columns: example_id, group, patient, time, step_minutes, horizon, unit, last, range (where the truth of the last
    step is, <70, 70-180 or >180 in mg/dL; for glucose alone), squared_error, absolute_error, percentage_error (a
    fraction; missing where a truth is 0), squared_error_persistence, and step:truth:1, step:forecast:1, step:q0.1:1 and
    so on for each step and quantile.

    Args:
        windows: what was to be forecast.
        forecasts: `(windows, horizon)`.
        quantiles: forecasts of the shape of `forecasts`, by their quantile, 0 to 1.

    Raises:
        ValueError: shapes differ, or a truth is not finite.
    """
    truth, every = np.asarray(windows.truth, dtype=float), {"forecast": np.asarray(forecasts, dtype=float)}
    every |= {f"q{q:g}": np.asarray(each, dtype=float) for q, each in sorted((quantiles or {}).items())}
    for name, each in every.items():
        if each.shape != truth.shape:
            raise ValueError(f"forecasts {name} have the shape {each.shape}, the truth {truth.shape}")
    if missing := int((~np.isfinite(truth)).sum()):
        raise ValueError(f"{missing} of {truth.size} true values are not finite: no target may be a missing value")
    gaps, last = every["forecast"] - truth, np.asarray(windows.last, dtype=float)
    shares = np.divide(np.abs(gaps), np.abs(truth), out=np.full(truth.shape, np.nan), where=truth != 0)
    table = {
        "example_id": list(windows.example_id),
        "group": pd.Categorical(windows.group),  # resampling copies a column of words ten times as slowly
        "patient": pd.Categorical(windows.patient),
        "time": np.asarray(windows.time, dtype=np.int64),
        "step_minutes": float(windows.step_minutes),
        "horizon": truth.shape[1],
        "unit": pd.Categorical([windows.unit] * len(truth)),
        "last": last,
        **({} if windows.unit == "none" else {"range": pd.Categorical(_ranges(in_mg(truth[:, -1], windows.unit)))}),
        "squared_error": (gaps**2).mean(axis=1),
        "absolute_error": np.abs(gaps).mean(axis=1),
        "percentage_error": shares.mean(axis=1),
        "squared_error_persistence": ((truth - last[:, None]) ** 2).mean(axis=1),
    }
    steps = {"truth": truth, **every}
    wide = {f"{WIDE}{name}:{k + 1}": each[:, k] for name, each in steps.items() for k in range(truth.shape[1])}
    return pd.DataFrame(table | wide)


def _ranges(truth_mg: Array) -> list[str]:
    names = ("<70", "70-180", ">180")
    return [names[int(value >= figures.LOW) + int(value > figures.HIGH)] for value in truth_mg]


def _require_same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    ours, theirs = one["example_id"].array, other["example_id"].array
    if len(ours) != len(theirs) or not np.all(ours == theirs):
        raise ValueError("fidelity, churn and tests need predictions of the same examples in the same order")
