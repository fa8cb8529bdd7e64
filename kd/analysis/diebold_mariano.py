"""The field's test of which of two forecasts is better, for windows that overlap. Pure: numbers in, a number out."""

import math

import numpy as np
import numpy.typing as npt
from scipy import special


def diebold_mariano(
    differences: npt.NDArray[np.float64],
    series: npt.NDArray[np.int64],
    places: npt.NDArray[np.int64],
    horizon: int,
) -> float:
    """Return the two-sided p that two forecasts have the same expected loss (Diebold and Mariano 1995).

    With h steps ahead, windows up to h - 1 places apart share targets, so that the variance of the mean difference is
    the sum of the products d_i d_j, centred, over all pairs of one series that are less than h places apart, by n^2
    (equation 5 there). It is divided by 1 - pairs / n^2, which for one unbroken series is the correction of Harvey,
    Leybourne and Newbold 1997 (equation 8), (n + 1 - 2 h + h (h - 1) / n) / n; the statistic is compared with t of
    n - 1 degrees of freedom. Where the sum is not positive, products count the less the further apart (Newey and West
    1987), which makes it so.

    Args:
        differences: `(n,)`, the loss of one forecast less that of the other, a window each.
        series: `(n,)`, numbers of the series that windows are of; those of two series are independent.
        places: `(n,)`, where a window is in its series, in steps of time; across a gap they are further apart.
        horizon: steps ahead, >= 1.

    Returns:
        From 0 to 1; 1 where there are not more windows than steps ahead, as then nothing can be said.
    """
    n = len(differences)
    if n <= max(horizon, 1) or not differences.any():
        return 1.0
    mean = float(differences.mean())
    lags = [_at_lag(differences - mean, series, places, lag) for lag in range(horizon)]
    products = np.array([(1 + (lag > 0)) * total for lag, (total, _) in enumerate(lags)])
    pairs = sum((1 + (lag > 0)) * count for lag, (_, count) in enumerate(lags))
    variance = float(products.sum()) / n**2
    if variance <= 0:
        variance = float(products @ (1 - np.arange(horizon) / horizon)) / n**2
    tiny = np.finfo(float).eps * mean**2
    if variance <= tiny:
        return 0.0
    statistic = mean / math.sqrt(variance) * math.sqrt(max(1 - pairs / n**2, 0.0))
    return float(2 * special.stdtr(n - 1, -abs(statistic)))


def _at_lag(
    values: npt.NDArray[np.float64], series: npt.NDArray[np.int64], places: npt.NDArray[np.int64], lag: int
) -> tuple[float, int]:
    """Return the sum of the products of all pairs of values that are `lag` places apart, and how many there are."""
    keys = (series - series.min()) * (np.ptp(places) + lag + 1) + places - places.min()
    order = np.argsort(keys, kind="stable")
    keys, values = keys[order], values[order]
    found = np.minimum(np.searchsorted(keys, keys + lag), len(keys) - 1)
    both = keys[found] == keys + lag
    return float(values[both] @ values[found[both]]), int(both.sum())
