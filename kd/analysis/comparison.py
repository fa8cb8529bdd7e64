"""Runs become tables: one for each task and test set, each arm over its seeds and against its control. Pure."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from kd.analysis.statistics import (
    LEVEL,
    MIN_SEEDS,
    PairedDifference,
    bounded,
    holm,
    holm_levels,
    mean_interval,
    minimum_detectable_difference,
    of_difference,
    paired_difference,
    seed_means,
    verdict,
)
from kd.analysis.table import Arm, Pair, Table
from kd.base.budgets import BUDGETS, FITS_DEVICE
from kd.base.busy import is_timed, measured_model, was_busy
from kd.base.console import did_you_mean
from kd.base.harmless import harmless
from kd.base.judge import OF_TASKS, UNBOUNDED, Bounds
from kd.base.types import RunRecord, UserError
from kd.config import CompareConfig, listed

ROLE_ORDER = ("trivial", "teacher", "student", "distilled")
AVERAGED = (*OF_TASKS, "profile/", "model/", "cost/")
"""Figures shown beside the quality, as means over an arm's runs; absent where no run has them."""
DIGEST = {"test": "kd.test_digest", "val": "kd.validation_digest"}
"""The tag that says on which rows a split's metrics were computed."""
SAME_STUDENT, TUNED = "the same student without a teacher", "the student without a teacher, tuned as much"
Newest = Mapping[tuple[str, int], RunRecord]
"""Runs by arm (tag `kd.arm`) and seed."""
COUNTED = {"labelled": "labels", "max_train": "training rows", "train_days": "days"}
"""Parameters that are a number of something, of which 0 is all."""
NOT_LEARNED = ("seed", "experiment", "resume", "seeds", "slice_columns", "layers",
               "labelled_rows", "transfer_rows", "steps", "devices", *BUDGETS)  # fmt: skip
"""Parameters in which the runs of one arm may differ."""


def compare(
    records: Sequence[RunRecord],
    directions: Mapping[str, Mapping[str, bool]],
    config: CompareConfig | None = None,
    bounds: Mapping[str, Mapping[str, Bounds]] | None = None,
) -> tuple[list[Table], list[str]]:
    """Group runs by task and rows scored, and each group by arm over seeds.

    Args:
        records: finished runs; of several runs of one `kd.arm` and seed the newest counts. Where `group_by` puts
            several of one seed into an arm, the seed's value is their mean.
        directions: for each task, its metrics and whether higher is better, the first being the default.
        config: its `metric`, `baseline` and `group_by` are read.
        bounds: for each task, those of its metrics; any value is possible where not named.

    Returns:
        The tables, and notes on what was left out.

    Raises:
        UserError: the metric, the baseline or a name to group by is not to be found.
    """
    config = config or CompareConfig()
    split = split_of(config.metric)
    groups, notes = _groups(records, directions, split)
    _require_names(listed(config.group_by), [record for group in groups.values() for record in group])
    tables = []
    for (task, digest), group in sorted(groups.items()):
        metric = config.metric.removeprefix(f"{split}/") or next(iter(directions[task]))
        if metric not in directions[task]:
            notes.append(f"{len(group)} runs of task {task} were left out: it has no metric {metric!r}")
            continue
        newest, said = _newest(group, f"{split}/{metric}")
        notes += said
        if newest:
            ends = (bounds or {}).get(task, {}).get(metric, UNBOUNDED)
            tables.append(_table(newest, Scale(f"{split}/{metric}", directions[task][metric], ends), config, digest))
    if groups and not tables:
        known = ", ".join(dict.fromkeys(name for task, _ in groups for name in directions[task]))
        why = "".join(f"; {note}" for note in notes)
        raise UserError(f"metric={config.metric!r}: none of the runs has it; give one of {known}{why}")
    if config.baseline and tables:
        without = [table for table in tables if not any(arm.pairs for arm in table.arms)]
        if without == tables:
            known = "; ".join(f"{arm.label} (#{arm.key[:6]})" for table in tables for arm in table.arms)
            raise UserError(
                f"baseline={config.baseline!r}: no arm of that name shares a seed with another; there are: {known}"
            )
        notes += [f"{one.dataset}: nothing there has a seed in common with {config.baseline!r}" for one in without]
    return tables, notes


