"""Terminal and Markdown tables show the same cells; what was not measured is a dash or no column, never a 0."""

import io
from dataclasses import replace

import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from kd.analysis.comparison import SAME_STUDENT
from kd.analysis.slices import Details, Fairness, Slice
from kd.analysis.statistics import Interval, PairedDifference
from kd.analysis.table import Arm, Doubt, Table
from kd.base.judge import Figure
from kd.report.page import page
from kd.report.publish import show
from kd.report.tables import (
    COST,
    MISSING,
    P50,
    SIZE,
    WORST,
    Section,
    answer,
    caption,
    churn_cells,
    cost_cells,
    fairness_cells,
    figure_cells,
    in_terminal,
    markdown,
    markdown_section,
    quality_cells,
    rich_tables,
    slice_cells,
    titled_tables,
)
from kd.tasks.classification.scores import FIGURES
from kd.tasks.forecasting.scores import ForecastJudge


def arm(label, role="student", quality=None, difference=None, verdict=None, figures=None, rows="rows"):
    quality = quality or Interval(0.812, 0.79, 0.83, 3)
    return Arm(label, label, role, quality, difference, None, verdict, None, figures or {}, ("id",), (), (rows,))


def table(*arms, higher=True, split="test", against=SAME_STUDENT, scored=12):
    digest = "0123456789abcdef"
    return Table(
        "question_answering", "builtin:demo", split, digest, "accuracy", higher, against, arms, scored, FIGURES
    )


def cut(mean, value="v", examples=40):
    """A slice on which an arm differs by this much."""
    return Slice("genre", value, examples, 0.5 + mean, 0.5, PairedDifference(mean, mean - 0.1, mean + 0.1, 0.5, 3))


CONTROL = arm("control", figures={"profile/latency_ms_p50": 3.21, "model/parameters": 11_300_000.0})
GAP = PairedDifference(0.0312, 0.01, 0.05, 0.01, 3)
DISTILLED = arm("soft", "distilled", difference=GAP, verdict="better", figures={"fidelity/agreement": 0.9})
TRIVIAL = arm("majority", "trivial", Interval(0.5, None, None, 1))


def column(rows, name):
    place = rows[0].index(name)
    return {row[0]: row[place] for row in rows[1:]}


def test_every_row_has_a_cell_for_every_column():
    whole = table(TRIVIAL, CONTROL, DISTILLED)
    for rows in (quality_cells(whole), figure_cells(whole, "cost")):
        assert {len(row) for row in rows} == {len(rows[0])}


def test_quality_shows_interval_gap_and_verdict():
    rows = quality_cells(table(TRIVIAL, CONTROL, DISTILLED))
    assert column(rows, "verdict") == {"majority": MISSING, "control": MISSING, "soft": "better"}
    assert column(rows, "difference [95 % Holm]")["soft"] == "+0.031 [+0.010, +0.050]"
    assert column(rows, "test accuracy ↑ [95 %]")["control"] == "0.812 [0.790, 0.830]"
    assert column(rows, "seeds")["control"] == "3"


def test_one_seed_has_no_interval_and_no_control_has_no_gap():
    rows = quality_cells(table(TRIVIAL, arm("soft", difference=PairedDifference(0.02, None, None, None, 1))))
    assert column(rows, "test accuracy ↑ [95 %]")["majority"] == "0.500"
    assert column(rows, "difference [95 % Holm]") == {"majority": MISSING, "soft": "+0.020"}


BUSY = replace(CONTROL, key="busy", label="busy", busy=("runs:/r1/model", "runs:/r2/model"))
REMEDY = "python -m kd measure --in_place true --model runs:/r1/model,runs:/r2/model"


def test_latency_from_a_busy_machine_is_marked_in_its_cell_and_what_is_no_time_is_not():
    rows = figure_cells(table(BUSY, CONTROL), "cost")
    assert column(rows, "p50 ms") == {"busy": "~3.2", "control": "3.2"}
    assert column(rows, "params M") == {"busy": "11.3", "control": "11.3"}


def test_what_the_mark_means_and_the_remedy_stand_above_the_table_wherever_it_is_shown():
    whole = table(BUSY, CONTROL)
    texts = [markdown(whole, Details()), shown_in_terminal(whole), page([(whole, Details())], [{}], [], {})]
    for text in texts:
        flat = " ".join(text.split())
        assert flat.count("~ before a figure") == 1
        assert flat.index(REMEDY) < flat.index("~3.2")
    for text in (markdown(table(CONTROL), Details()), shown_in_terminal(table(CONTROL))):
        assert "~" not in text


