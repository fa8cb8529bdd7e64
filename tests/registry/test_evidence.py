"""Figures for the gates read the right direction, and are absent rather than guessed."""

import pandas as pd
import pytest

from kd.analysis.gates import Decision, Gate, decide
from kd.base.types import RunRecord
from kd.config import GateOptions
from kd.registry import card as cards
from kd.registry import evidence
from kd.registry.card import Ruling, card
from kd.registry.evidence import Version, gather, weakest
from kd.tasks.classification.task import Classification
from kd.tracking import Run

TAGS = {"kd.task": "classification", "kd.role": "distilled", "kd.test_digest": "d1", "kd.seed": "0", "kd.dataset": "d"}


def record(metrics, **tags):
    return RunRecord("run", "distill · seed 0", {"epochs": "3"}, metrics, TAGS | tags)


def version(metrics, exported="", **tags):
    return Version("kd-m", "2", record(metrics, **tags), exported)


def figure(monkeypatch, name, candidate, teacher=None, champion=None, metric="accuracy"):
    monkeypatch.setattr(evidence, "teacher_of", lambda _: teacher)
    found = gather(candidate, champion, GateOptions(), metric, Run("promotion"))
    return found.absent.get(name, "") or found.figures[name].value


def test_the_share_of_the_teacher_is_of_its_metric_or_of_its_inverse_where_the_metric_falls(monkeypatch):
    ours = version({"test/accuracy": 0.81, "test/loss": 0.5})
    teacher = record({"test/accuracy": 0.9, "test/loss": 0.4})
    assert figure(monkeypatch, "min_teacher_share", ours, teacher) == pytest.approx(0.9)
    assert figure(monkeypatch, "min_teacher_share", ours, teacher, metric="loss") == pytest.approx(0.8)


@pytest.mark.parametrize("teacher", [None, record({"test/accuracy": 0.9}, **{"kd.test_digest": "d2"}), record({})])
def test_a_teacher_scored_on_other_rows_or_not_at_all_gives_no_share(monkeypatch, teacher):
    assert figure(monkeypatch, "min_teacher_share", version({"test/accuracy": 0.8}), teacher) is None


def test_gates_that_do_not_apply_say_so_instead_of_failing(monkeypatch):
    teacher = version({"test/accuracy": 0.9}, **{"kd.role": "teacher"})
    assert "is a teacher" in figure(monkeypatch, "min_agreement", teacher)
    assert "as it was trained" in figure(monkeypatch, "min_parity", teacher)
    assert "no other champion" in figure(monkeypatch, "allowed_drop", teacher)
    exported = version({"test/accuracy": 0.9, "export/agreement": 0.97}, exported="onnx-int8")
    assert figure(monkeypatch, "min_parity", exported) == 0.97


def test_a_gate_on_a_figure_that_the_task_does_not_have_is_left_out_in_words_and_not_failed_as_unmeasured(monkeypatch):
    class Other(Classification):
        figures = tuple(one for one in Classification.figures if one.key == "fidelity/kl")

    exported = version({"test/accuracy": 0.9}, exported="onnx")
    assert figure(monkeypatch, "max_ece", exported) is None
    monkeypatch.setattr(evidence, "task_named", lambda _: Other)
    for gate, name in evidence.LOGGED.items():
        assert figure(monkeypatch, gate, exported) == f"does not apply: classification has no {name}"
    given = GateOptions(max_ece=0.1, min_agreement=0.9)
    found = gather(exported, None, given, "accuracy", Run("promotion"))
    assert decide({"max_ece": 0.1, "min_agreement": 0.9}, found.figures, found.absent, True).passes


def test_what_was_not_logged_is_no_figure(monkeypatch):
    bare = version({"test/accuracy": 0.9})
    assert figure(monkeypatch, "max_ece", bare) is None
    assert figure(monkeypatch, "latency_budget_ms", bare) is None


def predictions(right_by_label):
    rows = [(label, label if i < right else "other") for label, right in right_by_label.items() for i in range(40)]
    table = pd.DataFrame(rows, columns=["label", "prediction"])
    return table.assign(example_id=[str(i) for i in range(len(table))], group="g", loss=0.1, words=5)


def test_the_weakest_slices_are_named_worst_first(monkeypatch):
    monkeypatch.setattr(evidence, "logged", lambda _: predictions({"a": 40, "b": 10, "c": 20}))
    assert weakest(version({}), "accuracy", count=2) == ["label b: 0.25", "label c: 0.5"]


def test_a_card_tells_origin_figures_decision_and_limits_and_leaves_what_is_missing_a_dash(monkeypatch):
    monkeypatch.setattr(cards, "teacher_of", lambda _: record({"test/accuracy": 0.9}))
    monkeypatch.setattr(cards, "weakest", lambda *_: ["label b: 0.25"])
    said = {"1": predictions({"a": 10, "b": 20}), "2": predictions({"a": 30, "b": 20})}
    monkeypatch.setattr(cards, "logged", lambda one: said.get(one.number))
    candidate = version({"test/accuracy": 0.8, "fidelity/agreement": 0.7}, **{"kd.teacher": "models:/t/1"})
    champion = Version("kd-m", "1", record({"test/accuracy": 0.85}), "")
    gate = Gate("min_metric", 0.8, 0.9, True, False, "test/accuracy")
    text = card(
        candidate, champion, "accuracy", Ruling(Decision((gate,)), "r1", "ann", "2030-01-01T00:00:00+00:00", "cpu")
    )
    assert "Distilled for classification on `d`. Teacher: `models:/t/1`." in text
    assert "| test/accuracy | 0.8 | 0.85 | 0.9 |" in text
    assert "| fidelity/agreement | 0.7 | – | – |" in text
    assert "**refused** on 2030-01-01T00:00:00+00:00 by ann, run `r1`, on cpu." in text
    assert "FAIL: min_metric" in text
    assert "label b: 0.25" in text
    churn = "Test answers against champion version 1: changed 25.0%, to right 25.0%, to wrong 0.0% of all examples."
    assert churn in text
    del said["1"]
    assert "Test answers" not in card(candidate, champion, "accuracy", Ruling(Decision(()), "r1", "ann", "now", "cpu"))
