"""Comparisons to draw: a plain one, and one with many arms of long names."""

from kd.analysis.comparison import SAME_STUDENT
from kd.analysis.slices import Details, SeedTest, Slice
from kd.analysis.statistics import Interval, PairedDifference
from kd.analysis.table import Arm, Pair, Table
from kd.tasks.classification.scores import FIGURES

ALIKE = {"fidelity/attribution_pearson": 0.6, "fidelity/attribution_pearson_floor": 0.1}
COSTS = {"profile/latency_ms_p50": 10.0, "model/size_mib": 60.0}


def arm(label, role="student", mean=0.8, gap=None, verdict=None, figures=COSTS, seeds=3):
    """An arm; with `gap`, held against a control."""
    half = {1: None, 2: 0.3}.get(seeds, 0.01)
    quality = Interval(mean, mean - half, mean + half, seeds) if half else Interval(mean, None, None, seeds)
    difference = None
    if gap is not None:
        difference = PairedDifference(gap, gap - half if half else None, gap + half if half else None, 0.2, seeds)
    ids = tuple(f"{label}-{seed}" for seed in range(seeds))
    pairs = tuple(Pair(seed, one, f"control-{seed}") for seed, one in enumerate(ids)) if difference else ()
    return Arm(label, label, role, quality, difference, 0.2, verdict, None, figures, ids, pairs)


def table(*arms, higher=True, dataset="builtin:demo", against=SAME_STUDENT):
    """A table of these arms; the metric falls where higher is not better."""
    metric = "accuracy" if higher else "rmse"
    return Table(
        "classification", dataset, "test", "0123456789abcdef", metric, higher, against, tuple(arms), 7, FIGURES
    )


def cut(value, gap, examples=40):
    """A slice on which an arm differs by this much."""
    return Slice("label", value, examples, 0.5 + gap, 0.5, PairedDifference(gap, None, None, None, 3))


def rising(seed=0):
    """A curve."""
    return tuple((step, 0.5 + step / 100 + seed / 500) for step in range(10, 40, 10))


TRIVIAL = arm("baseline majority", "trivial", 0.3, figures={}, seeds=1)
TEACHER = arm("teacher · 6 layers", "teacher", 0.9, figures={key: 3 * value for key, value in COSTS.items()}, seeds=1)
CONTROL = arm("student · 2 layers")
BETTER = arm("distill soft", "distilled", 0.82, 0.02, "better", {**COSTS, **ALIKE})
WORSE = arm("distill hard", "distilled", 0.77, -0.03, "worse")
PLAIN = table(TRIVIAL, TEACHER, CONTROL, BETTER, WORSE)
DETAILS = Details(
    slices={"distill soft": (cut("rare", -0.04), cut("common", 0.05)), "distill hard": (cut("rare", -0.01),)},
    tests={"distill soft": (SeedTest(0, "McNemar", 0.25), SeedTest(2, "McNemar", 0.0001))},
    curves={key: (rising(0), rising(1)) for key in ("student · 2 layers", "distill soft", "distill hard")},
)


def crowd(count=15, higher=True):
    """A table of arms with long names and nearly one latency, and its details."""
    names = [
        f"distill soft+hidden T={i} a=0.5 · 6 layers · selection=d2-coverage-top-{i}0pct seed" for i in range(count)
    ]
    arms = [
        arm(name, "distilled", 0.8 + i / 900, i / 900 - 0.005, "no difference shown",
            {"profile/latency_ms_p50": 20 + i / 100, "model/size_mib": 250.0, **ALIKE}, 1 + i % 3)
        for i, name in enumerate(names)
    ]  # fmt: skip
    slices = {
        name: tuple(cut(f"a_class_of_long_name_{j}", (j - i) / 1000) for j in range(40)) for i, name in enumerate(names)
    }
    whole = table(TEACHER, CONTROL, *arms, higher=higher, dataset="an-organisation/a-data-set-with-a-long-name:config")
    return whole, Details(slices, {}, {name: (rising(),) for name in names})
