"""Which attempts of a search are to be run, and which to be made again: exact whatever is killed, and without a lock.

A slot is one trial that is wanted. An attempt at it is waiting, running, complete, pruned or failed, and has a
number that only rises. Several processes may add attempts at the same time, so a slot can have too many. Of those the
lowest-numbered that did not fail counts, and the others are never run: states never turn back from failed, so everybody
agrees on it without asking.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["waiting", "running", "complete", "pruned", "failed"]
Reason = Literal["", "error", "lost", "stopped"]
ENDED: tuple[State, ...] = ("complete", "pruned")
LOST_TWICE = 2
"""After so many processes died over the same parameters, they are taken for the cause."""
TRIED_AT_MOST = 2
"""So often are fixed parameters tried that turn out to be to blame: there are no others for their slot."""


@dataclass(frozen=True)
class Slot:
    """One trial that is wanted: its name, and its parameters where they are not to be sampled."""

    name: str
    fixed: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Attempt:
    """One attempt at a slot, and what it came to.

    Attributes:
        number: in the order of being added.
        slot: name of its slot.
        state: how far it is.
        reason: why it failed: an error of its own, a process that died, or one that was stopped by a signal.
        params: what it was given; empty where it has not been sampled yet.
        values: one a direction, where it is complete.
        feasible: whether it kept every constraint.
        notes: what was noted on it.
        why: it failed, in one line.
        seconds: how long it took, where it has ended.
    """

    number: int
    slot: str
    state: State
    reason: Reason = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    values: tuple[float, ...] = ()
    feasible: bool = True
    notes: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""
    seconds: float | None = None

    @property
    def over(self) -> bool:
        """Whether it has ended or failed."""
        return self.state not in ("waiting", "running")

    @property
    def run_id(self) -> str:
        """Its run; empty where it had none yet."""
        return str(self.notes.get("run_id", ""))


def first(attempts: Iterable[Attempt]) -> dict[str, Attempt]:
    """Return by slot the first of its attempts."""
    return {one.slot: one for one in sorted(attempts, key=lambda one: one.number, reverse=True)}


def counting(attempts: Iterable[Attempt]) -> dict[str, Attempt]:
    """Return by slot the attempt that counts: the first that did not fail."""
    return first(one for one in attempts if one.state != "failed")


def due(wanted: Collection[str], attempts: Sequence[Attempt]) -> list[int]:
    """Return the numbers of the attempts that wait to be run for the wanted slots.

    The slot that was queued first comes first: another attempt at it is not put behind all that was queued meanwhile,
    so a search that was interrupted continues in the order of one that was not.
    """
    queued = first(attempts)
    waiting = [one for name, one in counting(attempts).items() if name in wanted and one.state == "waiting"]
    return [one.number for one in sorted(waiting, key=lambda one: queued[one.slot].number)]


def ended(slots: Sequence[Slot], attempts: Sequence[Attempt]) -> list[Attempt]:
    """Return the attempts that count and are complete or pruned, in the order of the slots."""
    alive = counting(attempts)
    return [alive[slot.name] for slot in slots if slot.name in alive and alive[slot.name].state in ENDED]


def again(slots: Sequence[Slot], attempts: Sequence[Attempt]) -> list[Slot]:
    """Return the slots that need an attempt, with the parameters it is to have.

    A process that was stopped, or died once, leaves its parameters to the next attempt, which continues from the
    checkpoint. After an error, or after a second death, parameters are sampled anew; fixed ones are tried again once,
    and given up when they are to blame again.
    """
    alive = counting(attempts)
    wanted = []
    for slot in slots:
        blamed, params = _blamed(slot, attempts)
        if slot.name not in alive and not _given_up(slot, blamed):
            wanted.append(Slot(slot.name, params))
    return wanted


def outstanding(slots: Sequence[Slot], attempts: Sequence[Attempt]) -> list[Slot]:
    """Return the slots that have neither ended nor been given up."""
    begun = {name for name, one in counting(attempts).items() if one.state not in ENDED}
    return [*(slot for slot in slots if slot.name in begun), *again(slots, attempts)]


def failures(slots: Sequence[Slot], attempts: Sequence[Attempt]) -> list[Attempt]:
    """Return the failed attempts that count against a search, by number; as many as slots are reason to end it.

    Those whose parameters are to blame: errors, and every second death over the same ones. Of fixed parameters only the
    last, once they are given up: the others may still come to something.
    """
    found = []
    for slot in slots:
        blamed, _ = _blamed(slot, attempts)
        if slot.fixed is None:
            found += blamed
        elif _given_up(slot, blamed):
            found.append(blamed[-1])
    return sorted(found, key=lambda one: one.number)


def _given_up(slot: Slot, blamed: Sequence[Attempt]) -> bool:
    return slot.fixed is not None and len(blamed) >= TRIED_AT_MOST


def _blamed(slot: Slot, attempts: Sequence[Attempt]) -> tuple[list[Attempt], Mapping[str, Any] | None]:
    """Return the failed attempts at a slot whose parameters are to blame, and what the next attempt is given."""
    blamed: list[Attempt] = []
    deaths: list[Mapping[str, Any]] = []
    params = slot.fixed
    failed = [one for one in attempts if one.slot == slot.name and one.state == "failed"]
    for attempt in sorted(failed, key=lambda one: one.number):
        params = attempt.params or params
        if attempt.reason == "lost" and attempt.params:  # none are to blame where none were sampled
            deaths.append(attempt.params)
        if attempt.reason == "error" or deaths.count(attempt.params) >= LOST_TWICE:
            blamed.append(attempt)
            deaths.clear()
            params = slot.fixed
    return blamed, params
