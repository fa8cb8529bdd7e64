"""Figures of forecasts beside their mean errors. Pure: arrays in, figures by name out; what cannot be known is absent.

Arrays of values are `(windows, horizon)`, one column a step ahead; those named mg are in mg/dL.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kd.tasks.forecasting.grids import clarke, parkes, shares

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
LOW, HIGH = 70.0, 180.0
"""Ends of the target range, in mg/dL; both are within it."""
LEAST_MINUTES = 15
"""Shortest event (Danne et al. 2017, International consensus on use of CGM, Diabetes Care 40:1631-1640)."""


def by_step(truth: Array, forecast: Array) -> dict[str, float]:
    """Return RMSE and MAE of each step ahead, counted from 1."""
    gaps = forecast - truth
    rmse, mae = np.sqrt((gaps**2).mean(axis=0)), np.abs(gaps).mean(axis=0)
    named = {"rmse": rmse, "mae": mae}
    return {f"forecast/{name}_step_{k}": float(one) for name, each in named.items() for k, one in enumerate(each, 1)}


def by_range(truth_mg: Array, gaps: Array) -> dict[str, float]:
    """Return the RMSE of values that are truly below 70, 70 to 180, and above 180 mg/dL, at all steps."""
    parts = {"low": truth_mg < LOW, "in_range": (truth_mg >= LOW) & (truth_mg <= HIGH), "high": truth_mg > HIGH}
    return {f"forecast/rmse_{name}": _root(gaps[where]) for name, where in parts.items() if where.any()}


def by_patient(patients: npt.NDArray[np.int64], squared: Array, absolute: Array) -> dict[str, float]:
    """Return mean and standard deviation over patients of each one's RMSE and MAE; nothing for a single patient.

    Args:
        patients: `(windows,)`, numbers from 0.
        squared: squared errors `(windows,)`.
        absolute: absolute errors `(windows,)`.
    """
    counts = np.bincount(patients)
    if len(counts) < 2:
        return {}
    each = {
        "rmse": np.sqrt(np.bincount(patients, squared) / counts),
        "mae": np.bincount(patients, absolute) / counts,
    }
    means = {f"forecast/{name}_patient_mean": float(values.mean()) for name, values in each.items()}
    return means | {f"forecast/{name}_patient_sd": float(values.std(ddof=1)) for name, values in each.items()}


def glucose_weights(truth_mg: Array, forecast_mg: Array) -> Array:
    """Return by how much a squared error counts, 1 to 2.5: more where low is forecast too high, or high too low.

    Del Favero, Facchinetti and Cobelli 2012, A glucose-specific metric to assess predictors and identify models, IEEE
    Transactions on Biomedical Engineering 59:1281-1290: 1 + 1.5 s(85 - g; 30) s(f - g; 10) + 1 s(g - 155; 100)
    s(g - f; 20) of the true g and the forecast f, where s(x; width) rises smoothly from 0 at 0 to 1 at the width. The
    root of the mean of weighted squares is gRMSE.
    """
    low = _rise(85 - truth_mg, 30) * _rise(forecast_mg - truth_mg, 10)
    high = _rise(truth_mg - 155, 100) * _rise(truth_mg - forecast_mg, 20)
    return 1 + 1.5 * low + 1.0 * high


def _rise(x: Array, width: float) -> Array:
    """Return 0 up to 0, 1 from the width on, and between the fourth-degree curve that is smooth at both ends."""
    at = np.clip(2 * x / width - 1, -1, 1)
    rising: Array = 0.5 + at - at**3 + np.sign(at) * at**4 / 2
    return rising


def delay(
    truth: Array, forecast: Array, last: Array, patients: npt.NDArray[np.int64], step_minutes: float
) -> dict[str, float]:
    """Return how late the forecasts of the last step are, and what of the horizon is gained, in minutes.

    The lag is that of 0 to horizon steps at which forecasts correlate most with the values of so long before, mean over
    patients (Georga, Principe and Fotiadis 2019, Medical and Biological Engineering and Computing 57:27-46). The gain
    is the horizon less the lag (Facchinetti et al. 2011, Diabetes Technology and Therapeutics 13:111-119):
    persistence, which repeats the last value, gains nothing.

    Args:
        truth: what came, `(windows, horizon)`.
        forecast: as `truth`.
        last: the last value known, `(windows,)`.
        patients: `(windows,)`, numbers from 0.
        step_minutes: from one step to the next.
    """
    earlier = np.column_stack([truth[:, ::-1], last])  # what came 0, 1, ... steps before the last
    found = []
    for one in range(patients.max() + 1):
        own = patients == one
        said, came = forecast[own, -1], earlier[own]
        said, came = said - said.mean(), came - came.mean(axis=0)
        sizes = np.linalg.norm(said) * np.linalg.norm(came, axis=0)
        if (sizes > 1e-9 * own.sum()).all():
            found.append(int(np.argmax(said @ came / sizes)))
    if not found:
        return {}
    lag = float(np.mean(found)) * step_minutes
    gain = truth.shape[1] * step_minutes - lag
    return {"forecast/lag_minutes": lag, "forecast/temporal_gain_minutes": gain}


@dataclass(frozen=True)
class Placed:
    """Windows of glucose in time.

    Attributes:
        truth: `(windows, horizon)`, in mg/dL.
        forecast: as `truth`.
        last: the last value known, `(windows,)`, in mg/dL.
        patients: `(windows,)`, numbers from 0.
        places: of the last value known, in steps of time, `(windows,)`.
        step_minutes: from one step to the next.
    """

    truth: Array
    forecast: Array
    last: Array
    patients: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    step_minutes: float


def events(placed: Placed) -> dict[str, float]:
    """Return sensitivity, precision and Matthews' correlation of announcing that glucose will leave the target range.

    An event is a run of at least 15 minutes below 70 mg/dL (hypo) or above 180 (hyper), each value standing for one
    step, in the truth of all windows of a patient put together; a gap ends a run. A window counts as one with an event
    where such a run begins within its horizon, however long it lasts. It announces one where its forecast is beyond
    the limit for 15 minutes, or still is at the end of the horizon. Windows whose last value is beyond the limit
    already are left out.
    """
    needed = math.ceil(LEAST_MINUTES / placed.step_minutes)
    found: dict[str, float] = {}
    for name, sign, limit in (("hypo", -1, LOW), ("hyper", 1, HIGH)):

        def beyond(values: Array, sign: int = sign, limit: float = limit) -> Mask:
            return np.asarray(sign * (values - limit) > 0)

        kept = ~beyond(placed.last)
        due = _begins(placed, beyond(placed.truth), needed)[kept]
        said = _announces(beyond(placed.forecast), needed)[kept]
        found |= {f"forecast/{name}_{figure}": value for figure, value in _confusion(due, said).items()}
    return found


def _begins(placed: Placed, beyond: Mask, needed: int) -> Mask:
    """Return for each window whether a run of at least `needed` values beyond the limit begins within its horizon."""
    horizon = beyond.shape[1]
    first, width = placed.places.min(), np.ptp(placed.places) + horizon + 2  # a free place between patients
    at = placed.patients * width + placed.places - first + 1
    line = np.zeros(int(at.max()) + horizon + 2, dtype=bool)
    line[(at[:, None] + np.arange(1, horizon + 1))[beyond]] = True
    edges = np.diff(line.astype(np.int8))
    starts, ends = np.flatnonzero(edges == 1) + 1, np.flatnonzero(edges == -1) + 1
    begun = np.zeros(len(line), dtype=int)
    begun[starts[ends - starts >= needed]] = 1
    so_far = np.cumsum(begun)
    return np.asarray(so_far[at + horizon] > so_far[at])


def _announces(beyond: Mask, needed: int) -> Mask:
    """Return for each window whether its forecast is beyond the limit for long enough, or at the end."""
    if needed > beyond.shape[1]:
        return np.asarray(beyond[:, -1])
    runs = np.lib.stride_tricks.sliding_window_view(beyond, needed, axis=1)
    return np.asarray(np.any(np.all(runs, axis=-1), axis=1) | beyond[:, -1])


def _confusion(due: Mask, said: Mask) -> dict[str, float]:
    hits, missed = float((due & said).sum()), float((due & ~said).sum())
    false, quiet = float((~due & said).sum()), float((~due & ~said).sum())
    found = {"sensitivity": hits / (hits + missed)} if hits + missed else {}
    found |= {"precision": hits / (hits + false)} if hits + false else {}
    sides = (hits + missed) * (hits + false) * (quiet + missed) * (quiet + false)
    return found | ({"mcc": (hits * quiet - false * missed) / math.sqrt(sides)} if sides else {})


def zones(truth_mg: Array, forecast_mg: Array) -> dict[str, float]:
    """Return the shares of zones A to E of Clarke's grid and of Parkes' for type 1, both `(windows,)`."""
    grids = {"clarke": clarke, "parkes": parkes}
    found = {name: shares(grid(truth_mg, forecast_mg)) for name, grid in grids.items()}
    return {f"forecast/{name}_{zone.lower()}": share for name, each in found.items() for zone, share in each.items()}


def intervals(truth: Array, quantiles: Mapping[float, Array]) -> dict[str, float]:
    """Return the mean pinball loss of quantiles, and the share of values between the outermost two.

    The pinball loss of quantile q is q (y - f) where the truth y is above the forecast f, else (1 - q) (f - y) (Koenker
    and Bassett 1978). The share to be expected is their difference. Without quantiles there is nothing.
    """
    if not quantiles:
        return {}
    losses = [np.maximum(q * (truth - each), (q - 1) * (truth - each)).mean() for q, each in quantiles.items()]
    found = {"forecast/pinball": float(np.mean(losses))}
    least, greatest = min(quantiles), max(quantiles)
    if least < greatest:
        inside = (truth >= quantiles[least]) & (truth <= quantiles[greatest])
        found |= {"forecast/coverage": float(inside.mean()), "forecast/coverage_expected": greatest - least}
    return found


def _root(gaps: Array) -> float:
    return float(np.sqrt((gaps**2).mean()))
