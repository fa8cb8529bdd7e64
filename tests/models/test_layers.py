"""Layer maps: what `student_layers` and `match` mean, and that copying puts each layer where the map says."""

from itertools import product
from typing import get_args

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from kd.base.types import MatchName, UserError
from kd.models.layers import (
    LAYER_MAPS,
    MATCHES,
    copy_layers,
    layer_map,
    layer_pairs,
    layer_stack,
    spaced,
    without_last,
)
from tests.tiny import bert


def test_explicit_indices_outside_the_source_are_refused_with_both_sizes():
    assert layer_map((0, 5), "spaced", 6) == (0, 5)
    with pytest.raises(UserError, match=r"^student_layers=0,6: the teacher has 6 layers, so indices go from 0 to 5"):
        layer_map((0, 6), "spaced", 6)


@pytest.mark.parametrize(
    ("name", "six_to_three", "twelve_to_two"),
    [
        ("first", (0, 1, 2), (0, 1)),
        ("last", (3, 4, 5), (10, 11)),
        ("odd", (1, 3, 5), (1, 11)),
        ("even", (0, 2, 4), (0, 10)),
        ("spaced", (0, 2, 5), (0, 11)),
        ("random", (), ()),
    ],
)
def test_named_maps_are_the_documented_ones(name, six_to_three, twelve_to_two):
    assert layer_map(3, name, 6) == six_to_three
    assert layer_map(2, name, 12) == twelve_to_two


@pytest.mark.parametrize(
    ("moved", "count", "kept"),
    [
        ((0.3, 0.0, 0.2, 0.1), 3, (0, 2, 3)),
        ((0.1, 0.2, 0.3, 0.4), 2, (2, 3)),
        ((0.2, 0.1, 0.2, 0.2), 2, (0, 2)),  # of equals the lower
        ((0.0, 0.0, 0.0, 0.0), 2, (0, 1)),
    ],
)
def test_importance_keeps_the_layers_that_are_missed_most_in_their_order(moved, count, kept):
    assert layer_map(count, "importance", 4, moved=lambda: moved) == kept


def test_importance_is_measured_only_where_it_decides():
    def never():
        raise AssertionError("measured")

    for name in LAYER_MAPS:
        if name != "importance":
            layer_map(2, name, 4, moved=never)
    with pytest.raises(UserError, match="at most 4"):
        layer_map(5, "importance", 4, moved=never)


def test_too_many_odd_layers_are_refused_naming_how_many_there_are():
    with pytest.raises(UserError, match=r"^student_layers=4: the teacher has only 3 odd layers; give at most 3$"):
        layer_map(4, "odd", 6)


def test_the_stack_of_layers_is_found_by_name():
    assert layer_stack(bert()) == "bert.encoder.layer"


def test_a_model_with_two_stacks_is_refused_rather_than_half_copied():
    model = bert(layers=3)
    model.other = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    with pytest.raises(UserError, match=r"^student_layers: BertForSequenceClassification has no single list of 3"):
        layer_stack(model)


def test_a_list_of_as_many_parts_inside_the_layers_is_not_taken_for_the_stack():
    model = bert(layers=2)
    for layer in model.bert.encoder.layer:
        layer.parts = nn.ModuleList(nn.Linear(2, 2) for _ in range(2))
    assert layer_stack(model) == "bert.encoder.layer"


def test_copying_into_another_width_is_refused_by_torch_and_not_silent():
    source = bert(layers=4)
    narrow = BertForSequenceClassification(
        BertConfig(
            vocab_size=source.config.vocab_size,
            hidden_size=8,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=64,
        )
    )
    with pytest.raises(RuntimeError, match="size mismatch"):
        copy_layers(source, narrow, (0, 1))


def test_layer_ten_is_not_taken_for_layer_one():
    source, student = bert(layers=12), bert(layers=2, seed=1)
    copy_layers(source, student, (1, 10))
    for place, index in enumerate((1, 10)):
        ours, theirs = student.bert.encoder.layer[place], source.bert.encoder.layer[index]
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


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


@pytest.mark.parametrize(
    ("layers", "of", "expected"),
    [(1, 6, (5,)), (2, 6, (2, 5)), (3, 6, (1, 3, 5)), (6, 6, tuple(range(6))), (4, 2, (0, 0, 1, 1)), (2, 1, (0, 0))],
)
def test_layers_are_paired_by_depth_and_the_last_with_the_last(layers, of, expected):
    assert spaced(layers, of) == tuple(enumerate(expected))