def test_the_remedy_is_one_line_of_the_terminal_that_can_be_copied_however_narrow_the_tables_are(capsys):
    long = replace(BUSY, busy=tuple(f"runs:/{digit * 32}/model" for digit in "0123456789"))
    show([(table(long, CONTROL), Details())], [])
    lines = capsys.readouterr().out.splitlines()
    (remedy,) = [line for line in lines if "kd measure" in line]
    assert all(model in remedy for model in long.busy)
    assert not any("\\n" in line for line in lines)


def test_a_marked_figure_keeps_its_column_to_the_right():
    lines = markdown(table(BUSY), Details()).splitlines()
    (place,) = [number for number, line in enumerate(lines) if "p50 ms" in line]
    assert lines[place + 1] == "| :-- | --: | --: |"


def shown_in_terminal(whole):
    out = Console(file=io.StringIO(), width=300)
    out.print(*in_terminal(whole, Details()))
    return out.file.getvalue()


def test_the_direction_of_the_metric_is_shown():
    assert "test accuracy ↓ [95 %]" in quality_cells(table(CONTROL, higher=False))[0]


def test_a_loss_of_quality_keeps_its_sign():
    rows = quality_cells(table(arm("soft", difference=PairedDifference(-0.02, -0.03, -0.01, 0.01, 3))))
    assert column(rows, "difference [95 % Holm]")["soft"] == "-0.020 [-0.030, -0.010]"


def test_a_figure_that_some_arms_lack_is_a_dash_and_one_that_all_lack_has_no_column():
    rows = figure_cells(table(CONTROL, DISTILLED), "cost")
    assert column(rows, "p50 ms") == {"control": "3.2", "soft": MISSING}
    assert "GPU MiB" not in rows[0]
    assert column(quality_cells(table(CONTROL, DISTILLED)), "agreement") == {
        "control": MISSING,
        "soft": "0.900",
    }


def test_a_measured_zero_is_not_a_dash():
    rows = quality_cells(table(arm("one", figures={"calibration/ece": 0.0}), CONTROL))
    assert column(rows, "ECE ↓") == {"one": "0.000", "control": MISSING}


@pytest.mark.parametrize("shown", [FIGURES, ForecastJudge.figures])
def test_every_figure_has_one_column_in_the_tables_that_are_shown(shown):
    figures = [*shown, *COST]
    full = replace(table(arm("full", figures={figure.key: 1.0 for figure in figures})), figures=shown)
    headers = [name for _, rows, _ in titled_tables(full, Details()) for name in rows[0] if rows[1:]]
    assert all(headers.count(figure.title) == 1 for figure in figures)


def test_what_several_figures_of_a_table_share_is_said_once():
    figures = {"forecast/hypo_mcc": 0.5, "forecast/hyper_mcc": 0.6}
    shown = replace(table(arm("one", figures=figures)), figures=ForecastJudge.figures)
    (about,) = (text for heading, rows, text in titled_tables(shown, Details()) if "hypo MCC ↑" in rows[0])
    assert about.lower().count("hypo and hyper") == 1


def test_the_columns_are_the_tasks_own_and_no_others():
    own = Figure("fidelity/rank_correlation", "ranks", ".2f", higher_is_better=True)
    said = {"fidelity/rank_correlation": 0.5, "fidelity/agreement": 0.9, "calibration/ece": 0.1}
    other = replace(table(arm("one", figures=said)), figures=(own,))
    assert figure_cells(other, "fidelity") == [["arm", "ranks ↑"], ["one", "0.50"]]
    assert not {"agreement", "ECE ↓"} & set(quality_cells(other)[0])
    assert "calibration" not in str(titled_tables(other, Details()))
    _, (heading, *_), *_ = titled_tables(table(arm("one", figures={"calibration/brier": 0.1})), Details())
    assert heading == "Fidelity to the teacher, and calibration"


@pytest.mark.parametrize(
    ("form", "value", "text"),
    [("count", 12.0, "12"), ("count", 1234.5, "1,234.5"), ("millions", 11_300_000.0, "11.3"), (".1%", 0.5, "50.0%")],
)
def test_figures_are_written_in_their_own_form(form, value, text):
    assert Figure("fidelity/x", "x", form).write(value) == text


