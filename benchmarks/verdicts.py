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

Two tests stand side by side: the t test over seeds, which takes the test set for given, and the verdict of `compare`
where predictions are known, `kd.analysis.statistics.crossed_difference`, which takes the examples for drawn, too.
"""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

from kd.analysis.comparison import compare
from kd.analysis.statistics import crossed_difference, verdict
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


def main() -> None:
    """Simulate and print."""
    start = time.perf_counter()
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
    print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr)


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
