"""The text prompt that describes a window to the language model."""

from collections.abc import Sequence

import numpy as np

LAGS = 5
"""Most lags that a full prompt names."""


def prompt_text(kind: str, about: str, unit: str, values: Sequence[float], horizon: int) -> str:
    """Describe a window of measured `values`, the last one newest, in their unit; empty for the kind `none`.

    A `full` prompt is that of Time-LLM (Jin et al. 2024, figure 4, https://arxiv.org/abs/2310.01728): what the data
    are, the task, and the window's statistics. A `short` one has the statistics alone.
    """
    if kind == "none":
        return ""
    window = np.asarray(values, dtype=np.float64)
    trend = "up" if window[-1] > window[0] else "down" if window[-1] < window[0] else "flat"
    least, greatest, median, last = map(_number, (window.min(), window.max(), np.median(window), window[-1]))
    named = f" {unit}" if unit != "none" else ""
    if kind == "short":
        return f"last {last}{named}, min {least}, max {greatest}, trend {trend}"
    lags = ", ".join(map(str, strongest_lags(window, LAGS))) or "none"
    return (
        f"Dataset: {about} Task: forecast the next {horizon} steps given the previous {len(window)} steps. "
        f"Input statistics: min {least}{named}, max {greatest}{named}, median {median}{named}, last {last}{named}, the "
        f"trend is {trend}, the strongest lags are {lags}."
    )


def strongest_lags(window: np.ndarray, most: int) -> list[int]:
    """Return the lags from 1 to half the length with the greatest autocovariance a pair, the greatest first.

    Lag 0 is the window with itself. Computed in a circle, as by a Fourier transform without padding, each lag k would
    come a second time as n - k. A constant window has no lags.
    """
    centred = window - window.mean()
    if not centred.any():
        return []
    count = len(window)
    found = [float(centred[lag:] @ centred[: count - lag]) / (count - lag) for lag in range(1, count // 2 + 1)]
    return [place + 1 for place in sorted(range(len(found)), key=lambda place: (-found[place], place))[:most]]


def _number(value: float) -> str:
    """Write a value with as few digits as a person would: whole from 20 on, else one decimal."""
    return f"{value:.0f}" if abs(value) >= 20 else f"{value:.1f}"