def test_baselines_that_are_not_served_have_no_cost():
    assert [row[0] for row in figure_cells(table(TRIVIAL, CONTROL), "cost")[1:]] == ["control"]


def test_the_class_of_latency_is_beside_p95_and_the_devices_that_fit_before_the_training():
    """A table of cost without them would leave what a phone can take to the reader."""
    figures = {"profile/latency_ms_p95": 99.0, "model/size_mib": 5.0, "cost/train_s": 9.0, "cost/ram_peak_mib": 700.0}
    good = replace(arm("good", figures=figures), devices={"board": True, "phone": False, "server": True})
    slow = replace(arm("slow", figures={"profile/latency_ms_p95": 100.0}), devices={"board": False}, busy=("m",))
    rows = cost_cells(table(TRIVIAL, good, slow, arm("bare")))
    assert rows[0] == ["arm", "p95 ms", "feasibility", "disk MiB", "fits", "train s", "train RAM MiB"]
    assert rows[1] == ["good", "99.0", "excellent", "5", "board, server", "9", "700"]
    assert rows[2] == ["slow", "~100.0", "~good", MISSING, "none", MISSING, MISSING]
    assert rows[3] == ["bare", *[MISSING] * 6]


def test_what_nobody_asked_or_measured_has_no_column():
    assert not {"fits", "feasibility"} & {*cost_cells(table(CONTROL))[0]}


def test_all_columns_of_cost_at_once_are_split_so_that_none_is_wider_than_a_terminal():
    names = {f"a device of the ward {number}": True for number in range(9)}
    whole = replace(arm("distill mse a=0.5 · whole dlinear", figures={one.key: 1e6 for one in COST}), devices=names)
    out = io.StringIO()
    Console(file=out, width=300).print(*rich_tables("heading", cost_cells(table(whole))), sep="\n")
    assert max(len(line.rstrip()) for line in out.getvalue().splitlines()) <= 100
    assert "train GPU" in " ".join(out.getvalue().split()) or "GPU" in out.getvalue()


def test_parameters_are_in_millions():
    assert column(figure_cells(table(CONTROL), "cost"), "params M")["control"] == "11.3"


def drawn(*args):
    out = io.StringIO()
    Console(file=out, width=300, markup=False).print(*in_terminal(*args), sep="\n")
    return out.getvalue()


def test_no_line_of_a_table_is_wider_than_the_terminal_and_no_figure_is_cut_or_wrapped():
    label = "distill soft T=2 a=0.5 + rest · 2 layers · 300 labels"
    cells = [label, "no difference shown", "3", "0.420 [0.405, 0.436]", "+0.007 [-0.016, +0.030]", "0.690", "0.201"]
    heads = ["arm", "verdict", "seeds", "test accuracy [95 %]", "difference [95 % Holm]", "agreement", "teacher wrong"]
    for times in (1, 2, 5):
        out = io.StringIO()
        rows = [[*heads[:1], *heads[1:] * times], [*cells[:1], *cells[1:] * times]]
        Console(file=out, width=300).print(*rich_tables("heading", rows), sep="\n")
        assert max(len(line.rstrip()) for line in out.getvalue().splitlines()) <= 100
        assert all(out.getvalue().count(figure) >= times for figure in cells[2:])
        assert "…" not in out.getvalue()


def test_a_patient_of_a_long_name_without_a_space_takes_no_room_from_the_figures():
    out = io.StringIO()
    rows = [["part", "student", "gain [95 % Holm]"], ["q" * 200, "12.345", "+0.002 [-0.001, +0.006]"]]
    Console(file=out, width=300).print(*rich_tables("heading", rows), sep="\n")
    assert max(len(line.rstrip()) for line in out.getvalue().splitlines()) <= 100
    assert all(figure in out.getvalue() for figure in rows[1][1:])
    assert out.getvalue().count("q") == 200


def kept(arm_figures, guide_figures, higher=True, **changes):
    guide = arm("teacher", "teacher", Interval(0.8, None, None, 1), figures=guide_figures)
    taught = replace(arm("soft", "distilled", Interval(0.6, None, None, 3), figures=arm_figures), **changes)
    return answer(table(guide, replace(taught, guide=changes.get("guide", "teacher")), higher=higher))


