"""What scripts read: the same findings give the same bytes, nothing unmeasured becomes a number, and CSV stays CSV."""

import csv
import io
import json
from dataclasses import replace

import pytest

from kd.analysis.comparison import SAME_STUDENT
from kd.analysis.slices import Details, SeedTest, Slice
from kd.analysis.statistics import Interval, PairedDifference
from kd.analysis.table import Arm, Pair, Table
from kd.base.harmless import in_csv
from kd.report.data import as_csv, as_json

GAP = PairedDifference(0.03, 0.01, 0.05, 0.01, 3)
CONTROL = Arm(
    key="c0",
    label="student · 2 layers",
    role="student",
    quality=Interval(0.8, 0.7, 0.9, 3),
    difference=None,
    adjusted_p=None,
    verdict=None,
    detectable=None,
    figures={"profile/latency_ms_p50": 3.0, "calibration/ece": 0.0},
    run_ids=("c-0", "c-1", "c-2"),
    pairs=(),
)
DISTILLED = replace(
    CONTROL,
    key="d0",
    label="distill",
    role="distilled",
    difference=GAP,
    adjusted_p=0.02,
    verdict="better",
    figures={"fidelity/agreement": 0.9},
    run_ids=("d-0", "d-1", "d-2"),
    pairs=(Pair(0, "d-0", "c-0"),),
)
TEACHER = replace(CONTROL, key="t0", label="teacher", role="teacher", quality=Interval(0.9, None, None, 1), figures={})
DETAILS = Details(
    slices={"d0": (Slice("label", 'a "b", c', 40, 0.5, 0.6, PairedDifference(-0.1, None, None, None, 1)),)},
    tests={"d0": (SeedTest(0, "McNemar", 0.5),)},
)


def table(*arms, scored=7):
    return Table("classification", "builtin:demo", "test", "digest", "accuracy", True, SAME_STUDENT, arms, scored)


FINDINGS = [(table(TEACHER, CONTROL, DISTILLED), DETAILS)]


def read_csv(findings):
    return list(csv.DictReader(io.StringIO(as_csv(findings), newline="")))


def arms_of(findings):
    return {arm["label"]: arm for one in json.loads(as_json(findings, [], {}))["tables"] for arm in one["arms"]}


# JSON


def test_the_same_findings_give_the_same_bytes_whatever_the_order_in_which_figures_and_inputs_came():
    inputs = {"filter": "x", "experiments": "kd"}
    turned = [replace(arm, figures=dict(reversed(arm.figures.items()))) for arm in (TEACHER, CONTROL, DISTILLED)]
    again = [(table(*turned), DETAILS)]
    assert as_json(FINDINGS, ["n"], inputs) == as_json(again, ["n"], dict(reversed(inputs.items())))
    assert as_csv(FINDINGS) == as_csv(again)


def test_json_holds_what_the_verdict_rests_on():
    whole = json.loads(as_json(FINDINGS, ["left out"], {"experiments": "kd"}))
    assert whole["inputs"] == {"experiments": "kd"}
    assert whole["notes"] == ["left out"]
    (one,) = whole["tables"]
    assert (one["digest"], one["split"], one["metric"], one["times_scored"]) == ("digest", "test", "accuracy", 7)
    assert one["answer"][0].startswith("distill: yes, distillation helped")
    arm = arms_of(FINDINGS)["distill"]
    assert (arm["verdict"], arm["adjusted_p"], arm["difference"]["p"], arm["difference"]["n"]) == (
        "better",
        0.02,
        0.01,
        3,
    )
    assert arm["pairs"] == [{"seed": 0, "run_id": "d-0", "against": "c-0"}]
    assert arm["slices"][0]["value"] == 'a "b", c'
    assert arm["tests"] == [{"seed": 0, "test": "McNemar", "p": 0.5}]


