"""Studies as several processes open them, and ways to die that need no killing."""

import multiprocessing
import time
from contextlib import closing

import optuna
import sqlalchemy

from kd.search.lease import LEASE, SLOT, WORKER
from kd.search.optuna_study import Sampling
from kd.search.retries import Slot
from kd.search.storage import open_storage, open_study

ELSEWHERE = "far-away boot pid:[1]|1|5.0"
UP = {"quality": True}
HOW = Sampling("random", "none", 3, seed=7)


def study_at(place, name="s", how=HOW, directions=UP, identity=None):
    """Open a study as another process would: with a storage of its own."""
    return open_study(open_storage(place), name, directions, identity or {"space": "one"}, how)


def queue(study, slots):
    """Do what the leading process does."""
    slots = [Slot(str(place)) for place in range(slots)] if isinstance(slots, int) else slots
    study.queue(slots, study.attempts())


def add(study, slot):
    """Queue an attempt at a slot, whatever there is."""
    study.inner.enqueue_trial({}, user_attrs={SLOT: slot})


def done(study, *values):
    """Run one trial a value, or tuple of values."""
    for value in values:
        study.claim().complete(value if isinstance(value, tuple) else (value,), {})


def sign(claim, signature):
    """Have a claim look as if that process held it."""
    claim.inner.storage.set_trial_user_attr(claim.inner._trial_id, WORKER, signature)


def silence(claim, seconds):
    """Have the last sign of life of a claim be so long ago."""
    storage, trial_id = claim.inner.storage, claim.inner._trial_id
    if isinstance(storage, optuna.storages.JournalStorage):
        lease = storage.get_trial(trial_id).user_attrs[LEASE]
        storage.set_trial_user_attr(trial_id, LEASE, lease - seconds)
        return
    with closing(storage._backend.engine.connect()) as connection:
        text = (
            f"UPDATE trial_heartbeats SET heartbeat = datetime('now', '-{seconds} seconds') WHERE trial_id = {trial_id}"
        )
        assert connection.execute(sqlalchemy.text(text)).rowcount == 1
        connection.commit()


def in_processes(count, target, *arguments):
    """Run `target(place, report, *arguments)` in several processes; returns what each reported."""
    context = multiprocessing.get_context("fork")
    reports = [context.SimpleQueue() for _ in range(count)]
    processes = [context.Process(target=target, args=(place, reports[place], *arguments)) for place in range(count)]
    for process in processes:
        process.start()
    until = time.monotonic() + 300
    for process in processes:
        process.join(max(until - time.monotonic(), 0))
        if process.exitcode is None:
            process.kill()
    assert all(not queue.empty() for queue in reports), [process.exitcode for process in processes]
    return [queue.get() for queue in reports]
