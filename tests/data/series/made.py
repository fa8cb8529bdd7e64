"""Small files of series for tests."""

import numpy as np
import pytest

from kd.base.types import UserError
from kd.config.series import SeriesOptions
from kd.data.series.load import load

START = np.datetime64("2027-05-14T00:00:00")


def times(count, minutes=5, start=START):
    return start + np.arange(count) * np.timedelta64(int(minutes * 60), "s")


def wave(count, seed=0, level=140.0):
    """Whole numbers, as sensors write them."""
    rng = np.random.default_rng(seed)
    return np.round(level + 40 * np.sin(np.arange(count) / 20) + rng.normal(0, 5, count))


def iso(time):
    return str(time).replace("T", " ")


def day_first(time):
    day, clock = str(time).split("T")
    return "-".join(reversed(day.split("-"))) + " " + clock


def long(path, patients, header="item_id,timestamp,target", written=iso):
    """Write a long table; `patients` is (times, values) by id."""
    lines = [
        f"{item},{written(time)},{value:g}"
        for item, (when, values) in patients.items()
        for time, value in zip(when, values, strict=True)
    ]
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def xml(path, item, when, values, sections=""):
    events = "\n".join(
        f'    <event ts="{day_first(time)}" value="{value:g}"/>' for time, value in zip(when, values, strict=True)
    )
    path.write_text(
        f'<?xml version="1.0"?>\n<patient id="{item}" weight="99" insulin_type="x">\n  <glucose_level>\n{events}\n'
        f"  </glucose_level>\n{sections}</patient>\n"
    )
    return path


def loaded(path, files=None, **options):
    return load(str(path), SeriesOptions(**options), files or {})


def refusal(path, files=None, **options):
    """Return why a data set is refused, on one line."""
    with pytest.raises(UserError) as caught:
        loaded(path, files, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def column(rows, name):
    return np.array(rows.with_format("arrow")[name][:].to_pylist())
