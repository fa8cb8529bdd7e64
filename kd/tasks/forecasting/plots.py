"""Pictures of forecasts. Each draws predictions, by an arm's name, in its colour, and says whether it had any.

Nothing of a plotting library is imported: the report gives the axes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kd.analysis.statistics import mean_interval
from kd.analysis.verdicts import pseudo_values
from kd.base.harmless import harmless
from kd.tasks.forecasting.grids import CLARKE, ZONES, clarke, shares
from kd.tasks.forecasting.reading import Array, in_mg, steps_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Tables = Mapping[str, pd.DataFrame]
Colours = Mapping[str, str]
HOURS = 48
"""Length of the time that is drawn."""
MOST_PATIENTS, MOST_POINTS = 20, 1000
"""What a picture has room for: the patients with the most windows, and points spread evenly over all."""
GRID_END = 400
LETTERS = {"A": (360, 360), "B": (230, 308), "C": (110, 330), "D": (30, 125), "E": (30, 330)}
"""Where zones are named; the others are opposite."""
OPPOSITE = {"B": (330, 225), "C": (164, 18), "D": (330, 125), "E": (330, 30)}


def over_time(axes: Axes, tables: Tables, colours: Colours) -> bool:
    """Draw truth and forecasts of the last step of the patient with the most windows; lines end at gaps."""
    first = next(iter(tables.values()))
    patient = first["patient"].astype(str).value_counts().index[0]
    for name, table in tables.items():
        own = table[table["patient"] == patient].sort_values("time")
        seconds = own["time"].to_numpy()
        own = own[seconds < seconds[0] + 3600 * HOURS]
        minutes = float(own["step_minutes"].iloc[0])
        ahead = minutes * int(own["horizon"].iloc[0])
        at = (own["time"].to_numpy() - seconds[0]) / 3600 + ahead / 60
        if table is first:
            truth = _broken(at, steps_of(own, "truth")[:, -1], minutes)
            axes.plot(*truth, color=_ink(axes), linewidth=1.6, label="measured")
        forecast = _broken(at, steps_of(own, "forecast")[:, -1], minutes)
        axes.plot(*forecast, color=colours[name], linewidth=0.9, alpha=0.9, label=name)
    axes.set_xlabel("hours")
    axes.set_ylabel(_in_unit("value", first))
    axes.set_title(f"{harmless(patient)}, {ahead:g} minutes ahead; a line ends where values are missing")
    return True


def _broken(hours: Array, values: Array, step_minutes: float) -> tuple[Array, Array]:
    """Put a point without a value where more than a step is missing."""
    gaps = np.flatnonzero(60 * np.diff(hours) > 1.5 * step_minutes) + 1
    return np.insert(hours, gaps, hours[gaps]), np.insert(values.astype(float), gaps, np.nan)


def by_step(axes: Axes, tables: Tables, colours: Colours) -> bool:
    """Draw the RMSE of each step ahead, a line an arm."""
    for name, table in tables.items():
        squares = (steps_of(table, "forecast") - steps_of(table, "truth")) ** 2
        minutes = float(table["step_minutes"].iloc[0]) * np.arange(1, squares.shape[1] + 1)
        axes.plot(minutes, np.sqrt(squares.mean(axis=0)), color=colours[name], marker="o", markersize=4, label=name)
    axes.set_xlabel("minutes ahead")
    axes.set_ylabel(_in_unit("RMSE", next(iter(tables.values()))))
    axes.set_ylim(bottom=0)
    axes.set_title("lower is better")
    return True


def by_patient(axes: Axes, tables: Tables, colours: Colours) -> bool:
    """Draw each patient's RMSE, a bar an arm, with its 95 % interval over days."""
    first = next(iter(tables.values()))
    patients = sorted(first["patient"].astype(str).value_counts().index[:MOST_PATIENTS])
    width = 0.8 / len(tables)
    for place, (name, table) in enumerate(tables.items()):
        parts = [table[table["patient"] == patient] for patient in patients]
        at = np.arange(len(patients)) - 0.4 + (place + 0.5) * width
        axes.bar(at, [_rmse(part) for part in parts], width * 0.9, color=colours[name], label=name)
        for x, part in zip(at, parts, strict=True):
            days = pseudo_values(part, _rmse, pd.factorize(part["group"])[0].astype(np.int64))
            interval = None if days is None else mean_interval(days.tolist())
            if interval and interval.low is not None and interval.high is not None:
                axes.plot([x, x], [max(interval.low, 0), interval.high], color=_ink(axes), linewidth=1)
    axes.set_xticks(range(len(patients)), map(harmless, patients), rotation=90 if len(patients) > 8 else 0)
    axes.set_ylabel(_in_unit("RMSE", first))
    axes.set_title("lower is better; lines: 95 % intervals over days")
    return True


def error_grid(axes: Axes, tables: Tables, colours: Colours) -> bool:
    """Draw the most accurate arm's forecasts of the last step on Clarke's grid; nothing where they are not glucose."""
    known = {name: table for name, table in tables.items() if table["unit"].iloc[0] != "none"}
    if not known:
        return False
    name = min(known, key=lambda one: _rmse(known[one]))
    unit = known[name]["unit"].iloc[0]
    truth, forecast = (in_mg(steps_of(known[name], what)[:, -1], unit) for what in ("truth", "forecast"))
    found = shares(clarke(truth, forecast))
    every = np.linspace(0, len(truth) - 1, min(len(truth), MOST_POINTS)).astype(int)
    axes.plot(truth[every], forecast[every], ".", color=colours[name], markersize=3, alpha=0.6, label=name)
    for line in CLARKE:
        axes.plot(*zip(*line, strict=True), color=_ink(axes), linewidth=0.9)
    for letter, (x, y) in (*LETTERS.items(), *OPPOSITE.items()):
        axes.text(x, y, letter, ha="center", va="center", fontsize=11, fontweight="bold")
    axes.set_xlim(0, GRID_END)
    axes.set_ylim(0, GRID_END)
    axes.set_xlabel("measured, mg/dL")
    axes.set_ylabel("forecast, mg/dL")
    outside = int(((truth > GRID_END) | (forecast > GRID_END) | (forecast < 0)).sum())
    said = ", ".join(f"{zone} {found[zone]:.1%}" for zone in ZONES)
    axes.set_title(said + f"; {outside} outside of the picture" * bool(outside))
    return True


def _rmse(table: pd.DataFrame) -> float:
    return float(np.sqrt(table["squared_error"].to_numpy().mean()))


def _in_unit(words: str, table: pd.DataFrame) -> str:
    unit = table["unit"].iloc[0]
    return words if unit == "none" else f"{words}, {unit}"


def _ink(axes: Axes) -> str:
    """Return the colour of the axes' own text, which a page may turn to be seen on its ground."""
    return str(axes.yaxis.label.get_color())
