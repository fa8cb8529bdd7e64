"""How often the verdicts of `compare` are wrong, and how often they find what is there, on simulated runs.

    python -m benchmarks.verdicts

Two arms with the same true accuracy of 0.90, or one 2 points better, are scored on 3,000 test examples for 3, 5 and 10
seeds; 1,000 comparisons of each kind go through `kd.analysis.comparison.compare`. A claim is a verdict of better or
worse; where the true accuracies are equal it is false. True means over all examples there could be, not those of one
test set.

An example is answered rightly where

    h + sqrt(b) difficulty + sqrt(w - b) liking + seed + sqrt(1 - w) chance > 0,

all standard normal but `seed`: difficulty by example, liking by arm and example, chance by run and example. `seed`, by
run, moves its accuracy with a standard deviation of 0, 0.5 or 1 point. The models differ in w and b:

- own: both 0, as if each run were scored on 3,000 examples of its own, with binomial noise.
- alike: two seeds of an arm disagree on 1.3 % of the examples, two arms on 1.6 %. On banking77, student against
  distilled student, mean squares by seed and example were what this gives.
- unlike: arms that have less in common: two seeds disagree on 2 %, two arms on 6 %.
- fixed: as unlike, but all seeds give the same answers.

Two tests are compared: the t test over seeds, which takes the test set for given, and the verdict of `compare` where
predictions are known, `kd.analysis.statistics.crossed_difference`, which takes the examples for drawn, too.

A table before it has examples in 3, 6, 12 or 40 groups, of 50 each, and equal arms alone: each arm has groups of its
own that it does well on. Three metrics are judged: accuracy, a mean over examples; macro F1 of four classes, of 40 to
10 % of the examples, and the root mean square of errors, both by `kd.analysis.verdicts`. A latent or an error is the
sum of standard normals by example, arm and group, arm and example, run, and run and example, times the square roots of
their variances in `GROUPED`:

- groups: the arms differ by group above all.
- chance: one run differs from the next by example above all.
- mixed: by group, by run and by example.

The first table of all is of forecasts: windows that overlap, of one to four patients, grouped by patient and day; the
last third to all of a day's windows are missing. The metric is the RMSE of equal arms, by `kd.analysis.verdicts`. A
window's error is what comes after it, which both arms meet alike and which it shares with the 11 windows before and
after, and two slow deviations, of the arm and of the run, each the mean of three hours of noise. Groups are dependent
at midnight, as real days are. `FORECASTS` has the variances.
"""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

from kd.analysis.comparison import compare
from kd.analysis.statistics import LEVEL, crossed_difference, verdict
from kd.analysis.verdicts import from_left_out
from kd.base.types import RunRecord

