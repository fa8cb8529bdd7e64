"""Workers never outlive what started them, a dead one never takes work with it, and none gets another's share."""

import os
import signal
import subprocess
import sys
import time
from multiprocessing.connection import wait
from pathlib import Path

import psutil
import pytest

from kd.base.types import UserError
from kd.sweep import cells as module
from kd.sweep import workers as loop
from kd.sweep.cells import Result, carry_out_all
from kd.sweep.workers import SAID_WHY, share, workers
from tests.sweep.working import answer, asked, idle

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Give a busy machine the time to end a process."""
    monkeypatch.setattr(loop, "LAST_S", 120)


def gone(number, seconds=120):
    until = time.monotonic() + seconds
    tasks = Path(f"/proc/{number}/task")  # of a killed process, threads may end after it looks like one that ended
    while psutil.pid_exists(number) and (
        psutil.Process(number).status() != psutil.STATUS_ZOMBIE or len([*tasks.glob("*")]) > 1
    ):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def test_workers_that_have_nothing_left_to_do_end_by_themselves_and_leave_the_environment_as_it_was():
    environment = dict(os.environ)
    with workers(2, answer, ()) as started:
        processes = [worker.process for worker in started.at.values()]
        answers = [asked(worker) for worker in started.at.values()]
    assert len({number for number, _, _ in answers}) == 2
    assert [threads for _, threads, _ in answers] == [share(place, 2)["OMP_NUM_THREADS"] for place in (0, 1)]
    assert [process.exitcode for process in processes] == [0, 0]
    assert dict(os.environ) == environment


def test_a_worker_that_is_sent_nothing_sees_that_all_is_done():
    with workers(1, idle, ()) as started:
        (process,) = (worker.process for worker in started.at.values())
    assert process.exitcode == 0


def test_a_worker_that_dies_is_noticed_and_another_one_takes_its_place():
    with workers(1, answer, ()) as started:
        first, *_ = asked(started.at[0])
        started.at[0].pipe.send("die")
        assert wait([started.at[0].pipe], 120)
        assert started.exit_code(0) == -signal.SIGKILL
        assert started.dead() == {0: -signal.SIGKILL}
        started.start(0)
        assert started.dead() == {}
        assert asked(started.at[0])[0] != first


def test_a_mistake_of_the_user_has_an_exit_code_of_its_own_so_that_it_is_not_repeated_for_ever(capfd):
    with workers(1, answer, ()) as started:
        started.at[0].pipe.send("mistake")
        assert started.exit_code(0) == SAID_WHY
    assert "error: no such thing" in capfd.readouterr().err


def test_an_error_of_the_process_that_started_them_ends_them():
    seen = []

    def fail():
        with workers(1, answer, ()) as started:
            seen.append(asked(started.at[0])[0])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert gone(seen[0])


def test_workers_of_a_process_that_was_killed_end_with_it():
    code = (
        "import time\n"
        "from tests.sweep.working import answer, asked\n"
        "from kd.sweep.workers import workers\n"
        "with workers(1, answer, ()) as started:\n"
        "    print(asked(started.at[0])[0], flush=True)\n"
        "    time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    number = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    assert gone(number)


def test_a_cell_that_kills_its_worker_fails_alone_and_every_other_is_carried_out_once(monkeypatch):
    monkeypatch.setattr(module, "_train_cells", answer)
    cells = dict(enumerate(["a", "die", "b", "c", "die", "d"]))
    found = dict(carry_out_all(cells, None, 2))
    failed = {number: result.failure for number, result in found.items() if isinstance(result, Result)}
    assert {number: result[-1] for number, result in found.items() if number not in failed} == {
        number: cell for number, cell in cells.items() if cell != "die"
    }
    assert failed == dict.fromkeys((1, 4), "its process ended with exit code -9")


def test_a_worker_that_is_killed_between_two_cells_is_replaced_and_no_cell_fails(monkeypatch):
    monkeypatch.setattr(module, "_train_cells", answer)
    found = {}
    for number, result in carry_out_all(dict(enumerate("abcd")), None, 2):
        if not found:
            os.kill(result[0], signal.SIGKILL)
            assert gone(result[0])
        found[number] = result[-1]
    assert found == dict(enumerate("abcd"))


def test_a_store_that_is_away_ends_a_study_and_does_not_fail_cell_after_cell(monkeypatch):
    monkeypatch.setattr(module, "_train_cells", answer)
    with pytest.raises(UserError, match="the same command continues"):
        list(carry_out_all(dict(enumerate(["mistake", "a", "b"])), None, 2))
