"""Parts of the data that have models of their own, such as patients: each part's figures, and all parts together."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from kd.analysis.comparison import judged
from kd.analysis.statistics import PairedDifference, crossed_difference, mean_interval
from kd.analysis.table import Arm, Table
from kd.analysis.verdicts import differences, values_of
from kd.base.judge import Judge
from kd.base.types import UserError
from kd.report.findings import Stored
from kd.report.tables import MISSING, Cells, Section, mean_cell, verdicts


def parts_section(parts: Mapping[str, Table], judge: type[Judge]) -> Section:
    """Write how each part's models did, and whether distillation helped over all parts and seeds.

    Args:
        parts: the comparison of each part, by its name.
        judge: of the task.
    """
    whole = together([*parts.values()], judge)
    about = (
        f"Means of {whole.split} {whole.metric} over seeds. Gain: over the same student trained without a teacher, "
        "with a 95 % interval over seeds and test examples, corrected within its part; in the last row over all parts' "
        "examples as one test set, which is one comparison more."
    )
    cells = part_cells({**parts, f"all {len(parts)}": whole})
    return Section(
        f"{len(parts)} parts, each with its own models",
        tuple(verdicts(whole).splitlines()),
        (("By part", cells, about),),
    )


def together(tables: Sequence[Table], judge: type[Judge]) -> Table:
    """Judge arms of the same name over the examples of all tables, as if they were one test set.

    Raises:
        UserError: no arm has runs of the same seeds in all tables.
    """
    stores = [Stored(table, judge) for table in tables]
    arms, gaps = [], {}
    for arm in tables[0].arms:
        same = [
            next((one for one in table.arms if (one.label, one.role) == (arm.label, arm.role)), None)
            for table in tables
        ]
        known = [one for one in same if one is not None and len(one.run_ids) == len(arm.run_ids)]
        joined = _joined(known, stores, [one.run_ids for one in known]) if len(known) == len(tables) else []
        if not joined:
            continue
        metric = [judge.quality(one)[tables[0].metric] for one in joined]
        arms.append(replace(arm, quality=mean_interval(metric), difference=None, verdict=None, figures={}))
        if arm.pairs and (gap := _gap(known, stores, judge)) is not None:
            gaps[arm.key] = gap
    if not arms:
        raise UserError("the parts have no arm in common whose predictions are kept")
    return judged(replace(tables[0], arms=tuple(arms), doubts=(), times_scored=None), gaps)


def _joined(arms: Sequence[Arm], stores: Sequence[Stored], runs: Sequence[Sequence[str]]) -> list[pd.DataFrame]:
    """Return the predictions of all parts, one table for each place in `runs`; empty where some are not kept."""
    found = []
    for place in range(min(map(len, runs), default=0)):
        own = [store.predictions(ids[place]) for store, ids in zip(stores, runs, strict=True)]
        known = [one for one in own if one is not None]
        if len(known) < len(arms):
            return []
        found.append(pd.concat(known, ignore_index=True))
    return found


def _gap(arms: Sequence[Arm], stores: Sequence[Stored], judge: type[Judge]) -> PairedDifference | None:
    """Return an arm's difference over the examples of all parts; None where a pair has no counterpart elsewhere."""
    seeds = [[pair.seed for pair in sorted(arm.pairs)] for arm in arms]
    if any(own != seeds[0] for own in seeds):
        return None
    metric = stores[0].table.metric
    sides = [
        _joined(arms, stores, [[getattr(pair, side) for pair in sorted(arm.pairs)] for arm in arms])
        for side in ("run_id", "against")
    ]
    values = [[values_of(one, metric, judge) for one in side] for side in sides]
    both = [
        (seed, ours, theirs)
        for seed, ours, theirs in zip(seeds[0], *values, strict=False)
        if ours is not None and theirs is not None
    ]
    if len(both) < len(seeds[0]) or not both:
        return None
    found = differences(both)
    return crossed_difference(found.values, found.groups)


def part_cells(parts: Mapping[str, Table]) -> Cells:
    """Return header and rows: the part, each arm that is not distilled, and the distilled ones with their gains."""
    arms = {(arm.label, arm.role): arm for table in parts.values() for arm in table.arms}
    names = [name for name in arms if name[1] != "distilled"] + [name for name in arms if name[1] == "distilled"]
    header = ["part"]
    for label, role in names:
        header += [label, *(["gain [95 % Holm]", "verdict"] if role == "distilled" else [])]
    rows = [header]
    for part, table in parts.items():
        own = {(arm.label, arm.role): arm for arm in table.arms}
        row = [part]
        for name in names:
            arm = own.get(name)
            row.append(MISSING if arm is None else f"{arm.quality.mean:.3f}")
            if name[1] == "distilled":
                row += [mean_cell(arm.difference if arm else None), (arm.verdict if arm else None) or MISSING]
        rows.append(row)
    return rows
