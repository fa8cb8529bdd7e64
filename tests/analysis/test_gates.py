"""A gate passes only on a measured figure on its right side; a drop is bounded over whole groups of examples."""

import math

import numpy as np
import pandas as pd
import pytest

from kd.analysis.gates import Observed, decide, drop, largest_difference


def one(name, value, threshold, higher=True):
    return decide({name: threshold}, {name: Observed(value, "the figure")}, {}, higher)


@pytest.mark.parametrize(
    ("name", "higher", "passing", "failing"),
    [
        ("min_metric", True, 0.9, 0.8),
        ("min_metric", False, 0.8, 0.9),
        ("min_agreement", True, 0.9, 0.8),
        ("min_agreement", False, 0.9, 0.8),
        ("allowed_drop", True, 0.8, 0.9),
        ("allowed_drop", False, 0.8, 0.9),
        ("max_ece", False, 0.8, 0.9),
        ("latency_budget_ms", True, 0.8, 0.9),
    ],
)
def test_each_gate_reads_its_figure_in_the_right_direction(name, higher, passing, failing):
    assert one(name, passing, 0.85, higher).passes
    assert not one(name, failing, 0.85, higher).passes
    assert one(name, 0.85, 0.85, higher).passes


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_a_figure_that_was_not_measured_never_passes_a_gate(value):
    decision = one("max_ece", value, 1.0)
    assert not decision.passes
    assert "not measured" in decision.reason
    assert decision.gates[0].figure is None


def test_a_gate_that_does_not_apply_passes_and_says_why():
    decision = decide({"allowed_drop": 0.01}, {}, {"allowed_drop": "no champion yet"}, True)
    assert decision.passes
    assert decision.gates[0].figure is None
    assert "no champion yet" in decision.gates[0].words


def test_one_failing_gate_among_many_refuses_and_the_reason_names_it_and_by_how_much():
    figures = {"min_metric": Observed(0.9, "test/accuracy"), "max_ece": Observed(0.3, "calibration/ece")}
    decision = decide({"min_metric": 0.8, "max_ece": 0.1}, figures, {}, True)
    assert not decision.passes
    assert "max_ece" in decision.reason
    assert "0.2 over" in decision.reason
    assert "min_metric" not in decision.reason


def test_without_gates_it_passes_and_says_that_none_was_asked():
    decision = decide({}, {}, {}, True)
    assert decision.passes
    assert decision.reason == "no gate was given"


def predictions(right, groups=None):
    ids = [str(i) for i in range(len(right))]
    return pd.DataFrame({"example_id": ids, "group": groups or ids, "right": np.asarray(right, dtype=float)})


def share(table):
    return float(table["right"].mean())


def test_a_drop_is_positive_where_the_candidate_is_worse_and_its_bound_lies_above_it():
    draw = np.random.default_rng(0)
    better, worse = predictions(draw.random(400) < 0.9), predictions(draw.random(400) < 0.7)
    lost = drop(worse, better, share, higher_is_better=True)
    assert lost.mean == pytest.approx(share(better) - share(worse))
    assert lost.at_most > lost.mean > 0
    gained = drop(better, worse, share, higher_is_better=True)
    assert gained.mean == -lost.mean
    assert gained.at_most < 0
    assert drop(worse, better, share, higher_is_better=False).mean == -lost.mean


def test_a_model_held_against_itself_loses_exactly_nothing():
    table = predictions([1, 0, 1, 1] * 20)
    assert drop(table, table, share, True) == drop(table.copy(), table, share, False)
    assert drop(table, table, share, True).at_most == 0.0


def test_examples_of_one_group_count_once_so_many_copies_do_not_make_a_drop_certain():
    draw = np.random.default_rng(1)
    ours, theirs = draw.random(20) < 0.6, draw.random(20) < 0.7
    groups = [str(i // 50) for i in range(1000)]
    alone = drop(predictions(ours), predictions(theirs), share, True)
    copied = drop(predictions(np.repeat(ours, 50), groups), predictions(np.repeat(theirs, 50), groups), share, True)
    falsely = drop(predictions(np.repeat(ours, 50)), predictions(np.repeat(theirs, 50)), share, True)
    assert copied.at_most == pytest.approx(alone.at_most, abs=0.05)
    assert falsely.at_most - falsely.mean < 0.5 * (copied.at_most - copied.mean)


def test_predictions_of_other_examples_are_never_paired():
    table = predictions([1, 0, 1])
    with pytest.raises(ValueError, match="same examples"):
        drop(table, table.iloc[::-1].reset_index(drop=True), share, True)


@pytest.mark.parametrize(
    ("expected", "got", "gap"),
    [
        ([{"label": "a", "score": 0.5}], [{"label": "a", "score": 0.75}], 0.25),
        ([{"label": "a"}], [{"label": "b"}], math.inf),
        ([1, 2], [1], math.inf),
        ({"a": 1}, {"b": 1}, math.inf),
        ([1.0], [math.nan], math.inf),
        ([1], [True], math.inf),
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 2.5}]}, 0.5),
        ([], [], 0.0),
        (None, None, 0.0),
    ],
)
def test_answers_differ_by_their_largest_number_or_wholly(expected, got, gap):
    assert largest_difference(expected, got) == gap
