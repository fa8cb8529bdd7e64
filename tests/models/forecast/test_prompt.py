"""What a language model is told of a window."""

import numpy as np

from kd.models.forecast.prompt import prompt_text, strongest_lags

WINDOW = [100.0, 104.0, 110.0, 118.0, 121.0, 119.0, 125.0, 131.0, 140.0, 148.0, 155.0, 163.0]


def test_a_prompt_says_what_was_measured_and_not_what_normalisation_makes_of_it():
    for kind in ("full", "short"):
        text = prompt_text(kind, "About it.", "mg/dL", WINDOW, 6)
        assert all(said in text for said in ("163 mg/dL", "min 100", "max 163", "trend"))
    assert "7.0 mmol/L" in prompt_text("short", "", "mmol/L", [5.0, 7.0], 6)
    assert prompt_text("none", "About it.", "mg/dL", WINDOW, 6) == ""
    assert "mmol" not in prompt_text("full", "", "none", WINDOW, 6)
    assert "none" not in prompt_text("short", "", "none", WINDOW, 6)


def test_the_task_and_the_direction_are_those_of_the_window():
    text = prompt_text("full", "About it.", "mg/dL", WINDOW, 6)
    assert text.startswith("Dataset: About it. ")
    assert "next 6 steps" in text
    assert "previous 12 steps" in text
    assert "trend is up" in text
    assert "trend is down" in prompt_text("full", "", "mg/dL", WINDOW[::-1], 6)
    assert "trend is flat" in prompt_text("full", "", "mg/dL", [100.0] * 12, 6)
    assert "lags are none" in prompt_text("full", "", "mg/dL", [100.0] * 12, 6)


def test_lags_leave_out_the_window_itself_and_the_mirror_of_each():
    """A circular correlation gives lag 0 first, and each lag k again as n - k."""
    wave = np.sin(2 * np.pi * np.arange(24) / 8)
    found = strongest_lags(wave, 5)
    assert found[0] == 8
    assert 0 not in found
    assert all(1 <= lag <= 12 for lag in found)
    assert len({min(lag, 24 - lag) for lag in found}) == len(found) == 5
    assert strongest_lags(np.ones(12), 5) == []
