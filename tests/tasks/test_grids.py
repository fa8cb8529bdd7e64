"""Error grids give each pair the zone of the published borders, on the borders too, and every pair exactly one zone."""

import itertools

import numpy as np
import pytest

from kd.tasks.forecasting.grids import PARKES, ZONES, clarke, parkes, shares

PLANE = np.meshgrid(np.arange(0, 601, 1.0), np.arange(0, 601, 1.0), indexing="ij")
"""References and forecasts from 0 to 600 mg/dL."""
TINY = 1e-6


def zone(grid, reference, forecast):
    return grid(np.array([reference]), np.array([forecast]))[0]


def slices_of_plane(grid):
    """Severities 0 to 4, a row a reference, forecasts along it."""
    found = grid(*(side.ravel() for side in PLANE)).reshape(PLANE[0].shape)
    return np.searchsorted(np.array(ZONES), found)


# Clarke


@pytest.mark.parametrize(
    ("reference", "forecast", "expected"),
    [
        (100, 100, "A"),
        (100, 120, "A"),  # 20 % is within, above and below
        (100, 80, "A"),
        (295, 354, "A"),
        (295, 236, "A"),
        (70, 84, "A"),
        (70, 56, "A"),
        (100, 120.001, "B"),
        (100, 79.999, "B"),
        (40, 69, "A"),  # both below 70
        (69.999, 1, "A"),
        (50, 70, "D"),
        (70, 55, "B"),
        (69, 83, "D"),
        (60, 72, "A"),
        (60, 150, "D"),
        (60, 180, "E"),
        (70, 180, "E"),
        (70, 179.999, "D"),
        (70.001, 180.001, "B"),
        (70.001, 180.002, "C"),
        (180, 70, "E"),
        (180, 70.001, "B"),
        (179.999, 70, "B"),
        (400, 70, "E"),
        (239.999, 150, "B"),
        (240, 150, "D"),
        (240, 180, "D"),
        (240, 180.001, "B"),
        (300, 71, "D"),
        (100, 210, "B"),  # on the line of the upper C
        (100, 210.001, "C"),
        (290, 400.001, "C"),
        (290.001, 400.002, "B"),
        (130, 0, "C"),
        (129.999, 0, "B"),
        (155, 35, "C"),  # on the line of the lower C
        (155, 35.001, "B"),
        (179.999, 69, "C"),
    ],
)
def test_clarke_zones_change_exactly_at_the_published_borders(reference, forecast, expected):
    assert zone(clarke, reference, forecast) == expected


def test_twenty_percent_is_within_for_every_whole_number_although_a_fifth_is_no_binary_fraction():
    reference = np.arange(5, 500, 5.0)
    for forecast in (1.2, 0.8):
        assert set(clarke(reference, np.round(forecast * reference))) == {"A"}


# Parkes, type 1

BETTER = dict(zip("BCDE", "ABCD", strict=True))


@pytest.mark.parametrize("name", PARKES)
def test_parkes_zones_change_along_each_border_and_nowhere_else(name):
    side, worse = name
    vertices = PARKES[name]
    for (x1, y1), (x2, y2) in itertools.pairwise(vertices):
        if x1 == x2:
            continue
        for share in (0.01, 0.3, 0.5, 0.99):
            x, y = x1 + share * (x2 - x1), y1 + share * (y2 - y1)
            beyond = TINY if side == "upper" else -TINY
            assert zone(parkes, x, y + beyond) == worse
            assert zone(parkes, x, y - beyond) == BETTER[worse]


@pytest.mark.parametrize(("reference", "height", "worse"), [(50, 30, "B"), (120, 30, "C"), (250, 40, "D")])
def test_the_upright_parts_of_the_lower_borders_belong_to_the_worse_zone(reference, height, worse):
    assert zone(parkes, reference, height - 1) == worse
    assert zone(parkes, reference - TINY, height - 1) == BETTER[worse]


@pytest.mark.parametrize(
    ("reference", "forecast", "expected"),
    [
        (295, 400, "B"),  # the border of A is at 397
        (295, 396.9, "A"),
        (383.7, 89.1, "C"),  # the border of C is at 89.02
        (383.7, 88.9, "D"),
        (383.7, 95, "C"),
        (410, 98.7, "C"),
        (410, 98.6, "D"),
        (100, 100, "A"),
        (0, 50, "A"),
        (0, 50.001, "B"),
        (30, 60.001, "C"),
        (25, 100.001, "D"),
        (35, 155.001, "E"),
        (140, 170, "A"),
        (170, 145, "A"),
        (60, 250, "D"),
        (40, 286.6, "D"),  # the border of E is at 155 + 5 * 395 / 15 = 286.67
        (40, 286.7, "E"),
        (260, 129, "C"),
        (260, 131, "B"),
        (600, 160, "D"),  # past the last vertex the last line goes on: C begins at 168.3
        (600, 170, "C"),
        (580, 720, "A"),  # the border of A is at 550 + 150 * 170 / 150 = 720
        (580, 721, "B"),
    ],
)
def test_parkes_zones_of_points_computed_by_hand(reference, forecast, expected):
    assert zone(parkes, reference, forecast) == expected


# Both


@pytest.mark.parametrize("grid", [clarke, parkes])
def test_zones_get_no_better_the_further_a_forecast_is_from_its_reference(grid):
    severity = slices_of_plane(grid)
    for reference, row in enumerate(severity):
        place = min(reference, len(row) - 1)
        assert (np.diff(row[place:]) >= 0).all(), reference
        assert (np.diff(row[: place + 1]) <= 0).all(), reference
        assert row[place] == 0


@pytest.mark.parametrize("grid", [clarke, parkes])
def test_every_pair_of_the_plane_has_one_zone_and_all_zones_occur(grid):
    found = grid(*(side.ravel() for side in PLANE))
    assert set(found) == set(ZONES)
    total = shares(found)
    assert list(total) == list(ZONES)
    assert sum(total.values()) == pytest.approx(1)


def test_the_lower_side_of_the_type_1_grid_has_no_zone_e():
    severity = slices_of_plane(parkes)
    assert max(row[:place].max(initial=0) for place, row in enumerate(severity)) == ZONES.index("D")


@pytest.mark.parametrize("grid", [clarke, parkes])
def test_a_pair_without_a_number_is_refused_instead_of_given_the_zone_that_is_left(grid):
    with pytest.raises(ValueError, match="not finite"):
        grid(np.array([100.0, np.nan]), np.array([100.0, 100.0]))
