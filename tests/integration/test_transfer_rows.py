"""Few labels and much text, from the command line to the verdict. Last by name: it registers versions."""

import shlex
from dataclasses import dataclass

import pytest

from tests.integration.conftest import RECIPE, write_rows

pytestmark = pytest.mark.integration

SEED = "11"
DESIGN = """
title: Few labels
base: {student_layers: 1, transfer_confidence: 0.1}
axes:
  labelled: [8, 12]
  transfer: [rest]
  objective: [soft, hard]
  guide: [teacher, control]
  seed: [0]
exclude:
  - {objective: soft, guide: control}
  - {objective: hard, guide: teacher}
"""


@dataclass(frozen=True)
class Few:
    """A teacher of few labels, and its students."""

    teacher: str
    distilled: object
    control: object
    self_trained: object
    told: str


def options(project, *more):
    return ("--dataset", project.data, *RECIPE, "--labelled", "12", "--experiment", "again", "--seed", SEED, *more)


def only(project, **tags):
    (run,) = [run for run in project.runs(seed=SEED, **tags) if run.data.params.get("labelled") == "12"]
    return run


@pytest.fixture(scope="module")
def few(project) -> Few:
    """Its students find the newest teacher of these labels, also where there is one of all labels."""
    taught = project.run("teacher", *options(project, "--teacher", project.weights))
    assert taught.code == 0, taught.err[-2000:]
    told = project.run("distill", *options(project, "--transfer", "rest"))
    assert told.code == 0, told.err[-2000:]
    command = next(line for line in told.out.splitlines() if "still to be trained" in line)
    control = project.run("student", *shlex.split(command.partition(" kd student ")[2]))
    assert control.code == 0, control.err[-2000:]
    distilled, student = only(project, role="distilled"), only(project, role="student")
    teacher = distilled.data.tags["kd.teacher"]
    words = ("--teacher", f"runs:/{student.info.run_id}/model", "--student", teacher, "--student_layers", "2")
    again = project.run("distill", *options(project, *words, "--objective", "hard", "--transfer", "rest"))
    assert again.code == 0, again.err[-2000:]
    (taught_by_control,) = [run for run in project.runs(seed=SEED, role="distilled") if run.data.params.get("student")]
    return Few(teacher, distilled, student, taught_by_control, told.out)


def test_teacher_control_and_student_have_the_same_labels_and_the_student_all_the_text(few):
    assert few.distilled.data.tags["kd.dataset_digest"] == few.control.data.tags["kd.dataset_digest"]
    assert "kd.teacher_labels" not in few.distilled.data.tags
    assert few.control.data.params["labelled_rows"] == few.distilled.data.params["labelled_rows"] == "12"
    assert few.distilled.data.params["transfer_rows"] == "36"
    assert "transfer_rows" not in few.control.data.params
    assert int(few.distilled.data.params["steps"]) == 2 * 6
    assert int(few.control.data.params["steps"]) == 2 * 2
    assert "give both the same epoch_rows" in few.told


def test_both_the_distilled_and_the_self_trained_student_are_held_against_the_control(few):
    for run in (few.distilled, few.self_trained):
        assert run.data.tags["kd.control_arm"] == few.control.data.tags["kd.arm"]
    assert few.distilled.data.tags["kd.arm"] != few.self_trained.data.tags["kd.arm"]
    assert few.distilled.data.params["layers"] == few.self_trained.data.params["layers"]
    assert few.control.data.params["layers"] == few.self_trained.data.params["layers"]


def test_a_teacher_of_all_labels_is_warned_of(project, compared, few):
    words = ("--teacher", f"runs:/{compared.teacher}/model", "--transfer", "rest")
    done = project.run("distill", *options(project, *words))
    assert done.code == 0, done.err[-2000:]
    assert done.out.count("was trained on other labels (48) than the 12") == 1
    runs = [run for run in project.runs(seed=SEED, role="distilled") if "kd.teacher_labels" in run.data.tags]
    assert [run.data.tags["kd.teacher_labels"] for run in runs] == ["48"]


def test_a_study_trains_a_teacher_for_each_number_of_labels_and_lets_controls_teach(project):
    path = project.folder / "few.yaml"
    path.write_text(DESIGN, encoding="utf-8")
    words = ("--design", str(path), "--dataset", project.data, "--teacher", project.weights, *RECIPE, "--epochs", "1")
    done = project.run("study", *words)
    assert done.code == 0, done.err[-2000:]
    runs = [run for run in project.runs(study="few") if "kd.arm" in run.data.tags]
    assert len(runs) == 2 * 3
    controls = {run.data.tags["kd.arm"]: run for run in runs if run.data.tags["kd.role"] == "student"}
    assert {run.data.params["labelled_rows"] for run in controls.values()} == {"8", "12"}
    for run in runs:
        if run.info.run_id in {control.info.run_id for control in controls.values()}:
            continue
        control = controls[run.data.tags["kd.control_arm"]]
        assert run.data.params["labelled_rows"] == control.data.params["labelled_rows"]
        own = run.data.params["objective"] == "hard"
        taught_by = (
            project.client.get_logged_model(run.data.tags["kd.teacher"].removeprefix("models:/")) if own else None
        )
        assert (taught_by.source_run_id if taught_by else control.info.run_id) == control.info.run_id
        if not own:
            assert run.data.tags["kd.teacher"] == control.data.tags["kd.teacher"]
    again = project.run("study", *words)
    assert again.code == 0, again.err[-2000:]
    assert "6 of 6 trainings were finished before" in again.out


def test_text_from_a_file_gives_what_is_in_test_away_to_nobody(project, few):
    path = write_rows(project.folder / "more.csv", 30, 77)
    held = (project.folder / "rows" / "test.csv").read_text().splitlines()[1:6]
    path.write_text(
        "text\n" + "\n".join(line.rpartition(",")[0] for line in [*path.read_text().splitlines()[1:], *held])
    )
    words = ("--teacher", few.teacher, "--transfer", str(path), "--transfer_balance", "true", "--epoch_rows", "16")
    done = project.run("distill", *options(project, *words))
    assert done.code == 0, done.err[-2000:]
    assert "30 rows without labels; 5 that are in validation or test were left out" in done.out
    (run,) = [run for run in project.runs(seed=SEED, role="distilled") if run.data.params["transfer_balance"] == "True"]
    assert 0 < int(run.data.params["transfer_rows"]) <= 30
    assert run.data.params["steps"] == "4"


def test_a_teacher_that_is_never_so_sure_is_told_as_soon_as_it_was_asked(project, few):
    words = ("--teacher", few.teacher, "--transfer", "rest", "--transfer_confidence", "1")
    done = project.run("distill", *options(project, *words))
    assert done.code == 2
    assert done.lines[-1].startswith("error: transfer_confidence=1.0")
    assert "none of the 36 transfer rows" in done.lines[-1]
    assert project.running() == []
