"""What speaks against a model is found whatever the verdict says of it, and nothing is said where nothing does."""

from dataclasses import replace

import pytest

from kd.analysis.comparison import SAME_STUDENT
from kd.analysis.doubts import PERFECT, doubts
from kd.analysis.statistics import Interval
from kd.analysis.table import Arm, Table
from kd.base.types import RunRecord

MADE, OTHER = "models:/demo-teacher/1", "models:/demo-teacher/2"
GUIDES = {
    MADE: RunRecord("teacher-0", "teacher", {}, {}, {"kd.arm": "teacher"}),
    OTHER: RunRecord("other-0", "other", {}, {}, {"kd.arm": "other"}),
}


def reaching(label, mean, role="student", rows="rows", teacher=""):
    quality = Interval(mean, None, None, 1)
    return Arm(
        label, label, role, quality, run_ids=(f"{label}-0",), trained_on=(rows,), teachers=(teacher,) if teacher else ()
    )


def said(*arms, higher=True):
    table = Table("t", "d", "test", "digest", "accuracy", higher, SAME_STUDENT, arms)
    return doubts(table, GUIDES)


def sentences(*arms, **more):
    return [doubt.sentence for doubt in said(*arms, **more)]


@pytest.mark.parametrize(("higher", "weak", "strong"), [(True, 0.6, 0.8), (False, 0.8, 0.6)])
def test_who_is_no_better_than_the_best_baseline_of_the_same_rows_is_named_with_both_figures(higher, weak, strong):
    baselines = [reaching("majority", weak, "trivial"), reaching("words", 0.7, "trivial")]
    arms = [reaching("teacher", strong, "teacher"), reaching("first", weak), reaching("tied", 0.7)]
    what = "trained on the same rows, by test accuracy"
    (doubt,) = said(*baselines, *arms, higher=higher)
    assert doubt.sentence == f"No better than words (0.700), {what}: first ({weak:.3f}), tied (0.700)."
    assert doubt.run_ids == ("first-0", "tied-0")
    assert said(*baselines, arms[0], higher=higher) == said(*arms, higher=higher) == ()
    many = [reaching(f"student {place}", weak) for place in range(5)]
    assert sentences(*baselines, *many, higher=higher)[0].endswith(f"student 2 ({weak:.3f}) and 2 more.")
    fewer = [reaching("words of fewer", weak, "trivial", "fewer"), reaching("student of fewer", strong, rows="fewer")]
    assert "of fewer" not in str(said(*baselines, *arms, *fewer, higher=higher))
    behind = reaching("behind", weak, rows="fewer")
    assert sentences(*baselines, arms[1], fewer[0], behind, higher=higher) == [
        f"No better than words (0.700), {what}: first ({weak:.3f}).",
        f"No better than words of fewer ({weak:.3f}), {what}: behind ({weak:.3f}).",
    ]


@pytest.mark.parametrize(("higher", "best"), [(True, 1.0), (False, 0.0)])
def test_where_nothing_can_be_better_no_training_is_advised_and_no_teacher_is_blamed(higher, best):
    baseline, guide = reaching("words", best, "trivial"), reaching("teacher", best, "teacher")
    whole = Table(
        *("t", "d", "test", "digest", "accuracy", higher, SAME_STUDENT),
        (baseline, guide, reaching("student", best, teacher=MADE)),
        bounds=(0.0, 1.0),
    )
    (doubt,) = doubts(whole, GUIDES)
    assert (doubt.sentence[:15], doubt.instead) == ("No better than ", PERFECT)


TEACHER = reaching("teacher", 0.7, "teacher")


@pytest.mark.parametrize("higher", [True, False])
@pytest.mark.parametrize("gap", [0.1, 0.0])
def test_a_teacher_that_is_no_better_than_its_student_speaks_against_all_that_it_taught(gap, higher):
    student = reaching("student", 0.7 + (gap if higher else -gap), teacher=MADE)
    distilled = reaching("distilled", 0.5 if higher else 0.9, "distilled", teacher=MADE)
    (doubt,) = said(TEACHER, student, distilled, higher=higher)
    assert "teacher (0.700) is no better than its student student" in doubt.sentence
    assert doubt.run_ids == ("student-0", "distilled-0")


def test_a_student_that_overtakes_its_teacher_where_the_control_does_not_has_gained_and_is_not_doubted():
    ahead = reaching("distilled", 0.8, "distilled", teacher=MADE)
    assert said(TEACHER, reaching("student", 0.6, teacher=MADE), ahead) == ()
    assert len(said(TEACHER, ahead)) == 1  # without a control there is nothing to say what it gained


def test_a_teacher_is_held_against_its_own_students_alone():
    assert said(TEACHER, reaching("student", 0.9, teacher=OTHER)) == ()
    assert said(TEACHER, reaching("student", 0.9)) == ()
    self_taught = reaching("self-taught", 0.9, "distilled", teacher="runs:/1/model")
    assert said(TEACHER, reaching("student", 0.6, teacher=MADE), self_taught) == ()


def test_a_teacher_trained_again_in_a_newer_run_is_known_by_its_arm():
    newer = replace(TEACHER, run_ids=("teacher-9",))
    assert len(said(newer, reaching("student", 0.9, teacher=MADE))) == 1
