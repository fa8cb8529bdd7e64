"""Seeds of a cascade are one arm although each has a teacher of its own."""

from types import SimpleNamespace

import pytest

from kd.sweep.cascade_run import arm_of


def arm(digest, layers, ranked, teacher_arm="a"):
    plan = SimpleNamespace(teacher=SimpleNamespace(located=SimpleNamespace(digest=digest)))
    identity = {"source": digest, "layers": layers, "epochs": 3}
    return arm_of(plan, identity, teacher_arm, ranked)


def test_students_of_two_seeds_are_one_arm_though_their_teachers_rank_layers_otherwise():
    assert arm("x", [0, 2], True) == arm("y", [0, 1], True)
    assert arm("x", [0, 2], True) != arm("x", [0, 1, 2], True)
    assert arm("x", [0, 2], True) != arm("x", [0, 2], True, teacher_arm="b")


@pytest.mark.parametrize("other", [("y", [0, 1], False), ("x", [0, 2], False, "b")])
def test_students_that_start_from_other_layers_or_of_another_kind_of_teacher_are_other_arms(other):
    assert arm("x", [0, 2], False) != arm(*other)
