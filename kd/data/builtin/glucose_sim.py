"""Simulated glucose, meals and insulin of people with type 1 diabetes; no value was measured on anybody.

The body is the virtual patient of Kanderian et al., "Identification of intraday metabolic profiles during closed-loop
glucose control in individuals with type 1 diabetes", J Diabetes Sci Technol 3(5), 2009, 1047-1057: the minimal model of
Bergman et al. (J Clin Invest 68, 1981) with insulin absorbed under the skin (equations 1 to 4), two compartments for
what is eaten, and the lag of the fluid that a sensor measures in (equation 10):

    dIsc/dt = (u / CI - Isc) / tau1            insulin under the skin, uU/mL, of u uU/min
    dIp/dt  = (Isc - Ip) / tau2                insulin in plasma, uU/mL
    dX/dt   = p2 (SI Ip - X)                   effect of insulin, 1/min
    dG/dt   = -(GEZI + X) G + EGP + RA         glucose in plasma, mg/dL
    dQ1/dt  = c - Q1 / tau_m,  dQ2/dt = (Q1 - Q2) / tau_m,  RA = 1000 Q2 / (VG tau_m)    meal, g, of c g/min
    dS/dt   = (G - S) / tau_s                  glucose that the sensor meets, mg/dL

A person is one of the subjects identified there, each parameter changed by up to 10 %. The sensor errs as Vettoretti et
al. found for one kind ("Modeling the error of factory-calibrated continuous glucose monitoring sensors: application to
Dexcom G6 sensor data", EMBC 2019, tables 1 and 2): a gain and an offset that drift with its age, and two autoregressive
noises of order 2, the form of Facchinetti et al., "Modeling the glucose sensor error", IEEE Trans Biomed Eng 61(3),
2014, equations 4 to 7. What people do (meals, counting errors, missed and late boluses, sugar when low) and how their
sensitivity to insulin wanders is this project's own choice, made so that time in range and variation are those usual in
type 1 diabetes; the daily pattern differs between people, as Hinshaw et al. found (Diabetes 62, 2013). Age and sex are
drawn apart from the body: no difference between such groups is built in.

Only +, -, *, / and comparisons of float64 are used, so that the readings do not depend on the machine.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.random import PCG64, Generator
from numpy.typing import NDArray

Array = NDArray[np.float64]

STEP_MINUTES = 5
DAY = 24 * 60 // STEP_MINUTES
"""Steps in a day."""
TRAIN_DAYS, TEST_DAYS = 12, 3
START = np.datetime64("2027-01-04T00:00:00", "s")
LOWEST, HIGHEST = 40.0, 400.0
"""What the sensor can show, mg/dL."""

SUBJECTS = np.array(
    [  # CI mL/min, tau1 min, tau2 min, VG dL, p2 1/min, EGP mg/dL/min, GEZI 1/min, SI mL/uU/min
        (2010, 49, 47, 253, 0.0106, 1.33, 0.0022, 8.11e-4),
        (909, 71, 70, 199, 0.0233, 1.07, 0.0035, 4.63e-4),
        (1813, 91, 70, 337, 0.00814, 0.98, 1.64e-5, 3.77e-4),
        (588, 68, 30, 104, 0.00915, 0.603, 0.00101, 4.12e-4),
        (1806, 60, 60, 263, 0.0101, 1.11, 0.0023, 8.16e-4),
        (540, 95, 37, 137, 0.0103, 1.3, 1e-8, 3.68e-4),
        (875, 131, 21, 193, 0.0103, 1.27, 0.00639, 2.56e-4),
        (1309, 53, 53, 204, 0.0102, 0.611, 0.00104, 6.03e-4),
    ]
)
"""Subjects 1, 3, 4 and 6 to 10 of Kanderian et al.; 2 and 5 are left out: without insulin they would stay under 140."""
SENSOR_LAG = 10.0
"""tau_s, minutes."""

MEALS = (
    (7.5, 55.0, 0.9, 0.15),  # usual hour, usual grams for 200 dL, chance to be eaten, chance that its bolus is missed
    (12.5, 75.0, 0.95, 0.15),
    (15.5, 25.0, 0.5, 0.5),
    (18.5, 80.0, 1.0, 0.15),
    (21.5, 25.0, 0.5, 0.5),
)
SENSOR_NOISE, COMMON_NOISE = (1.22, -0.331, 1.908), (1.34, -0.492, 2.353)
"""Weight of the last value and of that before it, and standard deviation of what is new in each, mg/dL."""
SENSOR_LIFE = 10 * DAY
WARM_UP = 2 * 60 // STEP_MINUTES
"""Steps without readings after a sensor is changed."""
SIGNAL_LOSSES = 0.8
"""Usual number a day, each of five minutes to two hours."""
SUGAR, SUGAR_BELOW, SUGAR_PAUSE = 15.0, 60.0, 6
"""Grams eaten when the sensor shows less than so many mg/dL, not again for so many steps."""
CORRECT_ABOVE, CORRECT_PAUSE = 250.0, 36
"""A bolus is taken without a meal above so many mg/dL, where none was for so many steps."""

PURPOSES = ("body", "about", "meals", "basal", "sensor")
"""What random numbers are drawn for."""
UNDER_SKIN, PLASMA, EFFECT, GUT1, GUT2, GLUCOSE, SEEN = range(7)
"""Rows of a state: Isc, Ip, X, Q1, Q2, G and S."""


@dataclass(frozen=True)
class Person:
    """One simulated person; every array has one value a step of five minutes, `(steps,)`.

    Attributes:
        id: Such as "sim-01".
        about: age (years), sex (F or M) and therapy, which says that it is simulated.
        times: Start of each step, to the second.
        glucose: What the sensor shows, whole mg/dL from 40 to 400; NaN where it shows nothing.
        carbs: Eaten, g; a bolus is taken for what the person believes it to be.
        insulin: Bolus, U.
        basal: Basal insulin, U.
        true_glucose: In plasma, mg/dL, without lag and error of the sensor.
    """

    id: str
    about: Mapping[str, str]
    times: NDArray[Any]
    glucose: Array
    carbs: Array
    insulin: Array
    basal: Array
    true_glucose: Array


@dataclass(frozen=True)
class Bodies:
    """Parameters of the model, `(people,)` each, in order and units of `SUBJECTS`; `target` is basal glucose, mg/dL."""

    clearance: Array
    tau1: Array
    tau2: Array
    volume: Array
    p2: Array
    production: Array
    effectiveness: Array
    sensitivity: Array
    target: Array

    @property
    def basal(self) -> Array:
        """Insulin that keeps glucose at the target, U a step."""
        effect = self.production / self.target - self.effectiveness
        return effect / self.sensitivity * self.clearance * 1e-6 * STEP_MINUTES

    @property
    def carb_ratio(self) -> Array:
        """Grams that one unit makes up for: both then have the same area about the target."""
        return self.correction * self.volume * 1e-3

    @property
    def correction(self) -> Array:
        """How far one unit lowers glucose from the target, mg/dL, were there nothing but insulin."""
        return self.target * self.sensitivity * 1e6 / self.clearance


class Inputs(NamedTuple):
    """What drives the bodies, `(steps, people)` or one step of it `(people,)`."""

    carbs: Array
    """Eaten in the step, g."""
    insulin: Array
    """Basal and bolus in the step, U."""
    sensitivity: Array
    """Factor of SI."""
    meal_minutes: Array
    """tau_m, of what was eaten last."""


@dataclass(frozen=True)
class Lives:
    """What was done to the bodies and what became of them, `(steps, people)`; a value is that at the step's start."""

    bodies: Bodies
    inputs: Inputs
    basal: Array
    bolus: Array
    plasma: Array
    shown: Array


