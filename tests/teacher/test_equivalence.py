"""A student learns the same whether the teacher is read from disk or runs on every batch: step by step.

The tolerances are those the README states. In float32 the rest is how rows are padded beside one another.
"""

from dataclasses import replace

import pytest
import torch

from kd.base.types import Objective, Setting, Shape
from kd.models.precision import autocast_dtype
from kd.objectives import OBJECTIVES
from kd.teacher import run
from kd.teacher.cache import index
from kd.teacher.run import TeacherPass
from kd.teacher.signal import Wanted, teacher_signal
from kd.training.loop import fit
from tests.tiny import bert
from tests.training.test_loop import RECIPE, TASK, Reports, collate, encoded, job, weights

TOLERANCE = {"float32": 1e-4, "half": 2e-3, "bf16": 3e-2}


def losses(folder, objective, mode, precision="fp32"):
    """Every loss term at every step, and the weights in the end; the teacher is wider than the student."""
    rows = encoded()
    pairs = ((0, 1), (1, 3))
    term = OBJECTIVES[objective](Setting(2.0, 0.5, Shape(2, 16, 2), Shape(4, 24, 2), pairs, pairs))
    contents = Objective((term,) if term else ()).contents
    teacher = bert(seed=1, width=24)
    work = TeacherPass(teacher, rows, collate, TASK, contents, autocast=autocast_dtype(precision))
    signal = teacher_signal(Wanted(precision, len(rows), contents), lambda: work, mode)
    assert (signal.reader is not None) is (mode == "on")
    reports = Reports()
    torch.manual_seed(0)
    made = job(folder, terms=(term,) if term else (), teacher=signal, report=reports)
    fit(made, replace(RECIPE, precision=precision))
    told = {
        (step, name): value
        for step, metrics in reports.training.items()
        for name, value in metrics.items()
        if name.startswith("train/loss_")
    }
    assert len(told) == 6 * (1 + len(made.objective.terms))
    return told, weights(made.model)


KEPT = ("float32", "half", "top", "bf16")


def means_something(objective, kept):
    """Whether an objective compares what is kept: `mse` is of numbers, and the most probable options are none."""
    return (objective, kept) != ("mse", "top")


@pytest.mark.parametrize(
    ("objective", "kept"), [(one, kept) for one in OBJECTIVES for kept in KEPT if means_something(one, kept)]
)
def test_losses_from_the_cache_are_the_online_teachers(tmp_path, objective, kept, monkeypatch):
    if kept == "half":
        monkeypatch.setattr(index, "SMALL", 0)
    if kept == "top":
        monkeypatch.setattr(run, "MANY_OPTIONS", 2)
        monkeypatch.setattr(run, "TOP_K", 1)
    precision = "bf16" if kept == "bf16" else "fp32"
    online, _ = losses(tmp_path / "online", objective, "off", precision)
    cached, _ = losses(tmp_path / "cached", objective, "on", precision)
    tolerance = TOLERANCE.get(kept, TOLERANCE["float32"])
    assert cached == pytest.approx(online, rel=tolerance, abs=tolerance / 10)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_cache_gives_the_same_weights_when_it_is_new_and_when_it_is_read_again(tmp_path, objective):
    _, new = losses(tmp_path / "new", objective, "on")
    _, again = losses(tmp_path / "again", objective, "on")
    assert all(torch.equal(new[name], again[name]) for name in new)
