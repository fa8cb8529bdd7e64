"""Runs become tables: one for each task and test set, each arm over its seeds and against its control. Pure."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from kd.statistics import (
    LEVEL,
    Interval,
    PairedDifference,
    Verdict,
    holm,
    mean_interval,
    minimum_detectable_difference,
    paired_difference,
    verdict,
)
from kd.types import RunRecord, UserError

ROLE_ORDER = ("trivial", "teacher", "student", "distilled")
AVERAGED = (
    "fidelity/agreement",
    "calibration/ece",
    "profile/latency_ms_p50",
    "profile/latency_ms_p95",
    "profile/ram_peak_mib",
    "profile/ram_model_mib",
    "profile/gpu_peak_mib",
    "model/size_mib",
    "model/parameters",
    "cost/train_s",
)
"""Figures shown beside the quality, as means over an arm's runs; absent where no run has them."""


@dataclass(frozen=True)
class Arm:
    """One way of training, over its seeds.

    Attributes:
        label: what a person reads.
        role: teacher, student, distilled or trivial.
        quality: test metric over seeds.
        difference: arm minus control by seed; None where there is no control.
        verdict: the difference in words, corrected for the table; None without a control.
        detectable: smallest true difference these seeds would show at 80 % power, where none was shown.
        figures: means over runs, of the names in AVERAGED that were measured.
        run_ids: the runs behind it, by seed.
    """

    label: str
    role: str
    quality: Interval
    difference: PairedDifference | None
    verdict: Verdict | None
    detectable: float | None
    figures: Mapping[str, float]
    run_ids: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """All arms scored on one test set, by one metric."""

    task: str
    dataset: str
    test_digest: str
    metric: str
    higher_is_better: bool
    arms: tuple[Arm, ...]
    times_scored: int


def compare(
    records: Sequence[RunRecord], directions: Mapping[str, Mapping[str, bool]], metric: str = ""
) -> list[Table]:
    """Group runs by task and test digest, and each group by arm over seeds.

    Args:
        records: finished runs, oldest first; of several runs of one arm and seed the newest counts.
        directions: for each task, its metrics and whether higher is better, the first being the default.
        metric: test metric to compare by; empty takes each task's first.

    Raises:
        UserError: the metric is none of the task's, or no run has it.
    """
    groups: dict[tuple[str, str], list[RunRecord]] = defaultdict(list)
    for record in records:
        if record.tags.get("kd.test_scored") == "true":
            groups[record.tags["kd.task"], record.tags["kd.test_digest"]].append(record)
    tables = [_table(group, directions[task], metric) for (task, _), group in sorted(groups.items())]
    scored = [table for table in tables if table.arms]
    if tables and not scored:
        raise UserError(f"metric={metric!r}: none of the runs has it; give another, or leave it out")
    return scored


def answer(table: Table) -> str:
    """Answer "did distillation help?" in one plain sentence for each distilled arm."""
    distilled = [arm for arm in table.arms if arm.role == "distilled"]
    if not distilled:
        return "No distilled student has been trained on this data yet."
    return "\n".join(_sentence(table, arm) for arm in distilled)


def _table(group: Sequence[RunRecord], directions: Mapping[str, bool], wanted: str) -> Table:
    metric = wanted.removeprefix("test/") or next(iter(directions))
    if metric not in directions:
        raise UserError(f"metric={wanted!r} is none of this task's: give one of {', '.join(directions)}")
    runs: dict[str, dict[int, RunRecord]] = defaultdict(dict)
    for record in group:
        if f"test/{metric}" in record.metrics:
            runs[record.tags["kd.arm"]][int(record.tags["kd.seed"])] = record
    values = {arm: {seed: one.metrics[f"test/{metric}"] for seed, one in seeds.items()} for arm, seeds in runs.items()}
    differences = {}
    for arm, seeds in runs.items():
        control = next(iter(seeds.values())).tags.get("kd.control_arm", "")
        if control in values:
            differences[arm] = paired_difference(values[arm], values[control])
    tested = [arm for arm, difference in differences.items() if difference.n >= 3 and difference.p is not None]
    adjusted = dict(zip(tested, holm([differences[arm].p or 0.0 for arm in tested]), strict=True))
    arms = []
    for arm, seeds in runs.items():
        difference = differences.get(arm)
        words = verdict(difference, adjusted.get(arm), directions[metric]) if difference else None
        against = values.get(next(iter(seeds.values())).tags.get("kd.control_arm", ""), {})
        detectable = _detectable(values[arm], against, len(tested)) if words == "no difference shown" else None
        arms.append(_arm(list(seeds.values()), values[arm], (difference, words, detectable)))
    arms = _told_apart(arms, list(runs))
    arms.sort(key=lambda arm: (ROLE_ORDER.index(arm.role), arm.label))
    first = group[-1].tags
    scored = sum(record.tags["kd.role"] != "trivial" for record in group)
    return Table(
        first["kd.task"], first["kd.dataset"], first["kd.test_digest"], metric, directions[metric], tuple(arms), scored
    )


def _arm(
    records: Sequence[RunRecord],
    values: Mapping[int, float],
    against_control: tuple[PairedDifference | None, Verdict | None, float | None],
) -> Arm:
    difference, words, detectable = against_control
    figures = {}
    for name in AVERAGED:
        if measured := [record.metrics[name] for record in records if name in record.metrics]:
            figures[name] = fmean(measured)
    return Arm(
        label=records[-1].name.rpartition(" · seed ")[0] or records[-1].name,
        role=records[-1].tags["kd.role"],
        quality=mean_interval(list(values.values())),
        difference=difference,
        verdict=words,
        detectable=detectable,
        figures=figures,
        run_ids=tuple(record.run_id for record in sorted(records, key=lambda one: int(one.tags["kd.seed"]))),
    )


def _told_apart(arms: list[Arm], hashes: list[str]) -> list[Arm]:
    """Add the beginning of the arm's hash (tag `kd.arm`) where two arms would read the same."""
    times = Counter(arm.label for arm in arms)
    return [
        replace(arm, label=f"{arm.label} #{key[:4]}") if times[arm.label] > 1 else arm
        for arm, key in zip(arms, hashes, strict=True)
    ]


def _detectable(arm: Mapping[int, float], control: Mapping[int, float], tests: int) -> float:
    """Return the smallest true difference that would have been shown at 80 % power, at Holm's strictest level."""
    differences = [arm[seed] - control[seed] for seed in arm.keys() & control.keys()]
    return minimum_detectable_difference(stdev(differences), len(differences), alpha=LEVEL / tests)


def _sentence(table: Table, arm: Arm) -> str:
    if arm.difference is None or arm.difference.mean is None:
        return f"{arm.label}: cannot be said: its control, the same student without a teacher, is not among these runs."
    gap = arm.difference
    interval = f", 95 % interval {gap.low:+.3f} to {gap.high:+.3f}" if gap.low is not None else ""
    seeds = f"{gap.n} seed" + ("s" if gap.n != 1 else "")
    figure = f"{table.metric} {gap.mean:+.3f} against the same student without a teacher{interval}, {seeds}"
    match arm.verdict:
        case "better":
            return f"{arm.label}: yes, distillation helped: {figure}."
        case "worse":
            return f"{arm.label}: no, distillation hurt: {figure}."
        case "no difference shown":
            unseen = f"; a true difference under {arm.detectable:.3f} could go unseen" if arm.detectable else ""
            return f"{arm.label}: no gain shown: {figure}{unseen}."
        case _:
            return f"{arm.label}: too few seeds to say: {figure}; a claim needs at least three."
