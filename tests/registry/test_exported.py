"""An exported version is an arm of its own, and what its export cost has the right sign, a bound and a size."""

import math
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from kd.analysis.gates import Drop
from kd.base.types import RunRecord
from kd.config import ExportConfig
from kd.registry.evidence import Version
from kd.registry.exported import described, figures, registered_before, report_drop, show
from kd.tasks.classification.task import Classification

RISING = Classification("text", "", "label", ("bad", "good"))


def predictions(good, label=None, groups=None):
    """Predictions of rows whose truth is `good`, unless said otherwise, from the probability of `good`."""
    good = np.asarray(good, dtype=float)
    label = np.asarray(["good"] * len(good) if label is None else label)
    right = np.where(label == "good", good, 1 - good)
    return pd.DataFrame(
        {
            "example_id": [f"test:{row}" for row in range(len(good))],
            "group": groups or [f"test:{row}" for row in range(len(good))],
            "label": label,
            "prediction": np.where(good > 0.5, "good", "bad"),
            "loss": -np.log(right),
            "score:bad": 1 - good,
            "score:good": good,
            "words": 3,
        }
    )


def compared(before, after, task=RISING):
    return figures(task, {"validation": after, "test": after}, before, RunRecord("run", "name"))


def test_a_metric_that_rises_drops_when_it_is_lower_after_export():
    before = predictions([0.9] * 10)
    metrics, drop = compared(before, predictions([0.9] * 8 + [0.1] * 2))
    assert drop.mean == metrics["export/drop"] == pytest.approx(0.2)
    assert metrics["test/accuracy"] == metrics["export/agreement"] == pytest.approx(0.8)
    assert compared(predictions([0.9] * 8 + [0.1] * 2), before)[1].mean == pytest.approx(-0.2)


def test_a_metric_that_falls_drops_in_quality_when_it_is_higher_after_export():
    falling = SimpleNamespace(
        directions={"loss": False},
        quality=lambda table: {"loss": float(table["loss"].mean())},
        diagnostics=RISING.diagnostics,
        fidelity=RISING.fidelity,
        outcomes=RISING.outcomes,
        wide=RISING.wide,
    )
    worse = compared(predictions([0.9] * 10), predictions([0.6] * 10), falling)[1]
    assert worse.mean == pytest.approx(np.log(0.9 / 0.6))


def test_the_bound_lies_above_the_drop_and_is_wider_where_examples_belong_together():
    before, changed = [0.9] * 200, [0.9] * 180 + [0.1] * 20
    alone = compared(predictions(before), predictions(changed))[1]
    pairs = [f"group:{row // 20}" for row in range(200)]
    grouped = compared(predictions(before, groups=pairs), predictions(changed, groups=pairs))[1]
    assert alone.mean == grouped.mean == pytest.approx(0.1)
    assert alone.mean < alone.at_most < grouped.at_most


def test_what_export_did_not_change_is_exactly_nothing():
    same = predictions([0.9, 0.2, 0.6])
    metrics, drop = compared(same, same)
    assert (drop.mean, drop.at_most) == (0.0, 0.0)
    assert metrics["export/max_difference"] == 0.0
    assert metrics["export/agreement"] == 1.0
    assert metrics["export/right_where_before_wrong"] == metrics["export/wrong_where_before_right"] == 0
    assert not [name for name in metrics if "teacher" in name and name.startswith("export/")]


def test_one_group_cannot_be_resampled_so_the_bound_is_absent():
    one = predictions([0.9, 0.2], groups=["all", "all"])
    metrics, drop = compared(one, one)
    assert drop.at_most is None
    assert "export/drop_at_most" not in metrics


def test_the_difference_is_of_scores_and_not_of_losses_which_have_no_bound():
    metrics, _ = compared(predictions([0.9, 1e-9]), predictions([0.8, 1e-3]))
    assert metrics["export/max_difference"] == pytest.approx(0.1)


