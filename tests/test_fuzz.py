"""No mutated input ends in a stack trace, in several lines, or read as something else; `benchmarks.fuzz` tries more."""

import pytest

from benchmarks.fuzz.__main__ import KINDS, kind_named
from benchmarks.fuzz.trial import tried


@pytest.mark.parametrize("name", KINDS)
def test_a_mutated_input_is_read_or_refused_in_one_line(name, tmp_path):
    kind = kind_named(name)
    for number in range(50):
        folder = tmp_path / str(number)
        folder.mkdir()
        done = tried(kind, number, folder)
        assert done.kind != "fault", f"{name} {number}: {done.said}"


def test_a_fault_is_called_one():
    def fails(chance, folder):
        raise ValueError("no words")

    def says(chance, folder):
        return ["two\nlines"]

    assert tried(fails, 0, None).kind == tried(says, 0, None).kind == "fault"
