"""What one process of a search does for all: queue what is missing, follow what ends, choose what is retrained."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kd import tracking
from kd.base.types import UserError
from kd.config import HpoConfig
from kd.run.checkpoints import discard_finished
from kd.search.optuna_study import Study
from kd.search.prepare import SearchArm, SearchPlan
from kd.search.retries import Attempt, Slot, ended, failures, outstanding
from kd.search.trial import STATUS
from kd.space.parameters import grid


@dataclass(frozen=True)
class Goal:
    """What is wanted of a search.

    Attributes:
        slots: the wanted trials, by arm.
        deadline: monotonic seconds after which no trial is begun.
        reconciled: ended attempts whose runs have been looked at, as (study, number).
    """

    slots: dict[str, list[Slot]]
    deadline: float
    reconciled: set[tuple[str, int]] = field(default_factory=set)

    @property
    def late(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() > self.deadline


def search_slots(config: HpoConfig, arm: SearchArm, first: Sequence[dict[str, Any]]) -> list[Slot]:
    """Return the wanted trials: points of a grid in random order, or samples, after the points to `first` try."""
    fixed: Sequence[dict[str, Any] | None] = [*first, *[None] * (config.n_trials - len(first))]
    if config.sampler == "grid":
        points = grid(arm.space, f"space={config.space!r}")
        random.Random(config.seed).shuffle(points)  # noqa: S311
        fixed = points
    return [Slot(str(place), params) for place, params in enumerate(fixed[: config.n_trials])]


def final_slots(config: HpoConfig, arm: SearchArm) -> list[Slot]:
    """Return the retrainings of the best trials, each on every fresh seed."""
    trials = [one.number for one in finalists(arm.search, config.top_k)]
    wanted = [{"trial": trial, "seed": seed} for trial in trials for seed in config.seed_list]
    return [Slot("{trial}/{seed}".format(**one), one) for one in wanted]


def finalists(search: Study, count: int) -> list[Attempt]:
    """Return the trials to retrain, of equal parameters one: the best, some along the front, or UserError."""
    ranked = search.ranked()
    if not ranked:
        attempts = search.attempts()
        why = "none is complete: see their runs, tag kd.exit_reason"
        if any(one.state == "complete" for one in attempts):
            why = "none of them keeps the constraints: ease constraints, or search smaller students"
        raise UserError(f"study {search.name!r}: of {len(attempts)} trials {why}")
    several = len(search.inner.directions) > 1
    front = {one.number for one in search.best()} if several else {one.number for one in ranked}
    distinct: dict[str, Attempt] = {}
    for one in ranked:
        if one.number in front:
            distinct.setdefault(str(sorted(one.params.items())), one)
    best = list(distinct.values())
    if not several or len(best) <= count:
        return best[:count]
    return [best[round(place * (len(best) - 1) / max(count - 1, 1))] for place in range(count)]


def advance(plan: SearchPlan, arms: Sequence[SearchArm], goal: Goal) -> bool:
    """Queue what is missing; returns whether all has ended. UserError where too many failed, or none is complete."""
    searched = [_settled(plan, arm.search, [] if goal.late else goal.slots[arm.name], goal) for arm in arms]
    if not all(searched):
        return False
    if goal.late and not all(any(one.state == "complete" for one in arm.search.attempts()) for arm in arms):
        given = f"timeout_minutes={plan.config.timeout_minutes:g}"
        raise UserError(f"{given}: no trial was complete in time: give more minutes; the same study continues")
    return all([_settled(plan, arm.finals, final_slots(plan.config, arm), goal) for arm in arms])


def _settled(plan: SearchPlan, study: Study, slots: list[Slot], goal: Goal) -> bool:
    """Take trials from dead processes and queue missing ones; returns whether nothing of it is left to be done.

    Without slots nothing is begun any more, and only what is running is waited for.
    """
    study.reclaim()
    attempts = study.attempts()
    _look_after(plan, study, goal, [one for one in attempts if one.state == "failed"])
    blamed = failures(slots, attempts)
    if len(blamed) >= len(slots) > len(ended(slots, attempts)):
        what = f"{len(blamed)} trials failed, as many as are wanted; the last: {blamed[-1].why}"
        mend = "when the cause is mended, a larger n_trials continues it, and another study_name begins anew"
        raise UserError(f"study {study.name!r}: {what}; {mend}")
    study.queue(slots, attempts)
    settled = not (outstanding(slots, attempts) if slots else [one for one in attempts if one.state == "running"])
    if settled:
        _look_after(plan, study, goal, [one for one in attempts if one.over])
    return settled


def _look_after(plan: SearchPlan, study: Study, goal: Goal, over: Sequence[Attempt]) -> None:
    """Close the runs of trials that are over, if a process can have died since this was done."""
    new = {(study.name, one.number) for one in over} - goal.reconciled
    if new:
        reconcile(plan, study)
        goal.reconciled.update(new)


def reconcile(plan: SearchPlan, study: Study) -> None:
    """Give the runs that killed processes left open the state that their trials have."""
    states = {str(one.number): one.state for one in study.attempts()}
    for record in tracking.runs([plan.experiment], "tags.`kd.stage` = 'trial'", "RUNNING"):
        if record.tags["kd.study"] != study.name:  # not in the query, which knows no way to write a quote in a name
            continue
        state = states.get(record.tags["kd.trial"], "")
        if state in STATUS:
            tracking.end(record.run_id, STATUS[state], tracking.GONE if state == "failed" else state)
    discard_finished()


def tally(study: Study, slots: Sequence[Slot]) -> dict[str, int]:
    """Count what a study has come to: complete, pruned, failed."""
    attempts = study.attempts()
    done = [one.state for one in ended(slots, attempts)]
    failed = [one for one in attempts if one.state == "failed"]
    return {"complete": done.count("complete"), "pruned": done.count("pruned"), "failed": len(failed)}
