"""How tables of series look: which columns are what, recognised by the names in the header."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kd.base.console import did_you_mean, several, shown
from kd.base.types import UserError
from kd.config import listed
from kd.config.series import SeriesOptions
from kd.data.series.recording import EventKind
from kd.data.series.tables import Head

GLUCOSE = re.compile(r"(?:Glucose Value \((.+)\)|Historic Glucose (.+))")
CLARITY_TIME, CLARITY_EVENT = "Timestamp (YYYY-MM-DDThh:mm:ss)", "Event Type"
LIBRE_TIME, LIBRE_RECORD = "Device Timestamp", "Record Type"


@dataclass(frozen=True)
class Layout:
    """Which columns of a table are what."""

    time: tuple[str, ...]
    """Columns whose texts, joined by a blank, are the time."""
    value: str
    item: str = ""
    """Column of the patient; empty where the file is one patient's."""
    unit: str = ""
    """Of the values, where the format says it."""
    kept: tuple[str, tuple[str, ...]] = ("", ())
    """A column, and what it says where a row is a reading of the sensor."""
    usual: bool = True
    """Whether only such rows are readings; else all are where none is such."""
    limits: tuple[float, float] | None = None
    """Lowest and highest value of the sensor in mg/dL, for which it writes words."""
    covariates: Mapping[str, str] = field(default_factory=dict)
    """Column by the covariate's name."""
    only: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """A column, and what it says where a row is such a covariate."""
    kind: EventKind = "level"
    any_order: bool = False
    """Whether the newest may come first, or one device after the other."""
    day_first: bool = False
    short: bool = False
    """Whether rows may lack their last fields."""

    @property
    def columns(self) -> set[str]:
        """All columns that are read."""
        kept = {self.item, self.kept[0], *(column for column, _ in self.only.values())}
        return {*self.time, self.value, *self.covariates.values(), *kept} - {""}


def layout_of(path: object, heads: Sequence[Head], options: SeriesOptions) -> tuple[Head, Layout]:
    """Return the header of a table, and what its columns are.

    Columns that the options name go before a format that the header is recognised by.

    Raises:
        UserError: a column is not there; the text names those that are, and which may be meant.
    """
    first = heads[0]
    named = (options.time_column, options.target_column)
    if not set(named) <= set(first.names):
        for head in heads:
            if found := _known(head.names):
                absent = [name for name in listed(options.covariates) if name not in found.covariates]
                if absent:
                    raise _no_covariate(path, absent[0], list(found.covariates))
                return head, found
    for option, name in (("time_column", options.time_column), ("target_column", options.target_column)):
        if name not in first.names:
            raise _absent(path, option, name, first)
    for name in listed(options.covariates):
        if name not in first.names:
            raise _no_covariate(path, name, list(first.names))
    item = options.item_column if options.item_column in first.names else ""
    if not item and options.item_column != SeriesOptions.item_column:
        raise _absent(path, "item_column", options.item_column, first)
    covariates = {name: name for name in listed(options.covariates)}
    return first, Layout((options.time_column,), options.target_column, item, covariates=covariates)


def _known(names: Sequence[str]) -> Layout | None:
    """Return the layout of a published format with this header."""
    there = set(names)
    value = next((name for name in names if GLUCOSE.fullmatch(name)), "")
    match = GLUCOSE.fullmatch(value)
    unit = (match[1] or match[2]) if match else ""
    if unit in ("mg/dL", "mmol/L") and {CLARITY_TIME, CLARITY_EVENT} <= there:
        return _clarity(there, value, unit)
    if unit in ("mg/dL", "mmol/L") and {LIBRE_TIME, LIBRE_RECORD} <= there:
        return _libre(there, value, unit)
    if {"date", "time", "glucose"} <= there:
        kept = ("type", ("cgm",)) if "type" in there else ("", ())
        return Layout(("date", "time"), "glucose", unit="mmol/L", kept=kept, usual=False)
    if {"_ts", "_value"} <= there:
        return Layout(("_ts",), "_value", day_first=True)
    return None


def _clarity(there: set[str], value: str, unit: str) -> Layout:
    events = {
        "carbs": ("Carb Value (grams)", CLARITY_EVENT, "Carbs"),
        "bolus": ("Insulin Value (u)", "Event Subtype", "Fast-Acting"),  # a long-acting dose is no bolus
    }
    events = {name: one for name, one in events.items() if set(one[:2]) <= there}
    return Layout(
        (CLARITY_TIME,),
        value,
        unit=unit,
        kept=(CLARITY_EVENT, ("EGV",)),
        limits=(40, 400),
        covariates={name: column for name, (column, _, _) in events.items()},
        only={name: (column, word) for name, (_, column, word) in events.items()},
        kind="amount",
        any_order=True,
        short=True,
    )


def _libre(there: set[str], value: str, unit: str) -> Layout:
    events = {"carbs": "Carbohydrates (grams)", "bolus": "Rapid-Acting Insulin (units)"}
    return Layout(
        (LIBRE_TIME,),
        value,
        unit=unit,
        kept=(LIBRE_RECORD, ("0",)),
        limits=(40, 500),
        covariates={name: column for name, column in events.items() if column in there},
        kind="amount",
        any_order=True,
        short=True,
    )


def _absent(path: object, option: str, name: str, head: Head) -> UserError:
    return UserError(
        f"{path}: there is no column {name!r} ({option}), only {several(head.names)}; "
        f"{did_you_mean(name, head.names, f'name another by {option}', f'{option}=')}"
    )


def _no_covariate(path: object, name: str, known: Sequence[str]) -> UserError:
    said = several(known) or "none"
    return UserError(
        f"covariates: {path} has no {shown(name)}, only {said}; {did_you_mean(name, known, 'leave it out')}"
    )
