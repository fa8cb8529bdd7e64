"""Reads what a table of forecasts has in its columns of single steps, and where its windows are in time."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from kd.config.series import MG_PER_MMOL

Array = npt.NDArray[np.float64]
WIDE = "step:"


def in_mg(values: Array, unit: str) -> Array:
    """Return values of glucose in mg/dL; those that were mg/dL are the same numbers again."""
    return np.round(values * MG_PER_MMOL, 6) if unit == "mmol/L" else values


def steps_of(predictions: pd.DataFrame, name: str) -> Array:
    """Return `(windows, horizon)`: `truth`, `forecast`, or a quantile such as `q0.1`."""
    columns = [column for column in predictions.columns if column.startswith(f"{WIDE}{name}:")]
    values: Array = predictions[columns].to_numpy(dtype=float)
    return values


def quantiles_of(predictions: pd.DataFrame) -> dict[float, Array]:
    """Return `(windows, horizon)` by quantile; empty where none were forecast."""
    named = dict.fromkeys(column.split(":")[1] for column in predictions.columns if column.startswith(f"{WIDE}q"))
    return {float(name[1:]): steps_of(predictions, name) for name in named}


def placed(predictions: pd.DataFrame) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return each window's patient as a number from 0, and its place in steps of time."""
    patients = pd.factorize(predictions["patient"])[0].astype(np.int64)
    seconds = predictions["time"].to_numpy(dtype=np.int64)
    step = 60 * float(predictions["step_minutes"].iloc[0])
    return patients, np.rint((seconds - seconds.min()) / step).astype(np.int64)