def people(count: int = 6, days: int = TRAIN_DAYS + TEST_DAYS, seed: int = 0) -> list[Person]:
    """Simulate `count` people for `days` days from a midnight; the same seed gives the same people."""
    lives = live(count, days, seed)
    times = START + np.arange(days * DAY) * np.timedelta64(60 * STEP_MINUTES, "s")
    made = []
    for one in range(count):
        draw = _stream(seed, one, "about")
        about = {
            "age": str(18 + int(draw.random() * 53)),
            "sex": "F" if draw.random() < 0.5 else "M",
            "therapy": "insulin pump (simulated)",
        }
        columns = (lives.shown, lives.inputs.carbs, lives.bolus, lives.basal, lives.plasma)
        arrays = (np.ascontiguousarray(column[:, one]) for column in columns)
        made.append(Person(f"sim-{one + 1:02d}", about, times, *arrays))
    return made


def live(count: int, days: int, seed: int) -> Lives:
    """Let people eat, take insulin by what their sensors show, and treat lows, for `days` days.

    A bolus is what the pump advises: announced carbohydrate by the ratio, and the way to the target. The basal rate is
    set up to 20 % below or 30 % above what would keep the target. What a sensor loses, people measure otherwise.
    """
    bodies = _bodies(count, seed)
    plans = [_plan(_stream(seed, one, "meals"), days, bodies.volume[one]) for one in range(count)]
    carbs, announced, sensitivity, minutes = (np.stack(rows, axis=1) for rows in zip(*plans, strict=True))
    sensors = [_sensor(_stream(seed, one, "sensor"), days) for one in range(count)]
    gain, offset, lost = (np.stack(rows, axis=1) for rows in zip(*sensors, strict=True))
    setting = np.array([0.8 + 0.5 * _stream(seed, one, "basal").random() for one in range(count)])
    basal = np.broadcast_to(np.rint(bodies.basal * setting * 1e3) / 1e3, carbs.shape)
    bolus, plasma, shown = np.zeros_like(carbs), np.empty_like(carbs), np.empty_like(carbs)
    since_sugar = since_bolus = np.full(count, DAY)
    state = rest(bodies)
    for step in range(days * DAY):
        plasma[step] = state[GLUCOSE]
        shown[step] = np.rint(np.minimum(np.maximum(gain[step] * state[SEEN] + offset[step], LOWEST), HIGHEST))
        low = (shown[step] < SUGAR_BELOW) & (since_sugar >= SUGAR_PAUSE)
        carbs[step] += np.where(low, SUGAR, 0.0)
        since_sugar = np.where(low, 0, since_sugar) + 1
        high = (shown[step] > CORRECT_ABOVE) & (since_bolus >= CORRECT_PAUSE)
        advised = announced[step] / bodies.carb_ratio + (shown[step] - bodies.target) / bodies.correction
        bolus[step] = np.where((announced[step] > 0) | high, np.maximum(np.rint(advised * 10), 0.0) / 10, 0.0)
        since_bolus = np.where(bolus[step] > 0, 0, since_bolus) + 1
        now = Inputs(carbs[step], basal[step] + bolus[step], sensitivity[step], minutes[step])
        state = advance(bodies, state, now)
    inputs = Inputs(carbs, basal + bolus, sensitivity, minutes)
    return Lives(bodies, inputs, basal, bolus, plasma, np.where(lost, np.nan, shown))