def split_of(metric: str) -> str:
    """Return the split of a metric to compare by: val where it says so, else test."""
    return "val" if metric.startswith("val/") else "test"


def pareto_front(table: Table, cost: str) -> list[Arm]:
    """Return the arms that no other arm beats in both quality and a figure where lower is better, cheapest first."""
    sign = 1 if table.higher_is_better else -1
    measured = [arm for arm in table.arms if cost in arm.figures]
    front: list[Arm] = []
    for arm in sorted(measured, key=lambda one: (one.figures[cost], -sign * one.quality.mean)):
        if not front or sign * arm.quality.mean > sign * front[-1].quality.mean:
            front.append(arm)
    return front


def uneven_steps(table: Table, steps: Mapping[str, int]) -> list[str]:
    """Return which arms had over a tenth more or fewer weight updates (by run id) than what they are compared with."""
    found = []
    for arm in table.arms:
        both = [(steps.get(pair.run_id), steps.get(pair.against)) for pair in arm.pairs]
        if known := [(ours, theirs) for ours, theirs in both if ours is not None and theirs is not None]:
            mine, other = map(fmean, zip(*known, strict=True))
            if abs(mine - other) > 0.1 * other:
                found.append(f"{arm.label} had {mine:,.0f} weight updates, {table.against} {other:,.0f}")
    return found


def _groups(
    records: Iterable[RunRecord], directions: Mapping[str, Mapping[str, bool]], split: str
) -> tuple[dict[tuple[str, str], list[RunRecord]], list[str]]:
    """Sort the scored runs by task and digest, oldest first; notes count those of which rows or seed are unknown."""
    groups: dict[tuple[str, str], list[RunRecord]] = defaultdict(list)
    lacking: Counter[str] = Counter()
    for record in sorted(records, key=lambda one: one.started):
        tags = record.tags
        if tags.get("kd.role") not in ROLE_ORDER or (split == "test" and tags.get("kd.test_scored") != "true"):
            continue
        if absent := next((tag for tag in ("kd.task", "kd.seed", DIGEST[split]) if not tags.get(tag)), ""):
            lacking[f"they have no tag {absent}"] += 1
        elif not tags["kd.seed"].isdecimal():
            lacking[f"their tag kd.seed is {tags['kd.seed']!r}"] += 1
        elif tags["kd.task"] not in directions:
            lacking[f"there is no task {tags['kd.task']} here"] += 1
        else:
            groups[tags["kd.task"], tags[DIGEST[split]]].append(record)
    return groups, [f"runs left out because {reason}: {count}" for reason, count in sorted(lacking.items())]


def _newest(group: Sequence[RunRecord], metric: str) -> tuple[Newest, list[str]]:
    """Return the newest run of each arm and seed that has the metric as a number, and notes on those left out."""
    newest: dict[tuple[str, int], RunRecord] = {}
    notes, older = [], 0
    for record in group:
        value = record.metrics.get(metric)
        if value is None:
            continue
        if not math.isfinite(value):
            notes.append(f"run {record.run_id} ({record.name}) was left out: its {metric} is {value}")
            continue
        arm_and_seed = record.tags.get("kd.arm", record.run_id), _seed(record)
        older += newest.pop(arm_and_seed, None) is not None  # so that the order stays that of time
        newest[arm_and_seed] = record
    if older:
        notes.append(f"runs left out because there are newer ones of the same arm and seed: {older}")
    return newest, notes


@dataclass(frozen=True)
class Scale:
    """What arms are compared by: a tracked metric, whether higher is better, and what values it can have."""

    score: str
    higher_is_better: bool
    bounds: Bounds


