"""Series that come with this project. All are simulated, and say so."""

from collections.abc import Callable, Mapping

import numpy as np

from kd.base.console import did_you_mean, several, shown
from kd.base.types import UserError
from kd.config import listed
from kd.config.series import SeriesOptions
from kd.data.builtin.glucose_sim import DAY, STEP_MINUTES, TRAIN_DAYS, Array, Person, people
from kd.data.series.recording import Events, PartName, Recording

SIMULATED = "builtin:glucose-sim is simulated: no value was measured on anybody, and no result on it is one on people."
STEP = np.timedelta64(STEP_MINUTES, "m")


def glucose_sim(options: SeriesOptions) -> list[Recording]:
    """Return a recording of training and one of test for each simulated person.

    Covariates are carbs (g, what was eaten), bolus and basal (U).
    """
    return [
        one
        for person in people()
        for one in (
            _part(person, options, "train", slice(None, TRAIN_DAYS * DAY)),
            _part(person, options, "test", slice(TRAIN_DAYS * DAY, None)),
        )
    ]


def _part(person: Person, options: SeriesOptions, split: PartName, steps: slice) -> Recording:
    known = {"carbs": person.carbs, "bolus": person.insulin, "basal": person.basal}
    times, values = person.times[steps], person.glucose[steps]
    there = ~np.isnan(values)
    named = listed(options.covariates)
    if strange := [name for name in named if name not in known]:
        raise UserError(
            f"covariates: builtin:glucose-sim has no {shown(strange[0])}, only {several(list(known))}; "
            f"{did_you_mean(strange[0], list(known), 'leave it out')}"
        )
    return Recording(
        item=person.id,
        split=split,
        source=f"builtin:glucose-sim ({split})",
        times=times[there],
        values=values[there],
        unit="mg/dL",
        covariates={name: _events(times, known[name][steps]) for name in named},
        notes=(SIMULATED,),
    )


def _events(times: np.ndarray, amounts: Array) -> Events:
    some = amounts > 0
    starts = times[some]
    return Events(starts, starts, amounts[some], "amount")


def about(dataset: str) -> dict[str, dict[str, str]]:
    """Return what is known of the people of a builtin: value by column and patient; empty for other data."""
    if dataset != "builtin:glucose-sim":
        return {}
    found = people()
    return {name: {person.id: person.about[name] for person in found} for name in found[0].about}


BUILTINS: Mapping[str, Callable[[SeriesOptions], list[Recording]]] = {"glucose-sim": glucose_sim}
"""By name."""
