"""A version is promoted only on a measured figure that reaches the threshold in its metric's direction."""

import math

import pytest

from kd.promotion import decide


@pytest.mark.parametrize(
    ("value", "threshold", "rises", "passes"),
    [
        (0.91, 0.90, True, True),
        (0.90, 0.90, True, True),
        (0.89, 0.90, True, False),
        (0.29, 0.30, False, True),
        (0.30, 0.30, False, True),
        (0.31, 0.30, False, False),
        (-0.1, 0.0, True, False),
        (0.0, 0.0, True, True),
        (0.0, None, True, True),
    ],
)
def test_the_threshold_is_read_in_the_metrics_direction_and_reaching_it_is_enough(value, threshold, rises, passes):
    assert decide("test/m", value, threshold, rises).passes is passes


@pytest.mark.parametrize("threshold", [None, 0.0, 0.9])
@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_was_not_measured_never_passes_not_even_without_a_threshold(value, threshold):
    for rises in (True, False):
        assert not decide("test/m", value, threshold, rises).passes


def test_the_reason_gives_metric_figure_and_threshold_in_one_line():
    reason = decide("test/accuracy", 0.87654, 0.9, True).reason
    assert "test/accuracy is 0.8765" in reason
    assert "at least 0.9" in reason
    assert "0.0235 short" in reason
    assert "at most 0.5" in decide("test/loss", 0.6, 0.5, False).reason
    assert "short" not in decide("test/loss", 0.4, 0.5, False).reason
    assert "not measured" in decide("test/loss", None, 0.5, False).reason
