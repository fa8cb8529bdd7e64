"""Whatever is killed, each slot comes to one result, and nothing is tried for ever."""

import random
from dataclasses import dataclass, field, replace

import pytest

from kd.search.retries import TRIED_AT_MOST, Attempt, Slot, again, counting, due, ended, failures

A, B = {"x": 1}, {"x": 2}


def failed(number, slot, reason, params=None):
    return Attempt(number, slot, "failed", reason, params or {})


def test_of_two_attempts_at_a_slot_the_later_one_is_never_run_while_the_first_may_still_end():
    for state in ("waiting", "running", "complete", "pruned"):
        attempts = [Attempt(4, "a", "waiting"), Attempt(3, "a", state)]
        assert counting(attempts)["a"].number == 3
        assert due(["a"], attempts) == ([3] if state == "waiting" else [])
    assert due(["a"], [failed(3, "a", "lost"), Attempt(4, "a", "waiting")]) == [4]


def test_what_is_not_asked_for_is_not_run_so_a_closed_study_stays_closed():
    waiting = [Attempt(0, "a", "waiting"), Attempt(1, "b", "waiting")]
    assert due([], waiting) == []
    assert due(["b"], waiting) == [1]


def test_a_retry_keeps_the_place_of_its_slot_so_the_order_of_trials_is_that_of_an_unbroken_search():
    attempts = [
        Attempt(0, "0", "complete", "", A), failed(1, "1", "lost", A), Attempt(2, "2", "waiting"),
        Attempt(3, "1", "waiting", "", A),
    ]  # fmt: skip
    assert due(["0", "1", "2"], attempts) == [3, 2]


def test_ended_counts_a_slot_once_and_in_order():
    attempts = [Attempt(0, "b", "pruned"), failed(1, "a", "error"), Attempt(2, "a", "complete")]
    assert [one.number for one in ended([Slot("a"), Slot("b"), Slot("c")], attempts)] == [2, 0]


@pytest.mark.parametrize(
    ("history", "given"),
    [
        ([], None),
        ([("lost", A)], A),
        ([("stopped", A)], A),
        ([("stopped", A)] * 5, A),  # a machine that is shut down every evening
        ([("lost", A), ("stopped", A)], A),
        ([("lost", A), ("lost", A)], None),
        ([("lost", A), ("stopped", A), ("lost", A)], None),
        ([("error", A)], None),
        ([("lost", A), ("error", A), ("lost", B)], B),
        ([("lost", A), ("lost", A), ("stopped", B)], B),
        ([("lost", A), ("lost", {})], A),  # the second was queued twice, and died before it was given any
        ([("error", A), ("stopped", {})], None),
        ([("lost", {})] * 3, None),
    ],
)
def test_a_sampled_slot_always_gets_another_attempt_with_the_parameters_it_had_unless_they_are_to_blame(history, given):
    attempts = [failed(place, "a", *one) for place, one in enumerate(history)]
    assert again([Slot("a")], attempts) == [Slot("a", given)]


@pytest.mark.parametrize(
    ("history", "tried_again"),
    [
        ([], True),
        ([("error", A)], True),
        ([("lost", A)], True),
        ([("lost", A), ("lost", A)], True),
        ([("stopped", A)] * 9, True),
        ([("error", A), ("stopped", A), ("lost", A)], True),
        ([("error", A), ("error", A)], False),
        ([("error", A), ("lost", A), ("lost", A)], False),
        ([("lost", A)] * 4, False),
        ([("error", A), ("error", A), ("stopped", A)], False),  # a third attempt had been queued by another process
    ],
)
def test_fixed_parameters_are_given_up_when_they_are_to_blame_twice_and_never_because_somebody_stopped(
    history, tried_again
):
    attempts = [failed(place, "a", *one) for place, one in enumerate(history)]
    assert again([Slot("a", A)], attempts) == ([Slot("a", A)] if tried_again else [])


def test_a_retry_of_half_fixed_parameters_gets_all_that_were_sampled_beside_them():
    attempts = [failed(0, "a", "stopped", {"x": 1, "y": 7})]
    assert again([Slot("a", A)], attempts) == [Slot("a", {"x": 1, "y": 7})]


@pytest.mark.parametrize(
    ("history", "count"),
    [
        ([("stopped", A)] * 9, 0),
        ([("lost", A)], 0),
        ([("lost", {})] * 9, 0),
        ([("lost", A), ("lost", A)], 1),
        ([("lost", A)] * 4, 2),
        ([("lost", A), ("lost", B)], 0),
        ([("error", {})], 1),
        ([("error", A), ("lost", A), ("error", B)], 2),
    ],
)
def test_only_errors_and_second_deaths_over_the_same_parameters_tell_against_a_search(history, count):
    attempts = [failed(place, "a", *one) for place, one in enumerate(history)]
    assert len(failures([Slot("a")], attempts)) == count
    assert failures([Slot("b")], attempts) == []


def test_points_given_up_do_not_end_a_search_whose_other_points_are_fine():
    slots = [Slot(str(place), {"x": place}) for place in range(4)]
    attempts = [failed(2 * place + which, str(place), "error") for place in range(3) for which in range(2)]
    attempts.append(failed(6, "3", "error"))
    assert len(failures(slots, attempts)) == 3 < len(slots)
    assert again(slots, attempts) == [slots[3]]
    attempts.append(failed(7, "3", "error"))
    assert len(failures(slots, attempts)) == len(slots)
    assert failures(slots, attempts)[-1].number == 7  # the last is the one that is shown


