"""A chain becomes its steps, both routes end at the same architecture, and the seeds of a step are one arm."""

from types import SimpleNamespace

import pytest

from kd.config import CascadeConfig
from kd.sweep.cascade import arm_of, chain_in_words, links_of, trainings


def links(chain, **given):
    return links_of(CascadeConfig(chain=chain, **given))


def test_numbers_are_cut_from_the_model_before_them_and_the_direct_route_from_the_teacher():
    first, second, direct = links("6,4,2", initialisation="first")
    assert [one.words for one in (first, second, direct)] == ["6→4", "4→2", "6→2"]
    assert [one.start["student_layers"] for one in (first, second, direct)] == ["4", "2", "2"]
    assert {one.start["student"] for one in (first, second, direct)} == {""}
    assert {one.start["initialisation"] for one in (first, second, direct)} == {"first"}


def test_a_model_in_the_chain_starts_whole_from_its_own_weights_whatever_layers_others_start_from():
    chain = "models:/kd-x-teacher/1,distilbert-base-uncased,./tiny,2"
    first, second, third, direct = links(chain, initialisation="first")
    assert [one.words for one in (first, second, third, direct)] == [
        "teacher 1→distilbert-base-uncased",
        "distilbert-base-uncased→tiny",
        "tiny→2",
        "teacher 1→2",
    ]
    for one, source in ((first, "distilbert-base-uncased"), (second, "./tiny")):
        assert one.start == {"student": source, "student_layers": "", "initialisation": None}
    assert third.start == {"student": "", "student_layers": "2", "initialisation": "first"}


def test_the_direct_route_ends_at_the_architecture_of_the_chain_or_they_could_not_be_compared():
    direct = links("bert,./tiny,2")[-1]
    assert direct.start["student"] == "./tiny"
    assert direct.start["student_layers"] == "2"
    assert links("bert,4,./tiny")[-1].start == {"student": "./tiny", "student_layers": "", "initialisation": None}


def test_the_first_model_is_the_teacher():
    config = CascadeConfig(chain="models:/t/1,m,2")
    assert config.teacher == "models:/t/1"
    assert chain_in_words(config) == "t 1→m→2"
    assert CascadeConfig(chain="6,m,2", teacher="n").teacher == "n"


@pytest.mark.parametrize(("chain", "count"), [("6,4,2", 18), ("m,n,o,2", 24)])
def test_every_step_and_the_direct_route_have_a_control_on_every_seed(chain, count):
    assert trainings(CascadeConfig(chain=chain, seeds="0,1,2")) == count


def test_the_direct_route_has_the_epochs_of_all_steps():
    config = CascadeConfig(chain="m,4,n,2", epochs=5)
    assert [one.options(config, "t", 3).epochs for one in links_of(config)] == [5, 5, 5, 15]


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