def test_what_was_not_measured_is_null_or_absent_and_never_a_zero():
    arms = arms_of(FINDINGS)
    assert arms["teacher"]["difference"] is arms["teacher"]["verdict"] is arms["teacher"]["quality"]["low"] is None
    assert arms["teacher"]["figures"] == {}
    assert arms["student · 2 layers"]["figures"] == {"profile/latency_ms_p50": 3.0, "calibration/ece": 0.0}
    assert arms["teacher"]["slices"] == []
    assert json.loads(as_json([(table(scored=None), Details())], [], {}))["tables"][0]["times_scored"] is None


def test_a_number_that_json_does_not_know_is_an_error_and_not_a_file_that_no_parser_reads():
    broken = replace(CONTROL, figures={"calibration/ece": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        as_json([(table(broken), Details())], [], {})
    assert "NaN" not in as_json(FINDINGS, [], {})
    assert "Infinity" not in as_json(FINDINGS, [], {})


# CSV


def test_csv_has_one_line_an_arm_and_every_line_as_many_cells():
    rows = list(csv.reader(io.StringIO(as_csv(FINDINGS), newline="")))
    assert len(rows) == 4
    assert {len(row) for row in rows} == {len(set(rows[0]))}
    figures = [name for name in rows[0] if "/" in name]
    assert figures == sorted(figures)


def test_csv_and_json_hold_the_same_figures():
    by_label = arms_of(FINDINGS)
    for line in read_csv(FINDINGS):
        arm = by_label[line["arm"]]
        assert float(line["mean"]) == arm["quality"]["mean"]
        assert int(line["seeds"]) == arm["quality"]["n"]
        assert line["run_ids"].split(" ") == arm["run_ids"]
        gap = arm["difference"] or {"mean": None, "low": None, "high": None, "n": None}
        for name, value in (
            ("difference", "mean"),
            ("difference_low", "low"),
            ("difference_high", "high"),
            ("pairs", "n"),
        ):
            assert line[name] == ("" if gap[value] is None else str(gap[value]))
        for name in ("profile/latency_ms_p50", "calibration/ece", "fidelity/agreement"):
            assert line[name] == (str(arm["figures"][name]) if name in arm["figures"] else "")


def test_csv_has_a_column_for_doubt_that_is_empty_where_no_latency_is_known():
    busy = replace(CONTROL, key="busy", busy=("r1",))
    lines = read_csv([(table(busy, CONTROL, replace(TEACHER, figures={})), Details())])
    assert [line["machine_busy"] for line in lines] == ["True", "False", ""]
    assert lines[0]["profile/latency_ms_p50"] == "3.0"  # a number for scripts


@pytest.mark.parametrize("label", ['a, "b"', "two\nlines", "a;b\tc", "=1+1", "ünïcode · ±", ""])
def test_labels_with_commas_quotes_and_line_breaks_break_no_line_and_are_no_formula(label):
    odd = replace(DISTILLED, label=label)
    lines = read_csv([(table(CONTROL, odd), Details())])
    assert [line["arm"] for line in lines] == ["student · 2 layers", in_csv(label)]
    assert lines[1]["verdict"] == "better"


def test_tables_with_other_figures_share_one_header():
    other = replace(TEACHER, key="x", figures={"model/size_mib": 60.0})
    lines = read_csv([*FINDINGS, (replace(table(other), digest="other"), Details())])
    assert [line["digest"] for line in lines] == ["digest"] * 3 + ["other"]
    assert [line["model/size_mib"] for line in lines] == ["", "", "", "60.0"]


def test_without_findings_there_is_no_line_and_no_crash():
    assert as_csv([]).strip() == ""
    assert json.loads(as_json([], [], {})) == {"inputs": {}, "tables": [], "notes": []}


def test_a_label_that_looks_like_a_formula_is_text_to_a_spreadsheet_and_figures_stay_numbers():
    bad = replace(DISTILLED, label="=HYPERLINK(1)", difference=replace(GAP, mean=-0.02))
    (line,) = read_csv([(table(bad), Details())])
    assert line["arm"] == "'=HYPERLINK(1)"
    assert float(line["difference"]) == -0.02