@dataclass
class World:
    """Processes that share one list of attempts, each acting on what it read some time ago."""

    dice: random.Random
    slots: list[Slot]
    flaws: dict[str, float]
    attempts: list[Attempt] = field(default_factory=list)
    views: dict[int, list[Attempt]] = field(default_factory=dict)
    run: list[int] = field(default_factory=list)
    sampled: int = 0

    def change(self, number, **what):
        before = self.attempts[number]
        assert before.state in ("waiting", "running"), "an end was changed"
        self.attempts[number] = replace(before, **what)

    def look(self, process):
        self.views[process] = list(self.attempts)

    def lead(self, process):
        """Queue what is missing by what this process saw; another leader may have done so since."""
        for slot in again(self.slots, self.views.get(process, [])):
            self.attempts.append(Attempt(len(self.attempts), slot.name, "waiting", "", slot.fixed or {}))
            if self.dice.random() < self.flaws["leader dies"]:
                break

    def work(self, process):
        for number in due([slot.name for slot in self.slots], self.views.get(process, [])):
            if self.attempts[number].state == "waiting":  # what the storage decides for one process alone
                self.begin(number)
                return

    def begin(self, number):
        mine = self.attempts[number]
        lower = [one for one in self.attempts if one.slot == mine.slot and one.number < number]
        assert all(one.state == "failed" for one in lower), "a surplus was run"
        self.run.append(number)
        self.change(number, state="running")
        if self.dice.random() > self.flaws["dies unsampled"]:
            (wanted,) = again([Slot(mine.slot)], lower)
            self.sampled += 1
            self.change(number, params=mine.params or wanted.fixed or {"x": self.sampled})

    def end(self, number):
        fate = self.dice.random()
        for reason in ("lost", "stopped", "error"):
            fate -= self.flaws[reason]
            if fate < 0:
                self.change(number, state="failed", reason=reason)
                return
        self.change(number, state=self.dice.choice(["complete", "complete", "pruned"]))

    def step(self):
        process = self.dice.randrange(4)
        running = [one.number for one in self.attempts if one.state == "running"]
        act = self.dice.choice(["look", "look", "lead", "work", "end", "end"])
        if act == "end" and running:
            self.end(self.dice.choice(running))
        elif act != "end":
            getattr(self, act)(process)

    def open_slots(self):
        done = {one.slot for one in ended(self.slots, self.attempts)}
        return [slot for slot in self.slots if slot.name not in done]


def history(attempts, slot):
    return [one for one in attempts if one.slot == slot.name]


@pytest.mark.parametrize("seed", range(400))
def test_whoever_dies_and_however_many_lead_each_slot_ends_once_or_is_given_up_for_a_reason(seed):
    dice = random.Random(seed)
    slots = [
        Slot(str(place), {"x": -1 - place} if dice.random() < 0.3 else None) for place in range(dice.randint(1, 6))
    ]
    names = ("lost", "stopped", "error", "leader dies", "dies unsampled")
    world = World(dice, slots, {name: dice.random() * 0.28 for name in names})
    for _ in range(3000):
        world.step()
        missing = again(slots, world.attempts)
        waiting = [one for one in world.attempts if one.state in ("waiting", "running")]
        if not missing and not waiting:
            break
        if (
            not missing
            and not any(one.state == "running" for one in waiting)
            and not due([slot.name for slot in slots], world.attempts)
        ):
            break  # all that waits is surplus
    else:
        pytest.fail("it never came to an end")

    assert len(world.run) == len(set(world.run)), "an attempt was run twice"
    for slot in slots:
        tried = history(world.attempts, slot)
        results = [one for one in tried if one.state in ("complete", "pruned")]
        blame = failures([Slot(slot.name)], tried)
        if slot in world.open_slots():
            assert slot.fixed is not None
            assert not results
            assert len(blame) >= TRIED_AT_MOST
            assert failures([slot], tried) == [blame[-1]]
        else:
            assert len(results) == 1, "two results for one trial asked for"
            assert results[0] == ended([slot], world.attempts)[0]
        assert not any(one.reason == "stopped" for one in blame)
        if slot.fixed is not None:
            assert all(one.params == slot.fixed for one in tried)
        kept = None
        for one in [one for one in tried if one.number in world.run]:
            assert not kept or not one.params or one.params == kept, "parameters were thrown away that nobody blamed"
            kept = None if one in blame else one.params or kept
    assert len(ended(slots, world.attempts)) + len(world.open_slots()) == len(slots)
    assert len(failures(slots, world.attempts)) <= len([one for one in world.attempts if one.state == "failed"])


def test_the_simulation_is_hard_enough_to_mean_something():
    """Over the seeds above: surplus attempts, second deaths, given-up points and unsampled deaths all occur."""
    seen = {"surplus": 0, "second death": 0, "given up": 0, "unsampled": 0}
    for seed in range(80):
        dice = random.Random(seed)
        slots = [Slot(str(place), {"x": -1 - place} if dice.random() < 0.3 else None) for place in range(4)]
        world = World(dice, slots, dict.fromkeys(("lost", "stopped", "error", "leader dies", "dies unsampled"), 0.25))
        for _ in range(300):
            world.step()
        seen["surplus"] += any(
            one.state == "waiting" for one in world.attempts if one not in counting(world.attempts).values()
        )
        blame = failures([Slot(slot.name) for slot in slots], world.attempts)
        seen["second death"] += any(one.reason == "lost" for one in blame)
        seen["given up"] += any(failures([slot], world.attempts) for slot in slots if slot.fixed)
        seen["unsampled"] += any(one.reason == "lost" and not one.params for one in world.attempts)
    assert min(seen.values()) >= 10, seen
