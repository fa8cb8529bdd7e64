"""What a comparison comes to: a table for each task and test set, with an arm to a row."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kd.analysis.statistics import Interval, PairedDifference, Verdict
from kd.base.judge import UNBOUNDED, Bounds, Figure, Picture


@dataclass(frozen=True, order=True)
class Pair:
    """A run, its seed, and the run it is compared with."""

    seed: int
    run_id: str
    against: str


@dataclass(frozen=True)
class Arm:
    """One way of training, over its seeds.

    Attributes:
        key: what its runs have in common: tag `kd.arm`, or role and values of `group_by`.
        label: what a person reads.
        role: teacher, student, distilled or trivial.
        quality: the metric over seeds.
        difference: arm minus control by seed; None where there is no control. Its interval is Holm-corrected within
            the table, so that it contains 0 unless the verdict claims something; absent under three seeds.
        adjusted_p: p of the difference, Holm-corrected within the table; None under three pairs.
        verdict: the difference in words; None without a control.
        detectable: smallest true difference that would be shown at 80 % power, where none was shown.
        figures: means over the runs that measured them, by metric name.
        run_ids: the runs behind it, by seed.
        pairs: the runs behind the difference.
        trained_on: digests of their training rows.
        teachers: what its runs name as their teachers.
        guide: key of the arm that its teachers are of, where they are of one and it is in the table; else empty.
        busy: URIs of the models behind its figures of time, where the machine was busy whenever one was measured.
        devices: those that its models were judged for, by name, and whether all of them fit.
    """

    key: str
    label: str
    role: str
    quality: Interval
    difference: PairedDifference | None = None
    adjusted_p: float | None = None
    verdict: Verdict | None = None
    detectable: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    run_ids: tuple[str, ...] = ()
    pairs: tuple[Pair, ...] = ()
    trained_on: tuple[str, ...] = ()
    teachers: tuple[str, ...] = ()
    guide: str = ""
    busy: tuple[str, ...] = ()
    devices: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Doubt:
    """A reason not to promote: what is wrong, with the figures; what to do before; the runs it speaks of."""

    sentence: str
    instead: str
    run_ids: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """All arms scored on one set of rows, by one metric.

    Attributes:
        split: test or val.
        digest: of the split's rows.
        against: what differences are taken from, in words.
        times_scored: how many trained runs of the store have scored these test rows; None where not counted.
        figures: what the task shows beside the metric.
        doubts: said before anything else.
        bounds: of the metric; no interval leaves them.
        pictures: what the task draws of predictions.
    """

    task: str
    dataset: str
    split: str
    digest: str
    metric: str
    higher_is_better: bool
    against: str
    arms: tuple[Arm, ...]
    times_scored: int | None = None
    figures: tuple[Figure, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    bounds: Bounds = UNBOUNDED
    pictures: tuple[Picture, ...] = ()