def _table(newest: Newest, scale: Scale, config: CompareConfig, digest: str) -> Table:
    """Sort runs into arms, pair them with what each arm is compared with, and judge the differences over seeds."""
    runs: dict[str, list[RunRecord]] = defaultdict(list)
    group_by = listed(config.group_by)
    for record in newest.values():
        runs[_key(record, group_by)].append(record)
    labels = {key: harmless(key) for key in runs} if group_by else _labels(runs)
    pairs, against = _pairs_of_all(runs, labels, newest, config.baseline)
    value = {record.run_id: record.metrics[scale.score] for record in newest.values()}
    arms = [
        Arm(
            key,
            labels[key],
            role=members[-1].tags["kd.role"],
            quality=bounded(
                mean_interval([*seed_means((_seed(one), value[one.run_id]) for one in members).values()]), scale.bounds
            ),
            figures=_figures(members),
            run_ids=tuple(one.run_id for one in sorted(members, key=lambda one: (_seed(one), one.run_id))),
            pairs=tuple(pairs[key]),
            trained_on=tuple(sorted({one.tags.get("kd.dataset_digest", "") for one in members})),
            teachers=tuple(sorted({one.tags["kd.teacher"] for one in members if one.tags.get("kd.teacher")})),
            busy=tuple(dict.fromkeys(map(measured_model, (one for one in _timed(members) if was_busy(one.tags))))),
            devices=_devices(members),
        )
        for key, members in runs.items()
    ]
    arms.sort(key=lambda arm: (ROLE_ORDER.index(arm.role), _by_number(arm.label)))
    last = list(newest.values())[-1].tags
    split, _, metric = scale.score.partition("/")
    rows = last["kd.task"], harmless(last.get("kd.dataset", "")), split, digest
    table = Table(*rows, metric, scale.higher_is_better, against, tuple(arms), bounds=scale.bounds)
    differences = {
        key: paired_difference(
            seed_means((pair.seed, value[pair.run_id]) for pair in own),
            seed_means((pair.seed, value[pair.against]) for pair in own),
        )
        for key, own in pairs.items()
        if own
    }
    return judged(table, differences)


def judged(table: Table, differences: Mapping[str, PairedDifference]) -> Table:
    """Give arms their differences, by key, with verdicts and intervals after Holm's correction over all of them."""
    tested = {key: one.p for key, one in differences.items() if one.n >= MIN_SEEDS and one.p is not None}
    adjusted, levels = (dict(zip(tested, of([*tested.values()]), strict=True)) for of in (holm, holm_levels))

    def judge(arm: Arm) -> Arm:
        gap = differences.get(arm.key)
        if gap is None:
            return arm
        words = verdict(gap, adjusted.get(arm.key), table.higher_is_better)
        unseen = None
        if words == "no difference shown" and gap.se is not None:  # at Holm's strictest level
            unseen = minimum_detectable_difference(gap.se, gap.spread, alpha=LEVEL / len(tested))
        shown = gap.at(levels[arm.key]) if arm.key in levels else replace(gap, low=None, high=None)
        gap = bounded(shown, of_difference(table.bounds))
        return replace(arm, difference=gap, adjusted_p=adjusted.get(arm.key), verdict=words, detectable=unseen)

    return replace(table, arms=tuple(map(judge, table.arms)))


