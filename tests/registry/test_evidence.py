"""Figures for the gates read the right direction, are absent rather than guessed, and are of the very rows scored."""

from dataclasses import replace

import pandas as pd
import pytest

from kd.analysis.gates import Decision, Gate, decide
from kd.base.types import RunRecord, UserError
from kd.config import GateOptions, RowOptions, options_from
from kd.registry import card as cards
from kd.registry import evidence
from kd.registry.card import card
from kd.registry.evidence import Version, gather, rows_behind, weakest
from kd.run.data import load_rows
from kd.tasks.classification.options import ClassificationOptions
from kd.tasks.classification.task import Classification
from kd.tracking import Run

TAGS = {"kd.task": "classification", "kd.role": "distilled", "kd.test_digest": "d1", "kd.seed": "0", "kd.dataset": "d"}


def record(metrics, **tags):
    return RunRecord("run", "distill · seed 0", {"epochs": "3"}, metrics, TAGS | tags)


def version(metrics, exported="", **tags):
    return Version("kd-m", "2", record(metrics, **tags), exported)


def test_a_required_device_is_two_gates_that_name_it_with_its_figure_and_budget(tmp_path):
    """One gate for both would not say whether RAM or storage is what a model has too much of."""
    (tmp_path / "d.yaml").write_text("phone: {ram_mib: 512, storage_mib: 100}\nwatch: {ram_mib: 1, storage_mib: 1}\n")
    gates = GateOptions(fits="phone", devices=str(tmp_path / "d.yaml"))
    now = record({"profile/ram_peak_mib": 600.0, "model/size_mib": 60.0})
    figures, absent = gather(replace(version({}), now=now), None, gates, "accuracy", Run("promotion"))
    limits = {name: most for name, (_, most) in evidence.of_devices(gates).items()}
    assert limits == {"fits.phone.ram_mib": 512.0, "fits.phone.storage_mib": 100.0}
    ram, storage = decide(limits, figures, absent, True).gates
    assert (ram.passes, storage.passes) == (False, True)
    assert "profile/ram_peak_mib" in ram.words
    assert ram.words.endswith("is 600, at most 512 is required, 88 over")
    unmeasured, _ = gather(version({"profile/ram_peak_mib": 1.0}), None, gates, "accuracy", Run("promotion"))
    assert not decide(limits, unmeasured, absent, True).passes


def figure(monkeypatch, name, candidate, teacher=None, champion=None, metric="accuracy"):
    monkeypatch.setattr(evidence, "teacher_of", lambda _: teacher)
    figures, absent = gather(candidate, champion, GateOptions(), metric, Run("promotion"))
    return absent.get(name, "") or figures[name].value


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
    figures, absent = gather(exported, None, given, "accuracy", Run("promotion"))
    assert decide({"max_ece": 0.1, "min_agreement": 0.9}, figures, absent, True).passes


def test_what_was_not_logged_is_no_figure(monkeypatch):
    bare = version({"test/accuracy": 0.9})
    assert figure(monkeypatch, "max_ece", bare) is None
    assert figure(monkeypatch, "latency_budget_ms", bare) is None


def predictions(right_by_label):
    rows = [(label, label if i < right else "other") for label, right in right_by_label.items() for i in range(40)]
    table = pd.DataFrame(rows, columns=["label", "prediction"])
    return table.assign(example_id=[str(i) for i in range(len(table))], group="g", loss=0.1, words=5)


def test_the_weakest_slices_are_named_worst_first(monkeypatch):
    monkeypatch.setattr(evidence, "logged", lambda _: predictions({"a": 40, "b": 10, "c": 20, "d": 30}))
    assert weakest(version({}), "accuracy") == ["label b: 0.25", "label c: 0.5", "label d: 0.75"]


def ratio(monkeypatch, table, **given):
    monkeypatch.setattr(evidence, "logged", lambda _: table)
    monkeypatch.setattr(evidence, "teacher_of", lambda _: None)
    gates = GateOptions(max_group_ratio=1.5, **given)
    figures, absent = gather(version({"test/accuracy": 0.7}), None, gates, "accuracy", Run("promotion"))
    return decide({"max_group_ratio": 1.5}, figures, absent, True)