def test_how_much_of_its_teacher_a_student_keeps_is_said_with_its_size_and_speed():
    small, large = {P50: 2.0, SIZE: 60.0}, {P50: 5.0, SIZE: 80.0}
    said = "It keeps 75 % of its teacher's test accuracy"
    assert kept(small, large).endswith(f"{said} at 75 % of its size and 2.5 times its speed.")
    assert kept({}, large).endswith(f"{said}.")
    assert kept({SIZE: 60.0}, large).endswith(f"{said} at 75 % of its size.")
    assert kept(small, large, busy=("models:/m-1",)).endswith("and ~2.5 times its speed.")
    assert kept(small, large, higher=False).count("It has 0.75 times its teacher's test accuracy at") == 1
    assert "teacher's" not in kept(small, large, guide="")


LOSES = Details(
    slices={"soft": (cut(-0.2, "book"), cut(0.0, "song"), cut(0.3, "film"))},
    churn={"soft": {"changed": 0.125, "to right": 0.1}},
)


def test_arms_without_any_figure_of_a_table_have_no_line_in_it():
    inside = arm("inside", figures={"fidelity/cka": 0.5})
    assert figure_cells(table(CONTROL, inside), "fidelity") == [["arm", "CKA ↑"], ["inside", "0.500"]]
    assert figure_cells(table(CONTROL, inside), "explanation") == [["arm"]]
    assert churn_cells(table(CONTROL, DISTILLED), LOSES) == [["arm", "changed", "to right"], ["soft", "12.5%", "10.0%"]]


def test_markdown_and_terminal_show_the_same_cells():
    figures = {figure.key: 0.25 for figure in FIGURES if figure.group != "quality"}
    whole = table(TRIVIAL, CONTROL, DISTILLED, arm("inside", figures=figures))
    text, shown = markdown(whole, LOSES), drawn(whole, LOSES)
    fidelity = (figure_cells(whole, "fidelity"), figure_cells(whole, "explanation"), churn_cells(whole, LOSES))
    for rows in (quality_cells(whole), *fidelity, cost_cells(whole), slice_cells(whole, LOSES)):
        assert len(rows) > 1
        for row in rows:
            assert f"| {' | '.join(row)} |" in text
            assert all(word in shown for cell in row for word in cell.split())  # cells are wrapped


def test_the_title_names_task_data_and_rows_and_the_caption_how_often_they_were_scored():
    text = markdown(table(CONTROL), Details())
    assert text.startswith("### question answering on builtin:demo (test set 01234567)\n")
    assert "12 runs have scored this test set" in text
    assert "(validation set 01234567)" in markdown(table(CONTROL, split="val", scored=None), Details())


def test_how_often_is_not_said_where_it_was_not_counted():
    assert "have scored" not in caption(table(CONTROL, scored=None))
    assert "0 runs have" in caption(table(CONTROL, scored=0))


def test_the_header_names_the_split_and_the_caption_what_differences_are_from():
    validated = table(CONTROL, split="val", against="teacher · 6 layers")
    assert "val accuracy ↑ [95 %]" in quality_cells(validated)[0]
    assert "differences are from teacher · 6 layers" in caption(validated)
    assert f"differences are from {SAME_STUDENT}" in caption(table(CONTROL))


def test_words_stand_left_and_numbers_right():
    text = markdown(table(TRIVIAL, CONTROL, DISTILLED), Details())
    assert "\n| :-- | :-- | --: | --: | --: | --: |\n" in text  # arm, verdict
    assert "\n| :-- | --: | --: |\n" in text


DOUBT = Doubt("No better than words (0.900): control (0.812).", "train longer", ("id",))


def test_what_speaks_against_the_models_is_the_first_sentence_whatever_the_verdicts_say():
    doubted = replace(table(TRIVIAL, CONTROL, DISTILLED), doubts=(DOUBT,))
    first, *others = answer(doubted).splitlines()
    assert first == DOUBT.sentence
    assert others == answer(table(TRIVIAL, CONTROL, DISTILLED)).splitlines()
    text = markdown(doubted, LOSES)
    assert 0 < text.index(DOUBT.sentence) < text.index("yes, distillation helped") < text.index("| arm |")


# Groups