def rest(bodies: Bodies) -> Array:
    """Return the state `(7, people)` at the target with nothing but basal insulin."""
    insulin = bodies.basal / STEP_MINUTES * 1e6 / bodies.clearance
    none = np.zeros_like(insulin)
    return np.stack([insulin, insulin, insulin * bodies.sensitivity, none, none, bodies.target, bodies.target])


def replay(bodies: Bodies, inputs: Inputs, parts: int = 2) -> Array:
    """Return glucose in plasma, `(steps, people)` in mg/dL, of bodies that start at rest and are given `inputs`."""
    state, plasma = rest(bodies), np.empty_like(inputs.carbs)
    for step in range(len(plasma)):
        plasma[step] = state[GLUCOSE]
        state = advance(bodies, state, Inputs(*(column[step] for column in inputs)), parts)
    return plasma


def advance(bodies: Bodies, state: Array, now: Inputs, parts: int = 2) -> Array:
    """Return the state after one step, by the trapezoidal rule in `parts` equal parts."""
    time = STEP_MINUTES / parts
    entering = now.insulin / STEP_MINUTES * 1e6 / bodies.clearance
    eaten = now.carbs / STEP_MINUTES * now.meal_minutes
    factor = bodies.sensitivity * now.sensitivity
    appears = 1e3 / (bodies.volume * now.meal_minutes)
    for _ in range(parts):
        skin = _follow(state[UNDER_SKIN], entering, entering, time / bodies.tau1)
        plasma = _follow(state[PLASMA], state[UNDER_SKIN], skin, time / bodies.tau2)
        effect = _follow(state[EFFECT], factor * state[PLASMA], factor * plasma, time * bodies.p2)
        gut1 = _follow(state[GUT1], eaten, eaten, time / now.meal_minutes)
        gut2 = _follow(state[GUT2], state[GUT1], gut1, time / now.meal_minutes)
        gain = bodies.production + appears * 0.5 * (state[GUT2] + gut2)
        before = 1 - 0.5 * time * (bodies.effectiveness + state[EFFECT])
        after = 1 + 0.5 * time * (bodies.effectiveness + effect)
        glucose = (before * state[GLUCOSE] + time * gain) / after
        seen = _follow(state[SEEN], state[GLUCOSE], glucose, time / SENSOR_LAG)
        state = np.stack([skin, plasma, effect, gut1, gut2, glucose, seen])
    return state


