"""The XML of OhioT1DM: one patient a file, sections of events; glucose in mg/dL, insulin in U, carbohydrates in g."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.sax import SAXException, SAXParseException
from xml.sax.handler import ContentHandler

import numpy as np
import pyarrow as pa
from defusedxml import DefusedXmlException, sax

from kd.base.console import did_you_mean, one_line, several, shown
from kd.base.numbers import number
from kd.base.types import UserError
from kd.config import listed
from kd.config.series import SeriesOptions
from kd.data.series.ordered import ordered
from kd.data.series.recording import FOREVER, Events, Floats, PartName, Recording, Times
from kd.data.series.times import parse

SECTIONS = ("glucose_level", "meal", "bolus", "basal", "temp_basal")
GREATEST = 1e30

Event = tuple[int, Any]
"""Line of an event, and its attributes."""


class _Sections(ContentHandler):
    """Keeps the events of each section that is read, with their lines."""

    def __init__(self) -> None:
        super().__init__()
        self.patient: str | None = None
        self.events: dict[str, list[Event]] = defaultdict(list)
        self.path: list[str] = []

    def startElement(self, name: str, attrs: Any) -> None:
        if not self.path:
            self.patient = attrs.get("id", "").strip() if name == "patient" else None
        elif name == "event" and len(self.path) == 2 and self.path[1] in SECTIONS:
            self.events[self.path[1]].append((self._locator.getLineNumber(), dict(attrs)))  # type: ignore[attr-defined]
        self.path.append(name)

    def endElement(self, name: str) -> None:
        self.path.pop()


def read_xml(path: Path, split: PartName, options: SeriesOptions) -> Recording:
    """Return the series of an OhioT1DM file, with the covariates that are wanted of carbs, bolus and basal.

    A square bolus is spread over its time; a temporary basal rate goes before the basal rate, and 0 means suspended.

    Raises:
        UserError: the file is malformed, brings entities of its own, or is not of this shape; the text names the line.
    """
    found = _parsed(path)
    if found.patient is None:
        raise UserError(f"{path}: its outermost element is not <patient>: give a file of OhioT1DM's shape")
    if not found.patient:
        raise UserError(f"{path}: <patient> has no id: write one")
    readings = found.events["glucose_level"]
    if not readings:
        raise UserError(f"{path}: has no <glucose_level> with events: give a file with readings")
    where = _where(path, readings)
    times, values, notes = ordered(_times(path, readings, "ts"), _numbers(path, readings, "value"), where)
    for name in listed(options.covariates):
        if name not in COVARIATES:
            raise UserError(
                f"covariates: {path} has no {shown(name)}, only {several(list(COVARIATES))}; "
                f"{did_you_mean(name, COVARIATES, 'leave it out')}"
            )
    covariates = {name: COVARIATES[name](path, found.events) for name in listed(options.covariates)}
    said = tuple(f"{path}: {note}." for note in notes)
    return Recording(found.patient, split, str(path), times, values, "mg/dL", covariates, said)


def _parsed(path: Path) -> _Sections:
    found = _Sections()
    try:
        with path.open("rb") as file:
            sax.parse(file, found, forbid_dtd=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): check its permissions") from error
    except SAXParseException as error:
        raise UserError(
            f"{path}: line {error.getLineNumber()} is malformed ({one_line(Exception(error.getMessage()))}): mend it"
        ) from error
    except DefusedXmlException as error:
        line = found._locator.getLineNumber()  # type: ignore[attr-defined]
        raise UserError(
            f"{path}: line {line} declares a document type or an entity, which is not read: remove it"
        ) from error
    except (SAXException, ValueError, LookupError) as error:  # an encoding that is unknown
        raise UserError(f"{path}: is not readable as XML ({one_line(error)}): write it as UTF-8") from error
    return found


def _where(path: Path, events: Sequence[Event]) -> Callable[[int], str]:
    return lambda place: f"{path}: line {events[place][0]}"


def _times(path: Path, events: Sequence[Event], *names: str) -> Times:
    """Return the first of these attributes that events have."""
    texts = [next((attrs[name] for name in names if attrs.get(name, "").strip()), None) for _, attrs in events]
    return parse(pa.array(texts, pa.string()), _where(path, events), day_first=True)


def _numbers(path: Path, events: Sequence[Event], name: str) -> Floats:
    """Return an attribute of each event, NaN where it is empty."""
    values = []
    for line, attrs in events:
        text = attrs.get(name, "").strip()
        try:
            value = number(text) if text else np.nan
        except ValueError as error:
            raise UserError(f"{path}: line {line}: {name}={shown(text)} is no number: write it as 5.6") from error
        if value < 0 or value > GREATEST:
            raise UserError(f"{path}: line {line}: {name}={shown(text)} is out of range: mend it")
        values.append(value)
    return np.array(values, np.float64)


def _sorted(starts: Times, ends: Times, amounts: Floats) -> Events:
    there = ~np.isnan(amounts)
    order = np.argsort(starts[there], kind="stable")
    starts, ends, amounts = (values[there][order] for values in (starts, ends, amounts))
    return Events(starts, np.maximum(starts, ends), amounts, "amount")


def _carbs(path: Path, sections: dict[str, list[Event]]) -> Events:
    events = sections["meal"]
    times = _times(path, events, "ts")
    return _sorted(times, times, _numbers(path, events, "carbs"))


def _bolus(path: Path, sections: dict[str, list[Event]]) -> Events:
    events = sections["bolus"]
    starts = _times(path, events, "ts_begin", "ts")
    return _sorted(starts, _times(path, events, "ts_end", "ts_begin", "ts"), _numbers(path, events, "dose"))


def _basal(path: Path, sections: dict[str, list[Event]]) -> Events:
    """Return the rate in U/h: at every time the temporary one that began last, else the basal rate."""
    events, other = sections["basal"], sections["temp_basal"]
    basal = _sorted(*(2 * (_times(path, events, "ts"),)), _numbers(path, events, "value"))
    temp = _sorted(
        _times(path, other, "ts_begin"), _times(path, other, "ts_end", "ts_begin"), _numbers(path, other, "value")
    )
    starts = np.unique(np.concatenate([basal.starts, temp.starts, temp.ends]))
    rates = np.array([_rate(time, basal, temp) for time in starts], np.float64)
    return Events(starts, np.append(starts[1:], FOREVER)[: len(starts)], rates, "rate")


def _rate(time: np.datetime64, basal: Events, temp: Events) -> float:
    within = np.flatnonzero((temp.starts <= time) & (time < temp.ends))
    if len(within):
        return float(temp.amounts[within[-1]])
    place = int(np.searchsorted(basal.starts, time, "right")) - 1
    return float(basal.amounts[place]) if place >= 0 else np.nan


COVARIATES: dict[str, Callable[[Path, dict[str, list[Event]]], Events]] = {
    "carbs": _carbs,
    "bolus": _bolus,
    "basal": _basal,
}
"""What the sections beside glucose_level give, by name."""