def test_the_gate_on_groups_reads_the_tasks_first_column_or_the_one_named(monkeypatch):
    table = predictions({"a": 40, "b": 20, "c": 38}).assign(sex=["f", "m"] * 60)
    by_label, by_sex = ratio(monkeypatch, table), ratio(monkeypatch, table, ratio_by="sex")
    assert not by_label.passes
    assert by_label.gates[0].figure == pytest.approx(2)
    assert "worst b 0.5, best a 1" in by_label.reason
    assert by_sex.passes
    assert by_sex.gates[0].figure == pytest.approx(1, abs=0.1)


def test_groups_that_cannot_be_compared_do_not_pass_the_gate(monkeypatch):
    table = predictions({"a": 40}).assign(sex=["f"] * 30 + ["m"] * 10)
    decision = ratio(monkeypatch, table, ratio_by="sex")
    assert not decision.passes
    assert "fewer than two groups have 30 examples" in decision.reason
    table = predictions({"a": 40, "b": 0})
    assert "was not measured" in ratio(monkeypatch, table).reason


def test_groups_left_out_of_the_gate_for_too_few_examples_are_counted_in_its_words(monkeypatch):
    table = predictions({"a": 40, "b": 30}).assign(sex=["f"] * 35 + ["m"] * 40 + ["x"] * 5)
    assert "1 groups have too few examples" in ratio(monkeypatch, table, ratio_by="sex").gates[0].words


@pytest.mark.parametrize("column", ["sexx", "prediction", "loss", "example_id"])
def test_a_column_that_has_no_groups_is_refused_with_those_that_have(monkeypatch, column):
    with pytest.raises(UserError, match=rf"^ratio_by='{column}' .*: give one of label, group, words"):
        ratio(monkeypatch, predictions({"a": 40, "b": 30}), ratio_by=column)


def test_a_share_of_a_teacher_that_is_not_above_0_is_no_share(monkeypatch):
    """A skill below that of persistence would be kept twice over by one that is twice as bad."""
    ours, teacher = version({"test/accuracy": -0.5}), record({"test/accuracy": -0.25})
    assert figure(monkeypatch, "min_teacher_share", ours, teacher) is None


def test_slices_where_a_metric_cannot_be_are_not_named_as_the_weakest(monkeypatch):
    class Partly(Classification):
        @staticmethod
        def quality(table):
            found = Classification.quality(table)
            return {} if set(table["label"]) == {"b"} else found

    monkeypatch.setattr(evidence, "task_named", lambda _: Partly)
    monkeypatch.setattr(evidence, "logged", lambda _: predictions({"a": 40, "b": 10, "c": 20}))
    assert weakest(version({}), "accuracy") == ["label c: 0.5", "label a: 1"]


def test_a_card_tells_origin_figures_decision_and_limits_and_leaves_what_is_missing_a_dash(monkeypatch):
    monkeypatch.setattr(cards, "teacher_of", lambda _: record({"test/accuracy": 0.9}))
    monkeypatch.setattr(cards, "weakest", lambda *_: ["label b: 0.25"])
    said = {"first": predictions({"a": 10, "b": 20}), "run": predictions({"a": 30, "b": 20})}
    monkeypatch.setattr(cards, "logged", lambda one: said.get(one.run_id))
    candidate = version({"test/accuracy": 0.8, "fidelity/agreement": 0.7}, **{"kd.teacher": "models:/t/1"})
    champion = Version("kd-m", "1", replace(record({"test/accuracy": 0.85}), run_id="first"), "")
    gate = Gate("min_metric", 0.8, 0.9, True, False, "test/accuracy")
    ruling = {"kd.decided_at": "2030-01-01T00:00:00+00:00", "kd.decided_by": "ann", "kd.decision_run": "r1"}
    ruling["kd.decided_on"] = "cpu"
    text = card(candidate, champion, "accuracy", Decision((gate,)), ruling)
    assert "Distilled for classification on `d`. Teacher: `models:/t/1`." in text
    assert "| test/accuracy | 0.8 | 0.85 | 0.9 |" in text
    assert "| fidelity/agreement | 0.7 | – | – |" in text
    assert "**refused** on 2030-01-01T00:00:00+00:00 by ann, run `r1`, on cpu." in text
    assert "FAIL: min_metric" in text
    assert "label b: 0.25" in text
    churn = "Test answers against champion version 1: changed 25.0%, to right 25.0%, to wrong 0.0% of all examples."
    assert churn in text
    del said["first"]
    assert "Test answers" not in card(candidate, champion, "accuracy", Decision(()), ruling)