def _follow(value: Array, start: Array, end: Array, part: Array | float) -> Array:
    """Return what a compartment becomes that follows its inflow, which goes from `start` to `end`."""
    half = 0.5 * part
    return ((1 - half) * value + half * (start + end)) / (1 + half)


def _stream(seed: int, one: int, purpose: str) -> Generator:
    """Return the random numbers of one person for one purpose: the same whoever else there is."""
    return Generator(PCG64([seed, one, PURPOSES.index(purpose)]))


def _bodies(count: int, seed: int) -> Bodies:
    """Draw subjects in an order of the seed, each parameter changed by up to 10 %, a target from 125 to 160 mg/dL."""
    order = Generator(PCG64([seed])).permutation(len(SUBJECTS))
    draws = np.stack([_stream(seed, one, "body").random(SUBJECTS.shape[1] + 1) for one in range(count)])
    rows = SUBJECTS[order[np.arange(count) % len(order)]] * (0.9 + 0.2 * draws[:, :-1])
    return Bodies(*[*rows.T, 125 + 35 * draws[:, -1]])


def _plan(draw: Generator, days: int, volume: float) -> tuple[Array, Array, Array, Array]:
    """Draw one person's days: carbohydrate eaten and announced to the pump, g, factor of SI, tau_m; `(steps,)` each.

    A meal is up to 45 minutes early or late, and up to 40 % smaller or larger. Its bolus comes from 15 minutes before
    to 10 after it, for carbohydrate estimated as 90 % of what it is, with a standard deviation of 25 %.
    """
    steps = days * DAY
    usual, appetite = 35 + 30 * draw.random(), (0.8 + 0.3 * draw.random()) * volume / 200
    carbs, announced, minutes = np.zeros(steps), np.zeros(steps), np.full(steps, usual)
    for day in range(days):
        for hour, grams, chance, missed in MEALS:
            eats, forgets, when, size, speed, late = draw.random(6)
            believed = min(max(0.9 + 0.25 * draw.standard_normal(), 0.4), 1.6)
            if eats >= chance:
                continue
            at = day * DAY + int(hour * 12 + 18 * (when - 0.5))
            carbs[at] = np.rint(grams * appetite * (0.6 + 0.8 * size))
            minutes[at:] = usual * (0.7 + 0.6 * speed)
            if forgets >= missed:
                announced[at - 3 + int(late * 6)] = carbs[at] * believed
    return carbs, announced, _sensitivity(draw, days), minutes


def _sensitivity(draw: Generator, days: int) -> Array:
    """Draw the factor of SI: a daily wave of 10 to 30 %, at hours of its own, times a path with a new aim every 6 h."""
    size, phase = 0.1 + 0.2 * draw.random(), draw.random()
    clock = np.arange(days * DAY) / DAY + phase
    clock -= np.floor(clock)
    half = np.where(clock < 0.5, clock, clock - 0.5)
    wave = np.where(clock < 0.5, 16.0, -16.0) * half * (0.5 - half)  # parabolas in place of a sine
    aims = 0.3 + 1.5 * draw.random(days * 4 + 1)
    share = np.arange(DAY // 4) / (DAY // 4)
    path = aims[:-1, None] * (1 - share) + aims[1:, None] * share
    return (1 + size * wave) * path.reshape(-1)


def _sensor(draw: Generator, days: int) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Draw gain, offset (mg/dL) and where there is no reading, `(steps,)` each; the first sensor is already at work."""
    steps = days * DAY
    age = (WARM_UP + int(draw.random() * (SENSOR_LIFE - WARM_UP)) + np.arange(steps)) % SENSOR_LIFE
    time = age / DAY
    gain = 1.048 - 0.033 * time + 0.002 * time * time
    drift = -6.398 + 6.179 * time - 0.448 * time * time
    offset = drift + _noise(draw, steps, SENSOR_NOISE) + _noise(draw, steps, COMMON_NOISE)
    lost = age < WARM_UP
    for _ in range(int(days * SIGNAL_LOSSES * (0.5 + draw.random()))):
        start, length = draw.random(2)
        at = int(start * steps)
        lost[at : at + 1 + int(24 * length * length)] = True
    return gain, offset, lost


def _noise(draw: Generator, steps: int, model: tuple[float, float, float]) -> Array:
    """Return autoregressive noise `(steps,)`, mg/dL, that began a day before."""
    first, second, spread = model
    before = last = 0.0
    values = []
    for drive in (draw.standard_normal(DAY + steps) * spread).tolist():
        before, last = last, first * last + second * before + drive
        values.append(last)
    return np.array(values[DAY:])
