"""Times as files write them, never guessed: ISO, or day or month first where only one of the two can be meant."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from kd.base.console import shown
from kd.base.types import UserError
from kd.data.series.recording import Times

CLOCK = r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,]\d+)?)?"
ZONE = r"(?P<zone>Z|[+-]\d{2}:?\d{2})?"
ISO = rf"^\s*(?P<year>\d{{4}})[-/](?P<b>\d{{2}})[-/](?P<a>\d{{2}})(?:[T ]+{CLOCK})?\s*{ZONE}\s*$"
WRITTEN = (
    rf"^\s*(?P<a>\d{{1,2}})[-/.](?P<b>\d{{1,2}})[-/.](?P<year>\d{{4}})(?:[ ,T]+{CLOCK}\s*(?P<half>[AaPp][Mm])?)?\s*$"
)
INSTEAD = "write times as 2027-01-31 08:05:00"

Numbers = npt.NDArray[np.int64]


def parse(
    texts: Any, where: Callable[[int], str], items: Sequence[Any] | None = None, day_first: bool = False
) -> Times:
    """Return times without a zone; those that have an offset from UTC are in UTC.

    Args:
        texts: Arrow strings, or what Arrow knows as times.
        where: File and line of a position, for messages.
        items: Whose time each is; times rise within an item alone. One item where there are none.
        day_first: The format is known to write the day first, where it does not write ISO.

    Raises:
        UserError: one is missing, is no time, or may mean two days; the text names the line.
    """
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    if texts.null_count:
        raise UserError(f"{where(pc.index(pc.is_null(texts), True).as_py())} has no time: fill it, or leave it out")
    if pa.types.is_temporal(texts.type) and not pa.types.is_time(texts.type):
        known: Times = np.asarray(texts.cast(pa.timestamp("us"), safe=False)).astype("datetime64[s]")
        return known
    if not pa.types.is_string(texts.type) and not pa.types.is_large_string(texts.type):
        raise UserError(f"{where(0)}: {shown(texts[0].as_py()) if len(texts) else 'this'} is no time: {INSTEAD}")
    fields = pc.extract_regex(texts, ISO)
    if fields.null_count == 0:
        return _zoned(fields, _days(fields, "a", "b") + _seconds(fields), texts, where)
    other = pc.extract_regex(texts, WRITTEN)
    if other.null_count:
        wrong = pc.is_null(fields if fields.null_count < other.null_count else other)
        raise _no_time(texts, wrong, where)
    return _ordered(other, texts, where, items, day_first)


def _ordered(
    fields: Any, texts: Any, where: Callable[[int], str], items: Sequence[Any] | None, day_first: bool
) -> Times:
    """Decide whether day or month is first."""
    clock = _seconds(fields)
    found: list[Times] = [_days(fields, "a", "b") + clock, _days(fields, "b", "a") + clock]
    fits = [not np.isnat(times).any() for times in found]
    if day_first or not any(fits):
        if not fits[0]:
            better = min(found[: 1 if day_first else 2], key=lambda times: np.isnat(times).sum())
            raise _no_time(texts, np.isnat(better), where)
        return found[0]
    if all(fits) and not np.array_equal(found[0], found[1]):
        same = (
            np.ones(max(len(texts) - 1, 0), bool) if items is None else np.asarray(items)[1:] == np.asarray(items)[:-1]
        )
        fits = [bool((np.diff(times)[same] >= np.timedelta64(0)).all()) for times in found]
        if fits[0] == fits[1]:
            raise UserError(
                f"{where(0)}: {shown(texts[0].as_py())} may have the day or the month first, and so may all times of "
                f"the file: {INSTEAD}"
            )
    return found[0 if fits[0] else 1]


def _no_time(texts: Any, wrong: Any, where: Callable[[int], str]) -> UserError:
    place = int(np.argmax(np.asarray(wrong)))
    return UserError(f"{where(place)}: {shown(texts[place].as_py())} is no time: {INSTEAD}")


def _number(fields: Any, name: str) -> Numbers:
    found = pc.struct_field(fields, name)
    numbers: Numbers = np.asarray(pc.if_else(pc.equal(found, ""), "0", found).cast(pa.int64()))
    return numbers


def _days(fields: Any, day: str, month: str) -> Times:
    """Return midnights in seconds, NaT where there is no such day."""
    years, months, days = (_number(fields, name) for name in ("year", month, day))
    first = ((years - 1970) * 12 + months - 1).astype("datetime64[M]")
    dates = first.astype("datetime64[D]") + (days - 1)
    there = (months >= 1) & (months <= 12) & (days >= 1) & (dates.astype("datetime64[M]") == first) & (years > 1800)
    found: Times = np.where(there, dates, np.datetime64("NaT", "D")).astype("datetime64[s]")
    return found


def _seconds(fields: Any) -> Any:
    """Return the time of day, NaT where there is none such."""
    hours, minutes, seconds = (_number(fields, name) for name in ("hour", "minute", "second"))
    there = (hours < 24) & (minutes < 60) & (seconds < 60)
    if fields.type.get_field_index("half") >= 0:
        half = pc.utf8_lower(pc.struct_field(fields, "half"))
        named = np.asarray(pc.not_equal(half, ""))
        there &= ~named | ((hours >= 1) & (hours <= 12))
        hours = np.where(named, hours % 12 + 12 * np.asarray(pc.equal(half, "pm")), hours)
    whole = (hours * 3600 + minutes * 60 + seconds).astype("timedelta64[s]")
    return np.where(there, whole, np.timedelta64("NaT", "s"))


def _zoned(fields: Any, times: Times, texts: Any, where: Callable[[int], str]) -> Times:
    """Take the offsets from UTC off, which all times have or none."""
    if np.isnat(times).any():
        raise _no_time(texts, np.isnat(times), where)
    zones = pc.struct_field(fields, "zone")
    named = np.asarray(pc.not_equal(zones, ""))
    if not named.any():
        return times
    if not named.all():
        place = int(np.argmax(named != named[0]))
        raise UserError(
            f"{where(place)}: {shown(texts[place].as_py())} has {'an' if named[place] else 'no'} offset from UTC, "
            "unlike the first time: write all alike"
        )
    offsets = {zone: _offset(zone) for zone in pc.unique(zones).to_pylist()}
    taken = pc.take(pa.array(list(offsets.values())), pc.index_in(zones, pa.array(list(offsets))))
    found: Times = times - np.asarray(taken).astype("timedelta64[s]")
    return found


def _offset(zone: str) -> int:
    """Return an offset in seconds."""
    if zone == "Z":
        return 0
    digits = zone[1:].replace(":", "")
    return (1 if zone[0] == "+" else -1) * (int(digits[:2]) * 3600 + int(digits[2:]) * 60)