def test_the_groups_served_worst_and_best_are_shown_with_their_ratio_for_every_arm():
    far = Fairness("sex", "f", "m", 0.5, 0.75, 1.5, 2, 0)
    unknown = replace(far, column="pump", worst_value=0.0, ratio=None)
    rows = fairness_cells(table(CONTROL, DISTILLED), Details(fairness={"soft": (far, unknown)}))
    assert rows[1:] == [
        ["soft", "sex", "f", "0.500", "m", "0.750", "1.50"],
        ["soft", "pump", "f", "0.000", "m", "0.750", MISSING],
    ]
    assert "worst" in drawn(table(CONTROL, DISTILLED), Details(fairness={"soft": (far,)}))


# Slices


def test_a_slice_that_loses_is_shown_where_the_mean_wins():
    (row,) = slice_cells(table(CONTROL, DISTILLED), LOSES)[1:]
    assert row == ["soft", "genre book", "40", "0.300", "0.500", "-0.200 [-0.300, -0.100]"]


@pytest.mark.parametrize("gap", [None, PairedDifference(-0.1, -0.2, 0.0, 0.1, 3), PairedDifference(0.0, 0, 0, 1, 3)])
def test_where_the_mean_does_not_win_there_is_nothing_that_it_hides(gap):
    arm_ = arm("soft", "distilled", difference=gap)
    assert slice_cells(table(CONTROL, arm_), LOSES)[1:] == []
    assert "Slices" not in drawn(table(CONTROL, arm_), LOSES)


def test_of_a_falling_metric_the_slices_shown_are_those_where_it_rises():
    fell = arm("soft", "distilled", difference=PairedDifference(-0.1, -0.2, 0.0, 0.1, 3))
    rows = slice_cells(table(CONTROL, fell, higher=False), LOSES)
    assert [row[1] for row in rows[1:]] == ["genre film"]


def test_no_more_than_the_worst_slices_are_shown():
    many = Details(slices={"soft": tuple(cut(-0.3 + place / 100, f"v{place}") for place in range(2 * WORST))})
    rows = slice_cells(table(CONTROL, DISTILLED), many)[1:]
    assert [row[1] for row in rows] == [f"genre v{place}" for place in range(WORST)]


@pytest.mark.parametrize("label", ["a | b", "[red]", "[/]", 'it\'s "it"', "two\nlines"])
def test_what_people_call_their_labels_breaks_no_table(label):
    named = arm(label, "distilled", difference=GAP, verdict="better")
    details = Details(slices={label: (cut(-0.2, label),)})
    lines = [line for line in markdown(table(CONTROL, named), details).splitlines() if line.startswith("| ")]
    blocks = {line.replace("\\|", "").count("|") for line in lines if "genre" in line}
    header = next(line for line in lines if "examples" in line)
    assert blocks == {header.count("|")}
    assert label.split("\n")[0] in drawn(table(CONTROL, named), details)


def test_markdown_tables_are_well_formed():
    lines = markdown(table(TRIVIAL, CONTROL, DISTILLED), LOSES).splitlines()
    assert sum(line.startswith("| :--") for line in lines) == 4
    for place, line in enumerate(lines):
        if line.startswith("| :--"):
            assert lines[place - 1].count("|") == line.count("|") == lines[place + 1].count("|")
            assert lines[place - 2] == ""


@pytest.mark.parametrize("name", ["<img src=x onerror=alert(1)>", "[x](http://evil)", "a | b", "`x`", "**x**", "# x"])
def test_names_are_text_in_every_part_of_the_markdown(name):
    named = arm(name, "distilled", difference=GAP, verdict="better", figures={"fidelity/agreement": 0.9})
    whole = replace(table(CONTROL, named, against=name), dataset=name, doubts=(Doubt(f"{name} is bad.", "x", ()),))
    details = Details(slices={name: (cut(-0.2, name),)}, churn={name: {"changed": 0.5}})
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown(whole, details))
    inner = {child.type for token in tokens for child in token.children or ()}
    assert inner <= {"text", "text_special", "softbreak"}
    assert {token.type.partition("_")[0] for token in tokens} <= {
        "heading",
        "paragraph",
        "inline",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
    }
    columns = {line.replace("\\|", "").count("|") for line in markdown(whole, details).splitlines() if "genre" in line}
    assert columns == {7}


def test_a_section_of_a_sweep_shows_names_as_text():
    section = Section("Study: <b>x</b>", ("[x](http://evil) differs",), (("Failed", [["cell"], ["<i>"]], "`x`"),))
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown_section(section))
    inner = {child.type for token in tokens for child in token.children or ()}
    assert inner <= {"text", "text_special", "strong_open", "strong_close"}
