"""A training that two cells share is done once, and the time left is told by what was timed."""

import pytest

from kd.config import StudyConfig
from kd.run.execute import Where
from kd.sweep import study
from kd.sweep.cells import Result, cell_of
from kd.sweep.study import TimeLeft, Training, _for_teacher, _one_a_teacher

CONFIG = StudyConfig(design="d.yaml")


def cells(*levels):
    return [cell_of(CONFIG, {"objective": "none", **one}) for one in levels]


def carry_out(monkeypatch, todo, keys, failing=()):
    trained = []

    def all_of(cells, where, count):
        for number, cell in cells.items():
            trained.append(cell)
            yield (
                number,
                Result(failure="diverged") if number in failing else Result(f"run {number}", f"models:/{number}"),
            )

    monkeypatch.setattr(study, "carry_out_all", all_of)
    return trained, study.carry_out(todo, [Training(1.0, key) for key in keys], Where("kd"), 1, None)


def test_cells_that_are_the_same_training_are_trained_once_or_two_processes_would_be_at_it(monkeypatch):
    todo = cells({"teacher": "a", "student": "m"}, {"teacher": "b", "student": "m"}, {"teacher": "b"})
    trained, results = carry_out(monkeypatch, todo, ["same", "same", "other"])
    assert trained == [todo[0], todo[2]]
    assert [result.run_id for result in results] == ["run 0", "run 0", "run 2"]


def test_self_training_has_its_own_control_as_teacher_and_fails_with_it(monkeypatch):
    levels = [{"labelled": 5, "seed": 0}, {"labelled": 5, "seed": 1}]
    todo = cells(*levels) + [cell_of(CONFIG, {"objective": "hard", "guide": "control", **one}) for one in levels]
    trained, results = carry_out(monkeypatch, todo, "abcd", failing=(1,))
    assert [cell.config.teacher for cell in trained[2:]] == ["models:/0"]
    assert [result.failure for result in results] == ["", "diverged", "", "its control failed"]


def test_each_teacher_is_trained_once_for_each_number_of_labels_and_not_for_each_student():
    levels = [{"teacher": name, "labelled": count, "student_layers": size}
              for name in ("a", "b") for count in (5, 9) for size in ("1", "2")]  # fmt: skip
    assert len(_one_a_teacher(cells(*levels))) == 2 * 2


def test_a_cell_whose_options_contradict_each_other_is_named():
    with pytest.raises(Exception, match=r"objective=none student=m student_config=c: .*exclude such cells"):
        cells({"student": "m", "student_config": "c.json"})


def test_the_time_left_follows_what_was_timed_and_what_was_finished_before_says_nothing():
    left = TimeLeft(dict(enumerate([10.0, 10.0, 20.0, 20.0])), workers=2, guess=None)
    assert left.words == "an unknown time"
    left.end(0, None)
    assert left.words == "an unknown time"
    left.end(1, 100.0)
    assert left.words == "about 3 min"  # 40 of work, at 10 s each, by two
    assert TimeLeft({0: 10.0}, workers=1, guess=2.0).words == "about 28 s"


def test_where_the_number_of_rows_is_an_axis_each_teacher_has_the_rows_of_its_students():
    todo = cells(*({"objective": kind, "max_train": count} for count in (9, 20) for kind in ("none", "soft")))
    assert [_for_teacher(CONFIG, cell).max_train for cell in _one_a_teacher(todo).values()] == [9, 20]
