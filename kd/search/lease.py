"""A trial that one process runs: which process that is, its signs of life and reports, and its one end."""

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.trial import TrialState

from kd.base.console import say
from kd.base.types import Pruned
from kd.search.retries import Reason

HEARTBEAT_S = 10
GRACE_S = 60
"""Without a sign of life for so long a trial is taken for dead; on the same machine its process is looked for."""
SLOT, WORKER, LEASE, REASON, TEXT = (f"kd.{name}" for name in ("slot", "worker", "lease", "reason", "error"))


class Superseded(Exception):
    """Another process took the trial for dead and ended it."""


@dataclass(frozen=True)
class RunningTrial:
    """A trial that this process runs; what changes it raises Superseded where it is not this process's own any more."""

    inner: optuna.trial.Trial
    slot: str

    @property
    def number(self) -> int:
        """The attempt's number."""
        return self.inner.number

    @contextmanager
    def alive(self) -> Iterator[None]:
        """Give signs of life meanwhile."""
        beat(self.inner.storage, self.inner._trial_id)
        over = threading.Event()
        thread = threading.Thread(target=self._beat_until, args=(over,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _beat_until(self, over: threading.Event) -> None:
        while not over.wait(HEARTBEAT_S):
            try:
                beat(self.inner.storage, self.inner._trial_id)
            except Exception as error:  # it tries again; the trial itself reports what is wrong with the storage
                say(f"Warning: no sign of life written for trial {self.number}: {error}")

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Turn Optuna's refusal to change a trial that has ended into what it means here."""
        try:
            yield
        except optuna.exceptions.UpdateFinishedTrialError as error:
            raise Superseded(f"trial {self.number} was taken for dead and is run again elsewhere") from error

    def require(self) -> None:
        """Make sure that the trial is still this process's own."""
        storage, trial_id = self.inner.storage, self.inner._trial_id
        with self._held():
            storage.check_trial_is_updatable(trial_id, storage.get_trial(trial_id).state)

    def note(self, **what: Any) -> None:
        """Keep something with the trial."""
        with self._held():
            for name, value in what.items():
                self.inner.set_user_attr(name, value)

    def report(self, value: float, step: int, last: bool) -> None:
        """Report a validation; raises Pruned where others had done better, but never at the last step."""
        if len(self.inner.study.directions) > 1:
            return  # Optuna has no pruning there
        with self._held():
            self.inner.report(value, step)
        if not last and self.inner.should_prune():
            self._end(TrialState.PRUNED)
            raise Pruned(f"trial {self.number} at {value:.4g} after {step} epochs, when others had done better")

    def complete(self, values: Sequence[float], excess: Mapping[str, float]) -> None:
        """End the trial with its values and by how much each constraint is exceeded (0 or less: kept)."""
        with self._held():
            for name, value in excess.items():
                self.inner.set_constraint(name, value)
        self._end(TrialState.COMPLETE, values)

    def fail(self, reason: Reason, text: str) -> None:
        """End the trial as failed."""
        with contextlib.suppress(Superseded):  # it has failed already
            self.note(**{REASON: reason, TEXT: text})
            self._end(TrialState.FAIL)

    def _end(self, state: TrialState, values: Sequence[float] | None = None) -> None:
        with self._held():
            ended = self.inner.study.tell(self.inner, values, state, skip_if_finished=True)
            if ended.state != state:
                raise optuna.exceptions.UpdateFinishedTrialError


def beat(storage: BaseStorage, trial_id: int) -> None:
    """Give a sign of life of a trial; a database stamps it with its own clock, a file has none."""
    with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):  # it says so when it ends the trial
        if isinstance(storage, BaseHeartbeat):
            storage.record_heartbeat(trial_id)
        else:
            storage.set_trial_user_attr(trial_id, LEASE, time.time() + GRACE_S)
