"""What a cascade lost is told where it was measured, adds up along the chain, and is no figure where it was not."""

from dataclasses import replace

import pytest

from kd.analysis.statistics import PairedDifference
from kd.report.sections import StepFound, cascade_section, step_cells
from kd.report.tables import MISSING


def lost(mean, examples=0):
    return PairedDifference(mean, mean - 0.01, mean + 0.01, 0.2, 3, examples)


GAIN = PairedDifference(0.004, -0.001, 0.009, 0.1, 3)
STEPS = (
    StepFound("6→4", 0.9, 0.88, 3, lost(0.02), GAIN, "better", 30.0),
    StepFound("4→2", 0.88, 0.885, 3, lost(-0.005), GAIN, "no difference shown", 20.0),
    StepFound("6→4→2", 0.9, 0.885, 3, lost(0.015), seconds=50.0),
    StepFound("6→2", 0.9, 0.87, 3, lost(0.03), GAIN, "too few seeds", 40.0),
)


def told(steps=STEPS):
    return cascade_section("Cascade 6→4→2", steps, "test accuracy", ["first"])


def test_the_sentence_says_what_each_step_lost_and_their_sum_and_not_the_direct_loss_as_a_step():
    lines = told().lines
    assert lines[0] == "first"
    assert lines[1] == "Lost of test accuracy: 6→4 +0.020, 4→2 -0.005, together +0.015; directly +0.030."


def test_a_teacher_that_was_not_scored_here_is_a_dash_and_makes_no_sentence():
    unknown = [replace(step, teacher=None, lost=None) if step.words.startswith("6") else step for step in STEPS]
    found = told(unknown)
    assert found.lines == ("first",)
    rows = step_cells(unknown)
    assert [row[1] for row in rows[1:]] == [MISSING, "0.880", MISSING, MISSING]
    assert [row[3] for row in rows[1:]].count(MISSING) == 3


def test_seconds_that_were_not_measured_are_a_dash_not_a_0():
    rows = step_cells([replace(step, seconds=None) for step in STEPS])
    assert {row[-1] for row in rows[1:]} == {MISSING}


def test_every_row_has_a_cell_for_every_column_and_only_what_has_a_control_has_a_verdict():
    rows = step_cells(STEPS)
    assert {len(row) for row in rows} == {len(rows[0])}
    assert [row[5] for row in rows[1:]] == ["better", "no difference shown", MISSING, "too few seeds"]
    assert [row[4] == MISSING for row in rows[1:]] == [False, False, True, False]


@pytest.mark.parametrize("examples", [0, 400])
def test_an_interval_over_seeds_alone_is_not_said_to_hold_for_new_examples(examples):
    ((_, _, about),) = told([replace(step, lost=lost(0.01, examples)) for step in STEPS]).tables
    assert ("and test examples" in about) == bool(examples)
    assert ("this test set alone" in about) == (not examples)
