"""Which process speaks for all is read from the environment that torchrun sets; without it there is one process."""

import subprocess
import sys

import pytest

from kd.base.ranks import is_main, rank, world


@pytest.mark.parametrize("absent", [None, ""])
def test_without_a_launcher_one_process_speaks_for_itself(monkeypatch, absent):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False) if absent is None else monkeypatch.setenv(name, absent)
    assert (rank(), world(), is_main()) == (0, 1, True)


def test_of_several_processes_the_first_of_all_machines_alone_speaks(monkeypatch):
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert (rank(), world(), is_main()) == (2, 4, False)
    monkeypatch.setenv("RANK", "0")
    assert is_main()


def test_nothing_heavy_is_loaded_to_find_out():
    code = "import sys, kd.base.ranks; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