def _by_number(label: str) -> list[tuple[int, str]]:
    """Order labels so that 300 comes before 1000."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", label)]


def _seed(record: RunRecord) -> int:
    return int(record.tags["kd.seed"])


def _require_names(group_by: tuple[str, ...], records: Sequence[RunRecord]) -> None:
    for name in group_by:
        if records and all(_looked_up(record, name) is None for record in records):
            known = sorted({key for record in records for key in record.params})
            hint = did_you_mean(name, known, f"parameters are {', '.join(known)}")
            raise UserError(f"group_by={name!r}: no run has a parameter or tag of that name; {hint}")


def _key(record: RunRecord, group_by: tuple[str, ...]) -> str:
    if not group_by:
        return record.tags.get("kd.arm", record.run_id)
    role = record.tags["kd.role"]
    values = [f"{name}={_looked_up(record, name)}" for name in group_by if _looked_up(record, name) is not None]
    return " · ".join([record.label if role == "trivial" else role, *values])  # a mean of two baselines says nothing


def _looked_up(record: RunRecord, name: str) -> str | None:
    return record.params.get(name, record.tags.get(name, record.tags.get(f"kd.{name}")))


def _labels(runs: Mapping[str, list[RunRecord]]) -> dict[str, str]:
    """Name each arm as its newest run; where two read the same, add what differs, or a start of the hash."""
    plain = {key: members[-1].label for key, members in runs.items()}
    labels = {}
    for key, label in plain.items():
        rivals = [runs[other][-1].params for other, same in plain.items() if same == label]
        names = sorted({name for params in rivals for name in params} - set(NOT_LEARNED))
        differing = [name for name in names if len({params.get(name, "") for params in rivals}) > 1][:3]
        if len({tuple(params.get(name) for name in differing if name != "teacher") for params in rivals}) == len(
            rivals
        ):
            differing = [name for name in differing if name != "teacher"]  # it differs because the others do
        own = runs[key][-1].params
        labels[key] = " · ".join([label, *(harmless(_in_words(name, own.get(name, "default"))) for name in differing)])
    still = Counter(labels.values())
    return {key: f"{label} #{key[:4]}" if still[label] > 1 else label for key, label in labels.items()}


def _in_words(name: str, value: str) -> str:
    """Say what sets an arm apart: `300 labels`, `all labels`, else the parameter and its value."""
    if noun := COUNTED.get(name):
        return f"{'all' if value in ('0', '0.0', 'default') else value.removesuffix('.0')} {noun}"
    return f"{name}={value}"


def _baseline(runs: Mapping[str, list[RunRecord]], labels: Mapping[str, str], wanted: str) -> str:
    """Return the key of the arm that `wanted` names; empty where this table has none. UserError where it names two."""
    named = [key for key, label in labels.items() if label == wanted]
    by_hash = [key for key in runs if len(wanted) >= 4 and key.startswith(wanted)]
    by_run = [key for key, members in runs.items() if any(one.run_id == wanted for one in members)]
    found = named or by_hash or by_run
    if len(found) > 1:
        raise UserError(f"baseline={wanted!r} names {len(found)} arms: {', '.join(labels[key] for key in found)}")
    return found[0] if found else ""


def _pairs_of_all(
    runs: Mapping[str, list[RunRecord]], labels: Mapping[str, str], newest: Newest, wanted: str
) -> tuple[dict[str, list[Pair]], str]:
    """Pair each arm's runs by seed with the baseline's, or with their own controls; also say with what, in words."""
    base = _baseline(runs, labels, wanted) if wanted else ""

    def rivals(key: str, one: RunRecord) -> list[RunRecord]:
        if wanted:
            return [other for other in runs.get(base, ()) if key != base and _seed(other) == _seed(one)]
        control = newest.get((one.tags.get("kd.control_arm", ""), _seed(one)))
        return [control] if control else []

    pairs = {
        key: sorted(Pair(_seed(one), one.run_id, other.run_id) for one in members for other in rivals(key, one))
        for key, members in runs.items()
    }
    if wanted:
        return pairs, labels.get(base, wanted)
    tuned = {"kd.tuned" in one.tags for key, members in runs.items() if pairs[key] for one in members}
    return pairs, TUNED if tuned == {True} else SAME_STUDENT


def _timed(members: Sequence[RunRecord]) -> list[RunRecord]:
    """Return the runs whose latency counts: those measured on a quiet machine, or all where there is none."""
    timed = [one for one in members if any(map(is_timed, one.metrics))]
    return [one for one in timed if not was_busy(one.tags)] or timed


def _figures(members: Sequence[RunRecord]) -> dict[str, float]:
    names = sorted({name for one in members for name in one.metrics if name.startswith(AVERAGED)})
    timed = _timed(members)
    of = {name: timed if is_timed(name) else members for name in names}
    measured = {name: [one.metrics[name] for one in of[name] if name in one.metrics] for name in names}
    return {name: fmean(values) for name, values in measured.items() if all(map(math.isfinite, values))}


def _devices(members: Sequence[RunRecord]) -> dict[str, bool]:
    judged: dict[str, bool] = {}
    for one in members:
        for tag, said in one.tags.items():
            if tag.startswith(FITS_DEVICE):
                name = harmless(tag.removeprefix(FITS_DEVICE))
                judged[name] = said.startswith("true") and judged.get(name, True)
    return dict(sorted(judged.items()))
