"""A living process is never taken for dead, and a dead one not for living."""

import os
import subprocess
import time

import psutil
import pytest

from kd.base.processes import host, is_left, mark, myself, vanished


def started(number):
    return psutil.Process(number).create_time() - psutil.boot_time()


def test_this_process_is_there():
    assert vanished(myself()) is False


def test_a_process_that_ended_is_gone(dead):
    assert vanished(dead) is True


def test_another_process_that_got_the_same_number_is_not_taken_for_it():
    place, number, since = myself().rsplit("|", 2)
    assert vanished(f"{place}|{number}|{float(since) - 60}") is True


@pytest.mark.parametrize("moved", [-1, 1, 3600])
def test_setting_the_clock_kills_nobody(monkeypatch, moved):
    signature = myself()
    booted, born = psutil.boot_time(), psutil.Process().create_time()
    monkeypatch.setattr(psutil, "boot_time", lambda: booted + moved)
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: born + moved)
    assert vanished(signature) is False


def test_the_second_to_which_the_boot_is_rounded_kills_nobody(monkeypatch):
    signature, booted = myself(), psutil.boot_time()
    monkeypatch.setattr(psutil, "boot_time", lambda: booted + 1)
    assert vanished(signature) is False


def test_a_process_that_was_killed_and_not_waited_for_is_gone():
    process = subprocess.Popen(["sleep", "60"])
    signature = f"{myself().split('|')[0]}|{process.pid}|{started(process.pid)}"
    assert vanished(signature) is False
    process.kill()
    until = time.monotonic() + 60
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE and time.monotonic() < until:
        time.sleep(0.01)
    assert vanished(signature) is True
    process.wait()


def test_of_a_process_elsewhere_nothing_is_known_even_if_its_number_is_free_or_taken_here():
    for number in (os.getpid(), 2**22 + 1):
        assert vanished(f"far-away boot pid:[1]|{number}|5.0") is None


def test_another_container_of_this_machine_is_elsewhere():
    place, rest = myself().split("|", 1)
    name, boot, _, machine = place.split(" ")
    assert vanished(f"{name} {boot} pid:[1] {machine}|{rest}") is None
    assert vanished(f"{name} {boot} pid:[1]|{rest}") is None  # as an earlier release signed


@pytest.mark.parametrize(
    ("then", "gone"),
    [
        ("box old pid:[1] 4711", True),
        ("box new pid:[2] 4711", None),
        ("box old pid:[1] 4712", None),
        ("other old pid:[1] 4711", None),
        ("box  pid:[1] 4711", None),
        ("box old pid:[1] ", None),
    ],
)
def test_after_a_restart_of_this_machine_and_no_other_its_processes_are_gone(monkeypatch, then, gone):
    monkeypatch.setattr("kd.base.processes._place", lambda: "box new pid:[1] 4711")
    assert vanished(f"{then}|1|5.0") is gone


def test_a_machine_without_a_number_of_its_own_is_not_taken_for_another_that_has_none_either(monkeypatch):
    monkeypatch.setattr("kd.base.processes._place", lambda: "box new pid:[1] ")
    assert vanished("box old pid:[1] |1|5.0") is None


def test_what_bears_the_mark_of_a_living_process_or_of_one_elsewhere_or_none_is_not_left_behind():
    place, _, started = mark().split("-")
    assert not is_left(f"kd-{mark()}-x1y2")
    assert not is_left(f".data.{mark()}.x1y2")
    assert not is_left(f"kd-{'0' * 8}-{2**22 + 1}-{started}-x1y2")
    assert not is_left("kd-12-x1y2")
    assert is_left(f"kd-{place}-{2**22 + 1}-{started}-x1y2")
    assert is_left(f".data.{place}-{os.getpid()}-1.0.x1y2")


def test_host_is_the_name_of_the_machine():
    assert host("far-away boot pid:[1]|1|5.0") == "far-away"
    assert host(myself()) == os.uname().nodename
