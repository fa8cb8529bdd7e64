"""Terminal and Markdown tables show the same cells; what was not measured is a dash or no column, never a 0."""

import io

import pytest
from rich.console import Console

from kd.comparison import Arm, Table
from kd.report.tables import COST, MISSING, QUALITY, cost_cells, markdown, quality_cells, rich_tables
from kd.statistics import Interval, PairedDifference


def arm(label, role="student", quality=None, difference=None, verdict=None, figures=None):
    quality = quality or Interval(0.812, 0.79, 0.83, 3)
    return Arm(label, role, quality, difference, verdict, None, figures or {}, ("id",))


def table(*arms, higher=True):
    return Table("question_answering", "builtin:demo", "0123456789abcdef", "accuracy", higher, arms, 12)


CONTROL = arm("control", figures={"profile/latency_ms_p50": 3.21, "model/parameters": 11_300_000.0})
GAP = PairedDifference(0.0312, 0.01, 0.05, 0.01, 3)
DISTILLED = arm("soft", "distilled", difference=GAP, verdict="better", figures={"fidelity/agreement": 0.9})
TRIVIAL = arm("majority", "trivial", Interval(0.5, None, None, 1))


def column(rows, name):
    place = rows[0].index(name)
    return {row[0]: row[place] for row in rows[1:]}


def test_every_row_has_a_cell_for_every_column():
    whole = table(TRIVIAL, CONTROL, DISTILLED)
    for rows in (quality_cells(whole), cost_cells(whole)):
        assert {len(row) for row in rows} == {len(rows[0])}


def test_quality_shows_interval_gap_and_verdict():
    rows = quality_cells(table(TRIVIAL, CONTROL, DISTILLED))
    assert column(rows, "verdict") == {"majority": MISSING, "control": MISSING, "soft": "better"}
    assert column(rows, "against control [95 %]")["soft"] == "+0.031 [+0.010, +0.050]"
    assert column(rows, "test accuracy ↑ [95 %]")["control"] == "0.812 [0.790, 0.830]"
    assert column(rows, "seeds")["control"] == "3"


def test_one_seed_has_no_interval_and_no_control_has_no_gap():
    rows = quality_cells(table(TRIVIAL, arm("soft", difference=PairedDifference(0.02, None, None, None, 1))))
    assert column(rows, "test accuracy ↑ [95 %]")["majority"] == "0.500"
    assert column(rows, "against control [95 %]") == {"majority": MISSING, "soft": "+0.020"}


def test_the_direction_of_the_metric_is_shown():
    assert "test accuracy ↓ [95 %]" in quality_cells(table(CONTROL, higher=False))[0]


def test_a_loss_of_quality_keeps_its_sign():
    rows = quality_cells(table(arm("soft", difference=PairedDifference(-0.02, -0.03, -0.01, 0.01, 3))))
    assert column(rows, "against control [95 %]")["soft"] == "-0.020 [-0.030, -0.010]"


def test_a_figure_that_some_arms_lack_is_a_dash_and_one_that_all_lack_has_no_column():
    rows = cost_cells(table(CONTROL, DISTILLED))
    assert column(rows, "p50 ms") == {"control": "3.2", "soft": MISSING}
    assert "GPU MiB" not in rows[0]
    assert column(quality_cells(table(CONTROL, DISTILLED)), "agreement") == {
        "control": MISSING,
        "soft": "0.900",
    }


def test_a_measured_zero_is_not_a_dash():
    rows = quality_cells(table(arm("one", figures={"calibration/ece": 0.0}), CONTROL))
    assert column(rows, "ECE ↓") == {"one": "0.000", "control": MISSING}


@pytest.mark.parametrize(("cells", "figures"), [(quality_cells, QUALITY), (cost_cells, COST)])
def test_every_figure_has_its_own_column(cells, figures):
    full = arm("full", figures={key: 1.0 for _, key, _ in figures})
    names = [name for name, _, _ in figures]
    assert len(set(names)) == len(names)
    assert set(names) <= set(cells(table(full))[0])


def test_baselines_that_are_not_served_have_no_cost():
    assert [row[0] for row in cost_cells(table(TRIVIAL, CONTROL))[1:]] == ["control"]


def test_parameters_are_in_millions():
    assert column(cost_cells(table(CONTROL)), "params M")["control"] == "11.3"


def test_markdown_and_terminal_show_the_same_cells():
    whole = table(TRIVIAL, CONTROL, DISTILLED)
    text = markdown(whole)
    drawn = io.StringIO()
    Console(file=drawn, width=300).print(*rich_tables(whole), sep="\n")
    for rows in (quality_cells(whole), cost_cells(whole)):
        for row in rows:
            assert f"| {' | '.join(row)} |" in text
            assert all(cell in drawn.getvalue() for cell in row)


def test_the_title_names_task_data_and_test_set_and_the_caption_how_often_it_was_scored():
    text = markdown(table(CONTROL))
    assert text.startswith("### question answering on builtin:demo (test set 01234567)\n")
    assert "12 trained runs have scored this test set" in text


def test_markdown_tables_are_well_formed():
    lines = markdown(table(TRIVIAL, CONTROL, DISTILLED)).splitlines()
    for place, line in enumerate(lines):
        if line.startswith("| :--"):
            assert lines[place - 1].count("|") == line.count("|") == lines[place + 1].count("|")
            assert lines[place - 2] == ""
