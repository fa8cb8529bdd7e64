"""Each phase of a comparison may be trained in its own way, but no distilled student unlike its control."""

import pytest

from kd.commands import main
from kd.config import CascadeConfig, DistillConfig, MainConfig, StudentConfig, StudyConfig, TeacherConfig, narrowed
from kd.run import teacher
from kd.run.execute import Outcome, Where


@pytest.fixture
def trained(monkeypatch):
    """The options of each teacher that would be trained."""
    found = []

    def train(plan, options, where):
        found.append(options)
        return Outcome("run", "models:/t/1", reused=False)

    monkeypatch.setattr(teacher, "plan", lambda config, rows: type("Plan", (), {"model": None})())
    monkeypatch.setattr(teacher.student, "require_shape", lambda config, rows, plan: None)
    monkeypatch.setattr(teacher, "train", train)
    monkeypatch.setattr(teacher, "register", lambda outcome, options, rows: ("t", 1))
    return found


@pytest.mark.parametrize("kind", [MainConfig, StudyConfig, CascadeConfig])
def test_its_own_epochs_and_learning_rate_are_the_teachers_and_never_the_students(kind, trained):
    more = {"design": "d.yaml"} if kind is StudyConfig else {}
    config = kind(epochs=7, learning_rate=3e-4, teacher_epochs=2, teacher_learning_rate=2e-5, **more)
    assert teacher.finished(config, None, Where("kd")) == "models:/t/1"
    assert trained == [narrowed(TeacherConfig, config, epochs=2, learning_rate=2e-5)]
    assert (config.epochs, config.learning_rate) == (7, 3e-4)


def test_left_out_they_are_the_students(trained):
    config = MainConfig(epochs=7, learning_rate=3e-4)
    teacher.finished(config, None, Where("kd"))
    assert (trained[0].epochs, trained[0].learning_rate) == (7, 3e-4)


@pytest.mark.parametrize(
    ("own", "wanted"),
    [
        ({}, [(7, 3e-4), (7, 3e-4)]),
        ({"distill_epochs": 7, "distill_learning_rate": 3e-4}, [(7, 3e-4), (7, 3e-4)]),
        ({"distill_epochs": 2}, [(7, 3e-4), (2, 3e-4), (2, 3e-4)]),
        ({"distill_learning_rate": 1e-3}, [(7, 3e-4), (7, 1e-3), (7, 1e-3)]),
        ({"distill_epochs": 2, "distill_learning_rate": 1e-3}, [(7, 3e-4), (2, 1e-3), (2, 1e-3)]),
    ],
)
def test_the_last_student_without_a_teacher_is_trained_as_the_distilled_one_is_else_steps_would_pass_for_a_gain(
    own, wanted, capsys
):
    config = MainConfig(epochs=7, learning_rate=3e-4, **own)
    trained = [narrowed(kind, config, **more) for kind, more in main._students(config)]
    assert [(one.epochs, one.learning_rate) for one in trained] == wanted
    assert [type(one) for one in trained] == [StudentConfig] * (len(wanted) - 1) + [DistillConfig]
    main._say_of_control(config)
    said = capsys.readouterr().out
    assert ("the verdict is against that" in said.replace("\n", " ")) == (len(wanted) == 3)