COMPARISONS, EXAMPLES, ACCURACY, GAIN = 1000, 3000, 0.90, 0.02
SEEDS = (3, 5, 10)
SPREADS = (0.0, 0.005, 0.01)
BY_CHANCE = 2 * ACCURACY * (1 - ACCURACY)
DISAGREE = {
    "own": (BY_CHANCE, BY_CHANCE),
    "alike": (0.013, 0.016),
    "unlike": (0.02, 0.06),
    "fixed": (0.02, 0.06),
}
"""Share of examples on which two seeds of an arm, and two arms, disagree."""
DIRECTIONS = {"classification": {"accuracy": True}}
AT_ONCE = 50
GROUPS, GROUP_SIZE, GROUPED_COMPARISONS = (3, 6, 12, 40), 50, 4000
GROUPED = {
    "groups": (0.2, 0.5, 0.1, 0.0, 0.2),
    "chance": (0.1, 0.0, 0.05, 0.0, 0.85),
    "mixed": (0.2, 0.1, 0.1, 0.02, 0.58),
}
"""Variances by example, arm and group, arm and example, run, run and example; they add up to 1."""
CLASSES = np.array([0.4, 0.3, 0.2, 0.1])
FORECASTS = {"arms": (0.5, 0.4, 0.1), "chance": (0.6, 0.1, 0.3), "alike": (0.9, 0.05, 0.05)}
"""Variances by target, arm and target, run and target; they add up to 1."""
PATIENTS = {3: 1, 6: 2, 12: 2, 40: 4}
"""Patients that so many patient-days are of."""
DAY_OF_WINDOWS, OVERLAP, SLOWLY = 96, 12, 12
"""Windows a day, one each 15 minutes; how many windows share a target; and over how many a deviation is smoothed."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Runs:
    """Simulated comparisons.

    Attributes:
        accuracy: `(comparisons, arms, seeds)`.
        differences: second arm minus first, `(comparisons, seeds, examples)`.
    """

    accuracy: Array
    differences: npt.NDArray[np.int8]

    def first(self, n: int) -> "Runs":
        """Keep the first n seeds."""
        return Runs(self.accuracy[..., :n], self.differences[:, :n])


def simulate(model: str, spread: float, draw: np.random.Generator) -> tuple[Runs, Runs]:
    """Draw comparisons of equal arms, and the same comparisons with the second arm 2 points better."""
    w, b = (_correlation(disagree) for disagree in DISAGREE[model])
    heights = special.ndtri([ACCURACY, ACCURACY + GAIN])
    slope = np.exp(-(heights[0] ** 2) / 2) / np.sqrt(2 * np.pi)  # of accuracy, by height
    most = max(SEEDS)
    shape = (COMPARISONS, most, EXAMPLES)
    made = [Runs(np.empty((COMPARISONS, 2, most)), np.empty(shape, dtype=np.int8)) for _ in range(2)]
    for start in range(0, COMPARISONS, AT_ONCE):
        part = slice(start, start + AT_ONCE)
        latent = _normal(draw, (AT_ONCE, 2, 1 if model == "fixed" else most, EXAMPLES), 1 - w)
        latent = latent + _normal(draw, (AT_ONCE, 1, 1, EXAMPLES), b) + _normal(draw, (AT_ONCE, 2, 1, EXAMPLES), w - b)
        latent = latent + _normal(draw, (AT_ONCE, 2, most, 1), (spread / slope) ** 2)
        for runs, height in zip(made, heights, strict=True):
            control, arm = latent[:, 0] > -heights[0], latent[:, 1] > -height
            runs.accuracy[part] = np.stack([control.mean(axis=-1), arm.mean(axis=-1)], axis=1)
            runs.differences[part] = arm.view(np.int8) - control.view(np.int8)
    return made[0], made[1]


def _normal(draw: np.random.Generator, shape: tuple[int, ...], variance: float) -> npt.NDArray[np.float32]:
    return np.float32(np.sqrt(variance)) * draw.standard_normal(shape, dtype=np.float32)


def _correlation(disagree: float) -> float:
    """Return the correlation at which two standard normals fall on different sides of the height that often."""
    if disagree == BY_CHANCE:
        return 0.0
    height = float(special.ndtri(ACCURACY))

    def gap(correlation: float) -> float:
        both = stats.multivariate_normal.cdf([height, height], cov=[[1, correlation], [correlation, 1]])
        return float(2 * (ACCURACY - both) - disagree)

    return float(optimize.brentq(gap, 0.0, 0.99999))


def claims(runs: Runs) -> npt.NDArray[np.int64]:
    """Return what `compare` says of each comparison: 1 better, -1 worse, 0 neither."""
    words = {"better": 1, "worse": -1}
    records = list(_records(runs.accuracy))
    tables, _ = compare(records, DIRECTIONS)
    said = {table.digest: arm.verdict for table in tables for arm in table.arms if arm.role == "distilled"}
    return np.array([words.get(said[f"{one:05d}"] or "", 0) for one in range(COMPARISONS)])


def _records(accuracy: Array) -> Iterator[RunRecord]:
    for one, arms in enumerate(accuracy):
        for arm, role in enumerate(("student", "distilled")):
            for seed, value in enumerate(arms[arm]):
                tags = {
                    "kd.task": "classification",
                    "kd.test_digest": f"{one:05d}",
                    "kd.test_scored": "true",
                    "kd.role": role,
                    "kd.arm": f"{role}{one}",
                    "kd.control_arm": f"student{one}" if arm else "",
                    "kd.seed": str(seed),
                }
                metrics = {"test/accuracy": float(value)}
                yield RunRecord(f"{one}-{role}-{seed}", f"{role} · seed {seed}", {}, metrics, tags)


def claims_with_examples(runs: Runs) -> npt.NDArray[np.int64]:
    """Return the verdict over seeds and examples of each comparison: 1 better, -1 worse, 0 neither."""
    examples = np.arange(EXAMPLES)
    found = (crossed_difference(one.astype(float), examples) for one in runs.differences)
    words = {"better": 1, "worse": -1}
    return np.array([words.get(verdict(one, one.p, higher_is_better=True), 0) for one in found])


def grouped(kind: str, groups: int, draw: np.random.Generator) -> dict[str, Array]:
    """Draw comparisons of equal arms; returns differences `(comparisons, seeds, groups)` for each metric."""
    most, parts = max(SEEDS), 200
    found: dict[str, list[Array]] = {"accuracy": [], "macro F1": [], "RMSE": []}
    shape = (parts, 2, most, groups, GROUP_SIZE)
    axes = ((0, 3, 4), (0, 1, 3), (0, 1, 3, 4), (0, 1, 2), (0, 1, 2, 3, 4))
    for _ in range(0, GROUPED_COMPARISONS, parts):
        latent = np.float32(0)
        for variance, kept in zip(GROUPED[kind], axes, strict=True):
            size = tuple(length if axis in kept else 1 for axis, length in enumerate(shape))
            latent = latent + _normal(draw, size, variance)
        right = latent > -special.ndtri(0.8)
        classes = draw.choice(len(CLASSES), size=(parts, 1, 1, groups, GROUP_SIZE), p=CLASSES)
        other = (classes + draw.integers(1, len(CLASSES), size=shape)) % len(CLASSES)
        for name, values in (
            ("accuracy", right.mean(axis=-1)),
            ("macro F1", _pseudo(_counts(right, classes, other), macro_f1)),
            ("RMSE", _pseudo(np.square(latent.astype(float)).sum(axis=-1)[..., None], root_mean)),
        ):
            found[name].append(values[:, 1] - values[:, 0])
    return {name: np.concatenate(values) for name, values in found.items()}


def forecasts(kind: str, groups: int, draw: np.random.Generator, comparisons: int = GROUPED_COMPARISONS) -> Array:
    """Draw comparisons of equal forecasters; returns differences in RMSE `(comparisons, seeds, patient-days)`."""
    most, parts, patients, found = max(SEEDS), 50, PATIENTS[groups], []
    length = groups // patients * DAY_OF_WINDOWS
    for _ in range(0, comparisons, parts):
        error = np.float32(0)
        sizes = ((parts, 1, 1), (parts, 2, 1), (parts, 2, most))
        for variance, size, width in zip(FORECASTS[kind], sizes, (OVERLAP, SLOWLY, SLOWLY), strict=True):
            error = error + _smooth(draw, (*size, patients), length, width, variance)
        squares = np.square(error).reshape(parts, 2, most, groups, DAY_OF_WINDOWS)
        counts = draw.integers(DAY_OF_WINDOWS // 3, DAY_OF_WINDOWS + 1, groups)
        sums = (squares * (np.arange(DAY_OF_WINDOWS) < counts[:, None])).sum(axis=-1, dtype=float)
        values = pseudo_rmse(sums, counts)
        found.append(values[:, 1] - values[:, 0])
    return np.concatenate(found)


def pseudo_rmse(sums: Array, counts: npt.NDArray[np.int64]) -> Array:
    """Return pseudo-values of RMSE from sums of squares `(..., groups)` and the number of windows `(groups,)`."""
    whole = np.sqrt(sums.sum(axis=-1) / counts.sum())
    without = np.sqrt((sums.sum(axis=-1, keepdims=True) - sums) / (counts.sum() - counts))
    return from_left_out(whole, without)


def _smooth(
    draw: np.random.Generator, shape: tuple[int, ...], length: int, width: int, variance: float
) -> npt.NDArray[np.float32]:
    """Draw series `(*shape, length)` of that variance, each value the mean of `width` shocks."""
    so_far = np.cumsum(_normal(draw, (*shape, length + width), variance / width), axis=-1, dtype=float)
    return (so_far[..., width:] - so_far[..., :-width]).astype(np.float32)


def _counts(right: npt.NDArray[np.bool_], classes: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> Array:
    """Return true positives, rows of each class, and rows given it, by group: `(..., groups, 3 x classes)`."""
    said = np.where(right, classes, other)
    each = [[(right & (classes == one)).sum(axis=-1), np.broadcast_to((classes == one).sum(axis=-1), right.shape[:-1]),
             (said == one).sum(axis=-1)] for one in range(len(CLASSES))]  # fmt: skip
    return np.stack([count for kind in zip(*each, strict=True) for count in kind], axis=-1).astype(float)


def macro_f1(sums: Array, rows: Array) -> Array:
    """Return macro F1 over the classes that occur, from `_counts` summed over groups."""
    hits, of, given = np.split(sums, 3, axis=-1)
    scores = np.where(of > 0, 2 * hits / np.maximum(of + given, 1), np.nan)
    return np.asarray(np.nanmean(scores, axis=-1))


def root_mean(sums: Array, rows: Array) -> Array:
    """Return the root of the mean of squares, from their sums `(..., 1)` and the number of rows."""
    return np.asarray(np.sqrt(sums[..., 0] / rows))


def _pseudo(sums: Array, metric: Callable[[Array, Array], Array]) -> Array:
    """Return pseudo-values `(..., groups)` of a metric of sums by group `(..., groups, sums)`."""
    whole, groups = sums.sum(axis=-2), sums.shape[-2]
    rows = np.array(float(groups * GROUP_SIZE))
    return from_left_out(metric(whole, rows), metric(whole[..., None, :] - sums, rows - GROUP_SIZE))


def false_claims(differences: Array, n: int) -> tuple[float, float]:
    """Return how often n seeds claim a difference where there is none: the test over seeds alone, and the verdict."""
    places = np.arange(differences.shape[-1])
    by_seed = differences[:, :n].mean(axis=-1)
    error = np.maximum(by_seed.std(axis=1, ddof=1) / np.sqrt(n), np.finfo(float).tiny)  # seeds may come out alike
    alone = 2 * special.stdtr(n - 1, -np.abs(by_seed.mean(axis=1)) / error) < LEVEL
    both = [(crossed_difference(one, places).p or 0.0) < LEVEL for one in differences[:, :n]]
    return float(np.mean(alone)), float(np.mean(both))


def main_grouped() -> None:
    """Simulate examples in groups, and print."""
    print("| metric | groups | runs | seeds | false, seeds alone | false, verdict of compare |")
    print("| --- | ---: | --- | ---: | ---: | ---: |")
    for place, kind in enumerate(GROUPED):
        for groups in GROUPS:
            for metric, differences in grouped(kind, groups, np.random.default_rng([groups, place])).items():
                for n in SEEDS:
                    found = _percent([*false_claims(differences, n)])
                    print(f"| {metric} | {groups} | {kind} | {n} | {found} |", flush=True)
    error = 196 * np.sqrt(LEVEL * (1 - LEVEL) / GROUPED_COMPARISONS)
    print(f"\n{GROUPED_COMPARISONS} comparisons a line: 5 % is seen between {5 - error:.1f} % and {5 + error:.1f} %.\n")


def main_forecasts() -> None:
    """Simulate forecasts of overlapping windows, and print."""
    print("| metric | patient-days | runs | seeds | false, seeds alone | false, verdict of compare |")
    print("| --- | ---: | --- | ---: | ---: | ---: |")
    for place, kind in enumerate(FORECASTS):
        for groups in PATIENTS:
            differences = forecasts(kind, groups, np.random.default_rng([groups, place, 1]))
            for n in SEEDS:
                print(f"| RMSE | {groups} | {kind} | {n} | {_percent([*false_claims(differences, n)])} |", flush=True)
    print()


def main() -> None:
    """Simulate and print."""
    start = time.perf_counter()
    main_forecasts()
    main_grouped()
    main_single()
    print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr)


def main_single() -> None:
    """Simulate examples that are independent, and print."""
    print("| runs | seed sd, points | seeds | false, seeds alone | power | false, verdict of compare | power |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for model in DISAGREE:
        lines = []
        for place, spread in enumerate(SPREADS[:1] if model == "fixed" else SPREADS):
            pair = simulate(model, spread, np.random.default_rng([len(model), place]))
            for n in SEEDS:
                lines.append(rates(pair, n))
                print(f"| {model} | {100 * spread:g} | {n} | {_percent(lines[-1])} |", flush=True)
        print(f"| {model} | all | all | {_percent(np.mean(lines, axis=0).tolist())} |")
    error = 196 * np.sqrt(0.05 * 0.95 / COMPARISONS)
    print(f"\n{COMPARISONS} comparisons a line: a rate of 5 % is seen between {5 - error:.1f} % and {5 + error:.1f} %.")


def rates(pair: tuple[Runs, Runs], n: int) -> list[float]:
    """Return false claims and power of the verdict of `compare`, and of the test with examples, for n seeds."""
    found = []
    for test in (claims, claims_with_examples):
        equal, gained = (test(runs.first(n)) for runs in pair)
        found += [float(np.mean(equal != 0)), float(np.mean(gained == 1))]
    return found


def _percent(shares: list[float]) -> str:
    return " | ".join(f"{100 * share:.1f} %" for share in shares)


if __name__ == "__main__":
    main()
