"""A study trains every cell exactly once, whatever was killed, and its report says what failed and what mattered."""

import os
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from kd.base.judge import MEASURED
from tests import tiny
from tests.integration.conftest import RECIPE, Done
from tests.integration.searches import await_that

pytestmark = pytest.mark.integration

DESIGN = """
title: Objectives and rates
base: {student_layers: 1}
axes:
  objective: [soft, hard]
  learning_rate: [0.01, 0.02, 1.0e+30]
  seed: [0, 1, 2]
exclude:
  - {objective: hard, learning_rate: [0.01, 1.0e+30]}
"""
CELLS = 3 * (3 + 1 + 3)


@dataclass(frozen=True)
class Studied:
    """The study that was killed, what it had finished by then, the one that went on, and one more."""

    before: Counter
    done: Done
    after: Counter
    again: Done

    @property
    def failed(self) -> list[str]:
        """What was told of cells that failed."""
        return [line for line in self.done.out.splitlines() if ": failed: " in line]


def finished(project) -> Counter:
    """Count the finished cells by arm and seed."""
    runs = [run for run in project.runs(study="design") if run.info.status == "FINISHED"]
    return Counter((run.data.tags["kd.arm"], run.data.tags["kd.seed"]) for run in runs if "kd.arm" in run.data.tags)


@pytest.fixture(scope="module")
def words(project):
    path = project.folder / "design.yaml"
    path.write_text(DESIGN, encoding="utf-8")
    recipe = [word for pair in zip(RECIPE[::2], RECIPE[1::2], strict=True) if "rate" not in pair[0] for word in pair]
    return ("--design", str(path), "--dataset", project.data, "--teacher", project.weights, *recipe)


@pytest.fixture(scope="module")
def studied(project, words) -> Studied:
    killed = project.begin("study", *words)
    await_that(lambda: len(finished(project)) >= 3, killed)
    os.kill(killed, signal.SIGKILL)
    project.ended(killed)
    before = finished(project)
    done = project.run("study", *words, "--workers", "2")
    after = finished(project)
    return Studied(before, done, after, project.run("study", *words))


def test_what_was_finished_before_the_kill_is_not_trained_again_and_nothing_is_trained_twice(studied):
    assert studied.done.code == 0, studied.done.err[-2000:]
    assert len(studied.before) >= 3
    assert len(studied.after) == CELLS - len(studied.failed)
    assert set(studied.after.values()) == {1}
    assert f"{len(studied.before)} of {CELLS} trainings were finished before" in studied.done.out


def test_a_cell_that_fails_is_told_and_the_others_go_on(studied):
    assert studied.failed
    assert all("1e+30" in line and "diverged" in line for line in studied.failed)


def test_a_finished_study_trains_nothing_and_reports_again(project, studied):
    assert studied.again.code == 0, studied.again.err[-2000:]
    assert f"{CELLS - len(studied.failed)} of {CELLS} trainings were finished before" in studied.again.out
    assert finished(project) == studied.after


def test_the_report_opens_alone_and_has_verdicts_main_effects_and_what_failed(project, studied):
    run = project.runs(stage="study")[-1]
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    page, text = (folder / name for name in ("report.html", "comparison.md"))
    for words in (page.read_text(encoding="utf-8"), text.read_text(encoding="utf-8")):
        for wanted in ("Main effects", "Failed", "diverged", "learning_rate", "Study: Objectives and rates"):
            assert wanted in words
    assert "http://" not in page.read_text(encoding="utf-8").replace("http://www.w3.org", "")
    assert (folder / "design.yaml").read_text(encoding="utf-8") == DESIGN
    assert run.data.metrics["study/failed"] == len(studied.failed)


def test_cells_are_scored_once_never_registered_and_profiled_once_an_architecture(project, studied):
    cells = [run for run in project.runs(study="design") if run.info.status == "FINISHED" and "kd.arm" in run.data.tags]
    assert all(run.data.tags["kd.test_scored"] == "true" for run in cells)
    assert all("profile/latency_ms_p50" in run.data.metrics for run in cells)
    assert len({run.data.tags[MEASURED] for run in cells}) == 1
    registered = {project.client.get_model_version(*one).run_id for one in project.versions()}
    assert not registered & {run.info.run_id for run in cells}


