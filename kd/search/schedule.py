"""What one process of a search does for all: queue what is missing, follow what ends, choose what is retrained."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kd import tracking
from kd.base.types import UserError
from kd.config import HpoConfig
from kd.search.optuna_study import Study, Trial
from kd.search.retries import Attempt, Slot, again, ended, failures, outstanding
from kd.search.trial import STATUS, Arm, Context
from kd.space import grid


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


def search_slots(config: HpoConfig, arm: Arm, first: Sequence[dict[str, Any]]) -> list[Slot]:
    """Return the wanted trials: points of a grid in random order, or samples, after the points to `first` try."""
    if config.sampler == "grid":
        points = grid(arm.space, f"space={config.space!r}")
        random.Random(config.seed).shuffle(points)  # noqa: S311
        fixed: Sequence[dict[str, Any] | None] = points[: config.n_trials]
    else:
        fixed = [*first[: config.n_trials], *[None] * (config.n_trials - len(first))]
    return [Slot(str(place), params) for place, params in enumerate(fixed)]


def final_slots(config: HpoConfig, arm: Arm) -> list[Slot]:
    """Return the retrainings of the best trials, each on every fresh seed."""
    return [
        Slot(f"{trial.attempt.number}/{seed}", {"trial": trial.attempt.number, "seed": seed})
        for trial in finalists(arm.search, config.top_k)
        for seed in config.seed_list
    ]


def finalists(search: Study, count: int) -> list[Trial]:
    """Return the trials to retrain: the best, or some along the whole Pareto front; of equal parameters one.

    Raises:
        UserError: no trial is complete, or none keeps the constraints.
    """
    ranked = search.ranked()
    if not ranked:
        complete = sum(one.state == "complete" for one in search.attempts())
        why = "none of them keeps the constraints" if complete else "none is complete"
        raise UserError(
            f"study {search.name!r}: of {len(search.attempts())} trials {why}: "
            + ("ease constraints, or search smaller students" if complete else "see their runs, tag kd.exit_reason")
        )
    front = {trial.attempt.number for trial in search.best()} if len(search.inner.directions) > 1 else None
    distinct: dict[str, Trial] = {}
    for trial in ranked:
        if front is None or trial.attempt.number in front:
            distinct.setdefault(str(sorted(trial.attempt.params.items())), trial)
    best = list(distinct.values())
    if front is None or len(best) <= count:
        return best[:count]
    return [best[round(place * (len(best) - 1) / max(count - 1, 1))] for place in range(count)]


def advance(context: Context, arms: Sequence[Arm], goal: Goal) -> bool:
    """Queue what is missing; returns whether all trials and all retrainings have ended.

    Raises:
        UserError: as many trials failed as are wanted, or no trial can be retrained.
    """
    searched = [_settled(context, arm.search, goal.slots[arm.name], goal, closed=goal.late) for arm in arms]
    if not all(searched):
        return False
    if goal.late and not all(any(one.state == "complete" for one in arm.search.attempts()) for arm in arms):
        raise UserError(
            f"timeout_minutes={context.config.timeout_minutes:g}: no trial was complete in time: give more "
            "minutes; the same study continues"
        )
    return all([_settled(context, arm.finals, final_slots(context.config, arm), goal) for arm in arms])


def _settled(context: Context, study: Study, slots: list[Slot], goal: Goal, closed: bool = False) -> bool:
    """Take trials from dead processes and queue missing ones; returns whether nothing of it is left to be done."""
    study.reclaim()
    attempts = study.attempts()
    _look_after(context, study, goal, [one for one in attempts if one.state == "failed"])
    settled = _closed(study, attempts) if closed else _complete(study, slots, attempts)
    if settled:
        _look_after(context, study, goal, [one for one in attempts if one.state not in ("waiting", "running")])
    return settled


def _look_after(context: Context, study: Study, goal: Goal, over: Sequence[Attempt]) -> None:
    """Close the runs of trials that are over, if a process can have died since this was done."""
    new = {(study.name, one.number) for one in over} - goal.reconciled
    if new:
        reconcile(context, study)
        goal.reconciled.update(new)


def _closed(study: Study, attempts: Sequence[Attempt]) -> bool:
    """Have no trial begun any more; returns whether none is running."""
    study.want(())
    return not any(one.state == "running" for one in attempts)


def _complete(study: Study, slots: Sequence[Slot], attempts: Sequence[Attempt]) -> bool:
    """Queue missing trials; returns whether none is missing, waiting or running."""
    blamed = failures(slots, attempts)
    if len(blamed) >= len(slots) > len(ended(slots, attempts)):
        last = next(trial for trial in study.trials() if trial.attempt == blamed[-1])
        raise UserError(
            f"study {study.name!r}: {len(blamed)} trials failed, as many as are wanted; the last: {last.why}; "
            "when the cause is mended, a larger n_trials continues it, and another study_name begins anew"
        )
    for slot in again(slots, attempts):
        study.add(slot)
    study.want([slot.name for slot in slots])
    return not outstanding(slots, attempts)


def reconcile(context: Context, study: Study) -> None:
    """Give the runs that killed processes left open the state that their trials have."""
    states = {str(one.number): one.state for one in study.attempts()}
    for record in tracking.runs([context.experiment], "tags.`kd.stage` = 'trial'", "RUNNING"):
        if record.tags["kd.study"] != study.name:  # not in the query, which knows no way to write a quote in a name
            continue
        state = states.get(record.tags["kd.trial"], "")
        if state in STATUS:
            tracking.end(record.run_id, STATUS[state], "killed: its process is gone" if state == "failed" else state)


def tally(study: Study, slots: Sequence[Slot]) -> dict[str, int]:
    """Count what a study has come to: complete, pruned, failed."""
    attempts = study.attempts()
    done = ended(slots, attempts)
    counted = {state: sum(one.state == state for one in done) for state in ("complete", "pruned")}
    return {**counted, "failed": sum(one.state == "failed" for one in attempts)}
