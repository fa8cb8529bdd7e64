"""Series of made-up glucose and forecasts of them, to score."""

import numpy as np

from kd.tasks.forecasting.scores import ForecastJudge, Windows, frame

STEP = 5
DAY = 24 * 60 // STEP


def glucose(rng, length, mean=140.0):
    """A smooth series around a mean in mg/dL, of 5 minutes a step, with times below 70 and above 180."""
    days = np.arange(length) / DAY
    waves = sum(rng.uniform(15, 35) * np.sin(2 * np.pi * (k * days + rng.random())) for k in (1, 2, 3.3))
    return np.clip(mean + waves + 2 * rng.normal(size=length), 40, 400)


def windows(series, horizon=6, unit="mg/dL", gaps=()):
    """Every window of each patient's series after its first value; those that begin in `gaps` are left out."""
    rows = [(name, place) for name, values in series.items()
            for place in range(len(values) - horizon) if place not in gaps]  # fmt: skip
    time = np.array([1_700_000_000 + 60 * STEP * place for _, place in rows])
    return Windows(
        example_id=[f"{name}:{place}" for name, place in rows],
        group=[f"{name}:{place // DAY}" for name, place in rows],
        patient=[name for name, _ in rows],
        time=time,
        last=np.array([series[name][place] for name, place in rows]),
        truth=np.array([series[name][place + 1 : place + 1 + horizon] for name, place in rows]),
        step_minutes=STEP,
        unit=unit,
    )


def two_patients(horizon=6, days=3, **more):
    rng = np.random.default_rng(0)
    return windows({name: glucose(rng, days * DAY) for name in ("570", "584")}, horizon, **more)


def noisy(made, sd=10.0, seed=1):
    """Forecasts with errors of that size."""
    return frame(made, made.truth + sd * np.random.default_rng(seed).normal(size=made.truth.shape))


def persistence(made):
    return frame(made, np.repeat(made.last[:, None], made.truth.shape[1], axis=1))


def diagnosed(table):
    return ForecastJudge.diagnostics(None, table)
