"""Which layers are compared is right for every depth, and an impossible map is refused."""

from itertools import product
from typing import get_args

import pytest

from kd.base.types import MatchName, UserError
from kd.models.matching import MATCHES, layer_pairs, without_last

DEPTHS = [(s, t) for s, t in product(range(1, 25), repeat=2) if s <= t]


def test_every_word_for_a_map_has_one():
    assert list(get_args(MatchName)) == list(MATCHES)


@pytest.mark.parametrize("match", MATCHES)
def test_every_map_rises_on_both_sides_within_both_models_whatever_their_depths(match):
    for student, teacher in DEPTHS:
        if match == "skip" and student == 1:
            continue
        pairs = layer_pairs(match, student, teacher)
        ours, theirs = zip(*pairs, strict=True)
        assert list(ours) == list(range(student - (match == "skip")))
        assert list(theirs) == sorted(set(theirs))
        assert 0 <= theirs[0] <= theirs[-1] < teacher
        assert ((student - 1, teacher - 1) in pairs) == (match != "skip")
        assert (student - 1, teacher - 1) not in without_last(pairs, student, teacher)


@pytest.mark.parametrize(
    ("match", "student", "teacher", "pairs"),
    [
        ("spaced", 6, 12, ((0, 1), (1, 3), (2, 5), (3, 7), (4, 9), (5, 11))),
        ("skip", 6, 12, ((0, 1), (1, 3), (2, 5), (3, 7), (4, 9))),  # PKD-Skip: 2, 4, 6, 8, 10 counted from 1
        ("last", 6, 12, ((0, 6), (1, 7), (2, 8), (3, 9), (4, 10), (5, 11))),
        ("spaced", 4, 6, ((0, 1), (1, 2), (2, 4), (3, 5))),
        ("spaced", 1, 6, ((0, 5),)),
        ("spaced", 3, 3, ((0, 0), (1, 1), (2, 2))),
        (((0, 5), (1, 0)), 2, 6, ((0, 5), (1, 0))),
    ],
)
def test_the_pairs_are_those_of_the_papers(match, student, teacher, pairs):
    assert layer_pairs(match, student, teacher) == pairs


@pytest.mark.parametrize(
    ("match", "student", "teacher", "told"),
    [
        ("spaced", 8, 6, ("match='spaced'", "student has 8 layers", "teacher 6")),
        ("last", 3, 2, ("match='last'", "student has 3 layers", "teacher 2")),
        ("skip", 1, 6, ("match='skip'", "student has 1 layer ", "teacher 6")),
        (((0, 6),), 2, 6, ("match='0:6'", "student has 2 layers", "teacher 6", "0:0 to 1:5")),
        (((2, 0),), 2, 6, ("match='2:0'", "0:0 to 1:5")),
    ],
)
def test_an_impossible_map_is_refused_with_both_sizes(match, student, teacher, told):
    with pytest.raises(UserError) as caught:
        layer_pairs(match, student, teacher)
    assert all(words in str(caught.value) for words in told), caught.value
