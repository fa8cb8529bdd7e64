"""A training that two cells share is done once, and the time left is told by what was timed."""

import time
from contextlib import nullcontext

import pytest

from kd import tracking
from kd.base.types import RunRecord, UserError
from kd.config import StudyConfig
from kd.run.execute import Where
from kd.sweep import study
from kd.sweep.cells import Result
from kd.sweep.planning import (
    TimeLeft,
    Training,
    cell_of,
    expected,
    for_teacher,
    one_a_teacher,
    planned,
    teacher_key,
)

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
    assert len(one_a_teacher(cells(*levels))) == 2 * 2


def test_a_cell_whose_options_contradict_each_other_is_named():
    with pytest.raises(Exception, match=r"objective=none student=m student_config=c: .*exclude such cells"):
        cells({"student": "m", "student_config": "c.json"})


def test_self_training_that_cannot_be_is_refused_before_its_teacher_is_trained(tmp_path):
    path = tmp_path / "d.yaml"
    path.write_text("base: {initialisation: importance}\naxes: {guide: [control], objective: [hard], seed: [0]}")
    with pytest.raises(UserError, match=r"^objective=hard guide=control seed=0: guide=control needs a student that"):
        planned(StudyConfig(design=str(path)))


def test_thousands_of_cells_are_planned_and_counted_down_in_seconds(tmp_path):
    sizes, seeds = list(range(1, 101)), list(range(50))
    path = tmp_path / "d.yaml"
    path.write_text(f"axes: {{objective: [soft], epoch_rows: {sizes}, seed: {seeds}}}")
    began = time.process_time()
    _, _, todo = planned(StudyConfig(design=str(path)))
    assert len(todo) == len(one_a_teacher(todo)) * 2 * 100 * 50
    left = TimeLeft(dict.fromkeys(range(100_000), 1.0), workers=1, guess=None)
    for number in range(100_000):
        left.end(number, 1.0)
        assert left.words
    assert time.process_time() - began < 15  # quadratic, the last part alone takes minutes
    assert abs(left.rest) < 1e-6


def run_of(layers, speed, dataset="builtin:apidocs"):
    params, metrics = {"layers": layers} if layers else {}, {"cost/examples_per_s": speed} if speed else {}
    return RunRecord("r", "r", params, metrics, {"kd.dataset": dataset})


@pytest.mark.parametrize(
    ("records", "said"),
    [
        # 2 cells of 3 epochs x 100 rows x 3 at 1 / (100 x 3) s: 3 s each, and 8 s beside
        ([run_of("0,5", 100), run_of("random 2", 100), run_of("", 1), run_of("0,5", None)], "about 22 s by 2 earlier"),
        ([run_of("0,5", 100, "other.csv")], "cannot be said: no student was trained on this data"),
        ([], "cannot be said: no student was trained on this data"),
    ],
)
def test_a_dry_run_estimates_by_trainings_of_the_same_data_or_says_that_it_cannot(monkeypatch, records, said):
    monkeypatch.setattr(tracking, "is_there", lambda: True)
    monkeypatch.setattr(tracking, "reading", lambda _: nullcontext("kd"))
    monkeypatch.setattr(tracking, "runs", lambda *_: records)
    todo = cells({"student_layers": "2"}, {"student_layers": "0,5"})
    assert said in expected(CONFIG, todo, {teacher_key(todo[0]): (100, 0)})


def test_what_a_dry_run_cannot_know_is_said_and_not_counted_as_nothing(monkeypatch):
    monkeypatch.setattr(tracking, "is_there", lambda: True)
    monkeypatch.setattr(tracking, "reading", lambda _: nullcontext("kd"))
    monkeypatch.setattr(tracking, "runs", lambda *_: [run_of("0,5", 100)])
    todo = cells({"student": "m"}, {})
    key = {teacher_key(todo[0]): (100, 0)}
    text = expected(CONFIG, todo, key)
    assert "about 11 s" in text
    assert "1 whose layers are not known yet come on top, so do teachers" in text
    assert "is seen when these are loaded" in expected(CONFIG, todo[:1], key)
    monkeypatch.setattr(tracking, "is_there", lambda: False)
    assert "cannot be said" in expected(CONFIG, todo, key)


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
    assert [for_teacher(CONFIG, cell).max_train for cell in one_a_teacher(todo).values()] == [9, 20]