def test_a_card_never_takes_p95_from_one_measurement_and_p99_from_another(monkeypatch):
    monkeypatch.setattr(cards, "teacher_of", lambda _: None)
    monkeypatch.setattr(cards, "weakest", lambda *_: [])
    monkeypatch.setattr(cards, "logged", lambda _: None)
    before = {f"profile/latency_ms_{name}": value for name, value in (("p50", 20.0), ("p95", 22.0), ("p99", 25.0))}
    now = RunRecord(
        "m1",
        "measure",
        metrics={"profile/latency_ms_p50": 90.0, "profile/latency_ms_p95": 107.0, "model/size_mib": 9.0},
        tags={"kd.quiet": "false", "hw.cpu": "this cpu"},
    )
    candidate = replace(version({"test/accuracy": 0.8, "model/size_mib": 8.0, **before}), now=now)
    champion = Version("kd-m", "1", record({"test/accuracy": 0.7, **before}, **{"hw.cpu": "that cpu"}), "")
    ruling = dict.fromkeys(("kd.decided_at", "kd.decided_by", "kd.decision_run", "kd.decided_on"), "x")
    text = card(candidate, champion, "accuracy", Decision(()), ruling)
    assert "| profile/latency_ms_p95 | ~107 | 22 |" in text
    assert "p99" not in text
    assert "| model/size_mib | 9 | – |" in text
    assert "- What this version costs is of one measurement, in run `m1` on this cpu." in text
    assert "- What champion before, version 1 costs is of one measurement, in run `run` on that cpu." in text
    assert "- ~ before a figure: it was measured while the machine was busy" in text
    assert "Latency and memory are those of this cpu." in text


def test_a_gate_on_latency_says_that_the_machine_was_busy(monkeypatch):
    busy = RunRecord("m1", "measure", metrics={"profile/latency_ms_p95": 60.0}, tags={"kd.quiet": "false"})
    monkeypatch.setattr(evidence, "teacher_of", lambda _: None)
    candidate = replace(version({"test/accuracy": 0.9}), now=busy)
    figures, _ = gather(candidate, None, GateOptions(), "accuracy", Run("promotion"))
    assert figures["latency_budget_ms"].value == 60.0
    assert "which was busy" in figures["latency_budget_ms"].about
    assert "busy" not in figures["ram_budget_mib"].about


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "rows.csv"
    lines = [f"text number {row},{'good' if row % 2 else 'bad'}" for row in range(60)]
    path.write_text("\n".join(["review,stars", *lines]) + "\n")
    return path


def scored(path):
    """A run as it is tracked, and the rows it had."""
    options = {"dataset": str(path), "text_column": "review", "label_column": "stars", "split_seed": 3, "max_train": 20}
    params = {name: str(value) for name, value in options.items()}
    rows = load_rows(options_from(RowOptions, ClassificationOptions, params))
    params |= {"epochs": "2", "teacher": "models:/t/1"}
    tags = {"kd.seed": "5", "kd.validation_digest": rows.validation_digest, "kd.test_digest": rows.test_digest}
    return RunRecord("run", "name", params, {}, tags), rows


def test_the_options_of_the_run_give_the_same_rows(data):
    record, before = scored(data)
    options, rows = rows_behind(record, "model='m'")
    assert (options.dataset, options.split_seed) == (str(data), 3)
    assert (rows.test_digest, rows.validation_digest) == (before.test_digest, before.validation_digest)
    assert rows.train_digest == before.train_digest


def test_a_run_that_tells_no_validation_digest_is_still_read_again(data):
    record, before = scored(data)
    del record.tags["kd.validation_digest"]
    assert rows_behind(record, "model='m'")[1].validation_digest == before.validation_digest


def test_other_rows_are_refused_because_their_scores_would_not_compare(data):
    record, _ = scored(data)
    data.write_text(data.read_text().replace("text number", "text numbered"))
    with pytest.raises(UserError, match=r"^model='m': (test|validation) rows of dataset=.* put the same data back"):
        rows_behind(record, "model='m'")


def test_rows_that_are_gone_are_named_with_what_needs_them(data):
    record, _ = scored(data)
    data.unlink()
    with pytest.raises(UserError, match=r"^model='m': the rows .* cannot be read again: .*rows.csv: not found"):
        rows_behind(record, "model='m'")
