"""Simulated glucose: usual statistics, the published model's laws, the same readings everywhere."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kd.data.builtin import glucose_sim as sim

CSV = Path(__file__).parents[4] / "shared" / "data" / "glucose" / "csv"
SEEDS = range(5)
HOURS_2 = 24
"""Steps."""
people = cache(sim.people)
live = cache(sim.live)


def statistics(series: list[np.ndarray]) -> dict[str, float]:
    """Of several people together, pairs within one of them alone; percent, or mg/dL."""
    values = np.concatenate(series)
    values = values[~np.isnan(values)]

    def pairs(steps: int) -> tuple[np.ndarray, np.ndarray]:
        before, after = (np.concatenate(part) for part in zip(*((x[:-steps], x[steps:]) for x in series), strict=True))
        both = ~np.isnan(before + after)
        return before[both], after[both]

    def persistence(steps: int) -> float:
        before, after = pairs(steps)
        return float(np.sqrt(np.mean((after - before) ** 2)))

    return {
        "in_range": 100 * float(np.mean((values >= 70) & (values <= 180))),
        "mean": float(values.mean()),
        "sd": float(values.std()),
        "cv": 100 * float(values.std() / values.mean()),
        "lag_1": float(np.corrcoef(*pairs(1))[0, 1]),
        "persistence_30": persistence(6),
        "persistence_60": persistence(12),
        "gaps": 100 * (1 - len(values) / sum(map(len, series))),
    }


def within_bands(together: dict[str, float]) -> None:
    """What the simulated people and those of another simulator have in common."""
    assert 15 < together["cv"] < 45
    assert 12 < together["persistence_30"] < 30
    assert together["persistence_30"] < together["persistence_60"] < 55
    assert 1 < together["gaps"] < 6


@pytest.mark.parametrize("seed", SEEDS)
def test_readings_vary_as_those_of_people_do_so_that_forecasting_them_is_neither_trivial_nor_hopeless(seed):
    series = [one.glucose for one in people(seed=seed)]
    together = statistics(series)

    within_bands(together)
    assert 50 < together["in_range"] < 80
    assert all(statistics([one])["lag_1"] > 0.95 for one in series)
    assert all(30 < statistics([one])["in_range"] < 95 for one in series)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_reading_is_what_a_sensor_can_show_and_only_readings_have_gaps(seed):
    for one in people(seed=seed):
        shown = one.glucose[~np.isnan(one.glucose)]
        assert shown.min() >= 40
        assert shown.max() <= 400
        assert (shown == np.rint(shown)).all()
        assert 0.005 < np.isnan(one.glucose).mean() < 0.06
        for exact in (one.true_glucose, one.carbs, one.insulin, one.basal):
            assert exact.shape == one.times.shape == (15 * 288,)
            assert np.isfinite(exact).all()
            assert exact.min() >= 0


@pytest.mark.parametrize("seed", SEEDS)
def test_a_meal_raises_and_a_bolus_lowers_the_same_persons_glucose_within_two_hours(seed):
    lives = live(6, 2, seed)
    for name, given, sign in (("carbs", lives.inputs.carbs, 1), ("insulin", lives.bolus, -1)):
        largest = given[: sim.DAY].argmax(axis=0)
        cell = (largest, np.arange(6))
        column = getattr(lives.inputs, name).copy()
        column[cell] -= given[cell]
        without = sim.replay(lives.bodies, lives.inputs._replace(**{name: column}))
        for one, start in enumerate(largest):
            change = sign * (lives.plasma - without)[:, one]
            assert given[start, one] > 0
            assert (change[: start + 1] == 0).all(), "an effect before its cause"
            assert (change[start + 1 : start + 1 + HOURS_2] > 0).all()
            assert change[start + 1 : start + 1 + HOURS_2].max() > 5


@pytest.mark.parametrize("seed", SEEDS)
def test_a_person_is_the_replay_of_what_was_done_and_half_the_integration_step_says_the_same(seed):
    lives = live(6, 2, seed)
    assert (sim.replay(lives.bodies, lives.inputs) == lives.plasma).all()
    assert np.abs(sim.replay(lives.bodies, lives.inputs, parts=4) - lives.plasma).max() < 0.5


@pytest.fixture
def fasting() -> tuple[sim.Bodies, sim.Inputs]:
    bodies = live(6, 2, 0).bodies
    none = np.zeros((3 * sim.DAY, 6))
    return bodies, sim.Inputs(none, none + bodies.basal, none + 1, none + 40)


def test_basal_insulin_alone_keeps_glucose_at_its_basal_level(fasting):
    bodies, inputs = fasting
    np.testing.assert_allclose(sim.replay(bodies, inputs), inputs.carbs + bodies.target, rtol=1e-9)
    more = sim.replay(bodies, inputs._replace(insulin=1.1 * inputs.insulin))
    assert (more[-1] < bodies.target - 1).all()


def test_all_that_is_eaten_reaches_the_blood_and_no_more_whatever_is_eaten_next(fasting):
    bodies, inputs = fasting
    closed = replace(bodies, production=0 * bodies.production, effectiveness=0 * bodies.production)
    carbs, minutes = inputs.carbs.copy(), inputs.meal_minutes.copy()
    carbs[10], carbs[20], minutes[20:] = 50, 10, 25
    end = sim.replay(closed, inputs._replace(carbs=carbs, insulin=0 * carbs, meal_minutes=minutes))[-1]
    np.testing.assert_allclose(end, bodies.target + 60 * 1000 / bodies.volume, rtol=1e-9)


def test_all_insulin_that_is_given_passes_through_the_blood(fasting):
    bodies, inputs = fasting
    empty = sim.rest(bodies) * 0
    state, area = empty, 0 * bodies.volume
    for step in range(len(inputs.carbs)):
        units = 0 * bodies.volume + (2.0 if step == 3 else 0.0)
        before = state[sim.PLASMA]
        state = sim.advance(bodies, state, sim.Inputs(0 * units, units, 1 + 0 * units, 40 + 0 * units), parts=1)
        area = area + (before + state[sim.PLASMA]) / 2 * sim.STEP_MINUTES
    np.testing.assert_allclose(area, 2.0 * 1e6 / bodies.clearance, rtol=1e-6)


def test_a_unit_makes_up_for_the_grams_that_the_ratio_says(fasting):
    bodies, inputs = fasting
    carbs, insulin = inputs.carbs.copy(), inputs.insulin.copy()
    carbs[10], insulin[10] = 0.1 * bodies.carb_ratio, insulin[10] + 0.1
    change = sim.replay(bodies, inputs._replace(carbs=carbs, insulin=insulin)) - bodies.target
    assert (np.abs(change.sum(axis=0)) < 0.03 * np.abs(change).sum(axis=0)).all()


def test_people_are_the_same_for_a_seed_and_differ_between_seeds_and_from_one_another():
    again = sim.people()
    for one, other in zip(people(seed=0), again, strict=True):
        assert one.about == other.about
        np.testing.assert_array_equal(one.glucose, other.glucose)
    readings = [one.glucose for seed in (0, 1) for one in people(seed=seed)]
    assert len({tuple(np.nan_to_num(one)) for one in readings}) == len(readings)
    np.testing.assert_array_equal(sim.people(count=2)[1].glucose, again[1].glucose)


def test_no_two_draws_share_their_random_numbers_or_what_is_drawn_would_go_together_by_chance():
    first = [sim._stream(seed, one, why).random() for seed in SEEDS for one in SEEDS for why in sim.PURPOSES]
    assert len(set(first)) == len(first)


def test_sensitivity_to_insulin_changes_with_the_hour_and_from_day_to_day():
    factors = live(6, 15, 0).inputs.sensitivity
    days = factors.reshape(15, sim.DAY, 6)
    assert factors.min() > 0.1
    assert 0.9 < factors.mean() < 1.2
    assert (np.ptp(days.mean(axis=0), axis=0) > 0.2).all()
    assert (np.ptp(days.mean(axis=1), axis=0) > 0.2).all()
    assert np.abs(np.diff(factors, axis=0)).max() < 0.05


def test_the_readings_are_those_of_every_other_machine():
    assert [int(np.nansum(one.glucose)) for one in people(seed=0)] == [651516, 625729, 633166, 608136, 681446, 608233]


def test_times_are_five_minutes_apart_and_whoever_reads_a_person_reads_that_it_is_simulated():
    made = people(seed=0)
    assert [one.id for one in made] == [f"sim-0{number}" for number in range(1, 7)]
    for one in made:
        assert (np.diff(one.times) == np.timedelta64(5, "m")).all()
        assert one.times[0] == one.times[0].astype("datetime64[D]")
        assert one.times.dtype == "datetime64[s]"
        assert 18 <= int(one.about["age"]) <= 70
        assert one.about["sex"] in ("F", "M")
        assert "simulated" in one.about["therapy"]
    assert {one.about["sex"] for one in made} == {"F", "M"}


def test_a_sensor_lags_behind_the_blood_and_shows_nothing_for_two_hours_when_it_is_new():
    for one in people(seed=0):
        known = ~np.isnan(one.glucose)
        known[:6] = False
        at = np.flatnonzero(known)
        same = [np.corrcoef(one.glucose[at], one.true_glucose[at - lag])[0, 1] for lag in range(7)]
        assert np.argmax(same) in (1, 2, 3)
        assert same[np.argmax(same)] > 0.95
        assert (np.convolve(~known[6:], np.ones(sim.WARM_UP), "valid") == sim.WARM_UP).any()


def test_sugar_is_eaten_when_the_sensor_is_low_or_lows_would_last_as_those_of_nobody_do():
    lives = live(6, 15, 1)
    lows = np.argwhere(lives.shown < sim.SUGAR_BELOW)
    assert len(lows) > 3
    for step, one in lows:
        assert (lives.inputs.carbs[max(step - sim.SUGAR_PAUSE + 1, 0) : step + 1, one] >= sim.SUGAR).any()


@pytest.mark.parametrize(("model", "sd", "lag_1"), [(sim.SENSOR_NOISE, 5.06, 0.917), (sim.COMMON_NOISE, 6.15, 0.898)])
def test_the_sensors_noise_has_the_spread_and_the_memory_of_the_published_coefficients(model, sd, lag_1):
    noise = sim._noise(np.random.Generator(np.random.PCG64(1)), 50_000, model)
    assert noise.std() == pytest.approx(sd, rel=0.03)
    assert np.corrcoef(noise[:-1], noise[1:])[0, 1] == pytest.approx(lag_1, abs=0.01)


def test_some_boluses_are_missed_and_the_others_taken_for_carbohydrate_wrongly_counted():
    lives = live(6, 15, 0)
    meals = np.argwhere(lives.inputs.carbs > 25)
    ratios = []
    for step, one in meals:
        near = lives.bolus[max(step - 3, 0) : step + 3, one]
        ratios.append(near.sum() * lives.bodies.carb_ratio[one] / lives.inputs.carbs[step, one])
    taken = np.array([ratio for ratio in ratios if ratio > 0])
    assert 0.7 < len(taken) / len(ratios) < 0.95
    assert 0.7 < np.median(taken) < 1.2
    assert taken.std() > 0.2


@pytest.mark.realdata
def test_people_of_another_simulator_vary_within_the_same_bands_though_more_of_their_time_is_in_range():
    if not CSV.is_dir():
        pytest.skip(f"no {CSV}: four people simulated by the UVA/Padova simulator are needed")
    series = []
    for file in sorted(CSV.glob("*.csv")):
        rows = pd.read_csv(file)
        times = pd.to_datetime(rows["timestamp"], format="%d-%m-%Y %H:%M:%S")
        series.append(rows["target"].set_axis(times).asfreq("5min").to_numpy(float))
    assert len(series) == 8
    together = statistics(series)
    within_bands(together)
    assert together["in_range"] > 80
    assert all(statistics([one])["lag_1"] > 0.95 for one in series)