def test_every_distilled_cell_has_its_control_of_the_same_seed(project, studied):
    cells = [run.data.tags for run in project.runs(study="design") if run.info.status == "FINISHED"]
    arms = {(tags["kd.arm"], tags["kd.seed"]) for tags in cells if "kd.arm" in tags}
    distilled = [tags for tags in cells if tags.get("kd.role") == "distilled"]
    assert distilled
    assert all((tags["kd.control_arm"], tags["kd.seed"]) in arms for tags in distilled)


def test_a_dry_run_prints_the_cells_and_leaves_no_run(project, words, studied):
    count = len(project.runs(stage="study"))
    done = project.run("study", *words, "--dry_run", "true")
    assert done.code == 0
    assert f"{CELLS} trainings" in " ".join(done.out.split())
    assert "earlier trainings on this data; finished ones are not trained again" in done.out
    absent = project.run("study", *words, "--dry_run", "true", "--dataset", "nowhere.csv")
    assert absent.code == 2
    assert "nowhere.csv" in absent.lines[-1]
    assert len(project.runs(stage="study")) == count


@pytest.mark.parametrize(
    ("design", "said"),
    [
        ("axes: {student_layers: [9], seed: [0]}", "student_layers=9"),
        ("axes: {alpha: [2], seed: [0]}", "alpha=2.0 is out of range"),
        ("axes: {temperatur: [2]}", "did you mean temperature"),
        ("axes: [", "is no YAML"),
    ],
    ids=["impossible student", "out of range", "mistyped", "no YAML"],
)
def test_a_design_that_cannot_be_carried_out_is_told_in_one_line_before_any_cell(project, words, studied, design, said):
    path = project.folder / "wrong.yaml"
    path.write_text(design, encoding="utf-8")
    done = project.run("study", *words, "--design", str(path))
    assert done.code == 2
    assert said in done.lines[-1]
    assert not project.runs(study="wrong", stage="student")


TEACHERS = """
title: Teachers and shapes
axes:
  teacher: [DEEP, SHALLOW]
  student_config: [NARROW, ""]
  student: ["", OTHER]
  seed: [0]
exclude:
  - {student_config: NARROW, student: OTHER}
"""


@pytest.fixture(scope="module")
def teachers(project, words) -> Done:
    """A study of two teachers and three students, one of them of its own shape and one that is another model."""
    shallow, other = (str(tiny.saved_bert(project.folder / name, layers=2, seed=7)) for name in ("shallow", "other"))
    narrow = project.folder / "narrow.json"
    narrow.write_text('{"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 12}')
    design = TEACHERS.replace("DEEP", project.weights)
    design = design.replace("SHALLOW", shallow).replace("NARROW", str(narrow)).replace("OTHER", other)
    path = project.folder / "teachers.yaml"
    path.write_text(design, encoding="utf-8")
    without = [word for pair in zip(words[::2], words[1::2], strict=True) if pair[0] != "--teacher" for word in pair]
    return project.run("study", *without, "--design", str(path), "--learning_rate", "0.01", "--workers", "2")


def test_several_teachers_and_shapes_in_one_design_each_distilled_cell_beside_the_control_of_its_own_teacher(
    project, teachers
):
    assert teachers.code == 0, teachers.err[-3000:]
    assert "12/12" in teachers.out
    assert ": failed: " not in teachers.out
    cells = [run.data for run in project.runs(study="teachers") if "kd.arm" in run.data.tags]
    distilled = [one for one in cells if one.tags["kd.role"] == "distilled"]
    controls = {one.tags["kd.arm"]: one for one in cells if one.tags["kd.role"] == "student"}
    assert len({one.tags["kd.teacher"] for one in distilled}) == 2
    assert len({one.tags["kd.arm"] for one in distilled}) == len(distilled) == 2 * 3
    for one in distilled:
        control = controls[one.tags["kd.control_arm"]]
        assert control.params.get("student_config") == one.params.get("student_config")
        if "student" not in one.params:  # it starts from its teacher
            assert control.tags["kd.teacher"] == one.tags["kd.teacher"]
    # another model is the same control under both teachers, and is trained once
    assert len(controls) == len([one for one in cells if one.tags["kd.role"] == "student"]) == 2 * 2 + 1
    assert "the same training as" in teachers.out
    assert len([run for run in project.runs(role="teacher") if run.data.tags["kd.stage"] == "teacher"]) >= 2
