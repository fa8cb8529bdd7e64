"""One Optuna study: the slots that are wanted, what became of them, and who may run what is left."""

import contextlib
import copy
import time
import warnings
from collections.abc import Container, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from kd.base.hashing import text_digest
from kd.base.processes import myself, vanished
from kd.base.types import PrunerName, SamplerName
from kd.search.lease import GRACE_S, LEASE, REASON, SLOT, TEXT, WORKER, RunningTrial, beat
from kd.search.retries import Attempt, Reason, Slot, State, again, due, failures, first

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)

WANTED, IDENTITY = "kd.asked", "kd.identity"
FIXED = "fixed_params"
"""Where Optuna keeps the parameters of a trial that it is not to sample."""
STATES: dict[TrialState, State] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True)
class Sampling:
    """How parameters are sampled and trials pruned; the most epochs a trial may have."""

    sampler: SamplerName = "random"
    pruner: PrunerName = "none"
    most_epochs: int = 1
    seed: int = 0


@dataclass(frozen=True)
class Study:
    """A study, and the ways this project touches it."""

    inner: optuna.Study
    storage: BaseStorage
    how: Sampling

    @property
    def name(self) -> str:
        """The study's name."""
        return self.inner.study_name

    def attempts(self) -> list[Attempt]:
        """Return every attempt of ours so far, in order of number."""
        return [_attempt(frozen) for frozen in self._ours()]

    def _ours(self) -> list[FrozenTrial]:
        return [frozen for frozen in self.inner.get_trials(deepcopy=False) if SLOT in frozen.user_attrs]

    def best(self) -> list[Attempt]:
        """Return the Pareto front of the attempts that keep the constraints; with one direction the best."""
        return [_attempt(frozen) for frozen in self.inner.best_trials if SLOT in frozen.user_attrs]

    def ranked(self) -> list[Attempt]:
        """Return the complete attempts that keep the constraints, best first; of equal ones the slot queued first."""
        sign = -1 if self.inner.directions[0] == StudyDirection.MAXIMIZE else 1
        attempts = self.attempts()
        queued = first(attempts)
        done = [one for one in attempts if one.state == "complete" and one.feasible]
        return sorted(done, key=lambda one: (sign * one.values[0], queued[one.slot].number))

    def queue(self, slots: Sequence[Slot], attempts: Sequence[Attempt]) -> None:
        """Queue what is missing, by the attempts so far, and have nothing else run; no slots close the study."""
        for slot in again(slots, attempts):
            self.inner.enqueue_trial(dict(slot.fixed or {}), user_attrs={SLOT: slot.name})
        wanted = sorted(slot.name for slot in slots)
        if self.inner.user_attrs.get(WANTED) != wanted:
            self.inner.set_user_attr(WANTED, wanted)

    def claim(self) -> RunningTrial | None:
        """Take the first attempt that waits, if there is one; no other process can take it too."""
        known = {frozen.number: frozen for frozen in self._ours()}
        attempts = [_attempt(frozen) for frozen in known.values()]
        for number in due(self.inner.user_attrs.get(WANTED, ()), attempts):
            with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):  # another process was quicker
                if self.storage.set_trial_state_values(known[number]._trial_id, TrialState.RUNNING):
                    return self._signed(known[number], [one for one in attempts if one.number < number])
        return None

    def _signed(self, frozen: FrozenTrial, earlier: Sequence[Attempt]) -> RunningTrial:
        """Return the claim on a trial that has been taken, when others can see by whom, and that he is alive."""
        trial_id, slot = frozen._trial_id, frozen.user_attrs[SLOT]
        beat(self.storage, trial_id)
        self.storage.set_trial_user_attr(trial_id, WORKER, myself())
        (wanted,) = again([Slot(slot)], earlier)
        if wanted.fixed and not _fixed(frozen):  # it was queued before the attempt that left them behind had failed
            self.storage.set_trial_system_attr(trial_id, FIXED, dict(wanted.fixed))
        discarded = len(failures([Slot(slot)], earlier))
        # its own, because Optuna keeps in it what a sampler has seen
        own = _Ordered(self.name, self.storage, self._sampler(f"{slot}/{discarded}"), self.inner.pruner)
        return RunningTrial(optuna.trial.Trial(own, trial_id), slot)

    def _sampler(self, place: str) -> optuna.samplers.BaseSampler:
        """Return a sampler that draws by the search's seed, the slot, and how many parameters it has given up.

        So a slot draws the same again, also after a kill; by TPE, which also goes by what has ended before, if the
        trials are run one after another.
        """
        seed = int(text_digest(f"{self.how.seed}/{place}")[:8], 16)
        if self.how.sampler == "tpe":
            return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)
        return optuna.samplers.RandomSampler(seed=seed)

    def reclaim(self) -> list[int]:
        """Fail the trials whose process is gone; returns their numbers."""
        storage, study_id = self.storage, self.inner._study_id
        silent = storage._get_stale_trial_ids(study_id) if isinstance(storage, BaseHeartbeat) else []
        running = [frozen for frozen in self._ours() if frozen.state == TrialState.RUNNING]
        dead = [frozen for frozen in running if _dead(frozen, silent=frozen._trial_id in silent)]
        for frozen in dead:
            with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):  # another process was quicker
                self.storage.set_trial_state_values(frozen._trial_id, TrialState.FAIL)
        return [frozen.number for frozen in dead]


class _Ordered(optuna.Study):
    """A study as samplers see it: each slot has the number it was first queued with, also where it was run again.

    TPE draws from a mixture of earlier trials in the order of their numbers. (Under Hyperband it reads them itself.)
    """

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        queued: dict[Any, int] = {}
        found = []
        for frozen in super()._get_trials(deepcopy, None, use_cache):
            number = queued.setdefault(frozen.user_attrs.get(SLOT, frozen.number), frozen.number)
            if states is None or frozen.state in states:
                found.append(copy.copy(frozen))
                found[-1].number = number
        return sorted(found, key=lambda frozen: frozen.number)


def _fixed(frozen: FrozenTrial) -> dict[str, Any]:
    return dict(frozen.system_attrs.get(FIXED, {}))


def _attempt(frozen: FrozenTrial) -> Attempt:
    state, notes = STATES[frozen.state], frozen.user_attrs
    reason: Reason = notes.get(REASON, "lost") if state == "failed" else ""
    return Attempt(
        frozen.number,
        notes[SLOT],
        state,
        reason,
        params={**_fixed(frozen), **frozen.params},
        values=tuple(frozen.values) if state == "complete" else (),
        feasible=all(excess <= 0 for excess in frozen.constraints.values()),
        notes=notes,
        why=str(notes.get(TEXT, "")).strip().partition("\n")[0] or "its process is gone",
        seconds=frozen.duration.total_seconds() if frozen.duration else None,
    )


def _dead(frozen: FrozenTrial, silent: bool) -> bool:
    worker = frozen.user_attrs.get(WORKER)
    if worker is None:  # killed between taking the trial and signing it
        started = frozen.datetime_start
        return silent or (started is not None and (datetime.now() - started).total_seconds() > GRACE_S)
    gone = vanished(worker)
    return gone if gone is not None else silent or time.time() > frozen.user_attrs.get(LEASE, float("inf"))