def test_a_kept_column_with_missing_numbers_does_not_make_the_difference_unknown_but_a_lost_answer_does():
    before, after = predictions([0.9, 0.2]), predictions([0.8, 0.2])
    kept = [table.assign(age=[40.0, math.nan]) for table in (before, after)]
    assert compared(*kept)[0]["export/max_difference"] == pytest.approx(0.1)
    score = next(name for name in after.columns if name.startswith("score:"))
    after.loc[0, score] = math.nan
    assert not math.isfinite(compared(before, after)[0]["export/max_difference"])


@pytest.mark.parametrize(("value", "warned"), [(0.02, True), (0.01, False), (0.0, False), (-0.5, False)])
def test_only_a_drop_past_what_is_allowed_is_warned_of(value, warned, capsys):
    report_drop("accuracy", Drop(value, value + 0.01), 0.01)
    said = capsys.readouterr().out
    assert ("Warning" in said) == warned
    assert ("kd.export_loses=true" in said) == warned
    assert {0.02: "worse by 0.02", -0.5: "better by 0.5", 0.0: "unchanged"}.get(value, "worse by 0.01") in said


def test_answers_without_numbers_have_no_largest_difference_and_no_column_for_it(capsys):
    def answers(words):
        return pd.DataFrame({"example_id": ["a", "b"], "group": ["a", "b"], "answer": words})

    class Spelling:
        directions: ClassVar = {"right": True}
        figures = ()
        outcomes = ()
        wide = ""
        quality = staticmethod(lambda table: {"right": float((table["answer"] == "yes").mean())})
        diagnostics = staticmethod(lambda validation, test: {})
        fidelity = staticmethod(lambda student, teacher: {})

    metrics, drop = compared(answers(["yes", "no"]), answers(["yes", "yes"]), Spelling)
    assert drop.mean == -0.5
    assert "export/max_difference" not in metrics
    before, after = (RunRecord("id", "n", {}, {"test/right": one}, {"kd.format": "onnx"}) for one in (0.5, 1.0))
    show(Spelling, before, before, after)
    shown = capsys.readouterr().out
    assert "right" in shown
    assert "max difference" not in shown
    assert "agreement" not in shown


TAGS = {"kd.seed": "3", "kd.arm": "a" * 32, "kd.task": "classification"}


@pytest.mark.parametrize(
    ("name", "tags"),
    [
        ("distill soft · 2 layers · seed 3", TAGS),
        ("renamed in the UI", {**TAGS, "kd.label": "distill soft · 2 layers"}),
    ],
)
def test_an_export_is_labelled_as_its_source_with_the_format_whatever_the_source_was_renamed_to(name, tags):
    source = Version("kd-m", "1", RunRecord("run", name, tags=tags), "")
    title, given = described(
        ExportConfig(model="models:/kd-m/1", format="onnx"), source, SimpleNamespace(validation_digest="v")
    )
    assert given["kd.label"] == "distill soft · 2 layers · onnx"
    assert title == "distill soft · 2 layers · onnx · seed 3"
    assert given["kd.arm"] != tags["kd.arm"]


def test_an_export_killed_after_it_had_registered_is_not_registered_twice(monkeypatch):
    made = {"kd.exported_from": "models:/kd-test/1", "kd.format": "onnx"}
    found = [
        SimpleNamespace(version=1, run_id="trained", tags={}),
        SimpleNamespace(version=2, run_id="done", tags=made),
        SimpleNamespace(version=3, run_id="killed", tags=made | {"kd.format": "onnx-int8"}),
        SimpleNamespace(version=4, run_id="killed", tags=made),
    ]
    ended = []
    monkeypatch.setattr("kd.registry.exported.tracking.versions", lambda name: found)
    monkeypatch.setattr("kd.registry.exported.tracking.was_killed", lambda run_id: run_id == "killed")
    monkeypatch.setattr("kd.registry.exported.tracking.end", lambda *given: ended.append(given))
    source = SimpleNamespace(name="kd-test", uri="models:/kd-test/1")
    assert registered_before(ExportConfig(model=source.uri, format="onnx"), source) == "4"
    assert ended == [("killed", "FINISHED", "finished")]
    found.pop()
    assert registered_before(ExportConfig(model=source.uri, format="onnx"), source) == ""
