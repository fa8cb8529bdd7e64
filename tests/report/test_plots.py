"""Pictures show what the table says, in the right direction, with every name whole; without data there is none."""

import io
import itertools
import re
import warnings
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib
import matplotlib.image
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.text import Text

import kd.report.plots
from kd.analysis.slices import Details
from kd.report.plots import MOST_SLICES, as_png, as_svg, looks, plots, wrapped
from tests.report.examples import (
    ALIKE,
    BETTER,
    CONTROL,
    COSTS,
    DETAILS,
    PLAIN,
    TEACHER,
    TRIVIAL,
    WORSE,
    arm,
    crowd,
    cut,
    table,
)

NAMES = {"gain", "quality_latency", "quality_size", "attribution", "curves", "slices"}


def texts(figure):
    """Texts that are drawn and not empty."""
    return [
        one for one in figure.findobj(Text) if one.get_visible() and one.get_text().strip() and one.axes is not False
    ]


def words(figure):
    return " ".join(" ".join(one.get_text().split()) for one in texts(figure))


def renderer(figure):
    return FigureCanvasAgg(figure).get_renderer()


def points(figure):
    """Marker positions by colour."""
    lines = [line for axes in figure.axes for line in axes.lines if line.get_marker() not in ("None", None, "")]
    return {to_hex(line.get_color()): tuple(line.get_xydata()[-1]) for line in lines}


def test_everything_there_is_data_for_is_drawn():
    assert set(plots(PLAIN, DETAILS)) == NAMES


@pytest.mark.parametrize(
    ("made", "details", "expected"),
    [
        (table(arm("one", figures={})), Details(), set()),
        (table(TRIVIAL), Details(), set()),
        (table(CONTROL), Details(), {"quality_latency", "quality_size"}),
        (table(arm("one", figures={}), arm("two", "distilled", gap=0.1, figures={})), Details(), {"gain"}),
        (table(arm("one", figures={})), Details(curves={"one": ()}, slices={"one": ()}), set()),
    ],
)
def test_what_has_no_data_has_no_picture_rather_than_an_empty_one(made, details, expected):
    assert set(plots(made, details)) == expected


def test_an_arm_that_was_not_measured_is_not_at_zero():
    figure = plots(table(TEACHER, CONTROL, arm("unmeasured", "distilled", figures={})), Details())["quality_latency"]
    assert len(points(figure)) == 2
    assert "unmeasured" not in words(figure)


def test_points_stand_at_the_measured_cost_and_quality():
    found = points(plots(PLAIN, DETAILS)["quality_latency"])
    at = found[looks(PLAIN)[TEACHER.key].colour.lower()]
    assert at == pytest.approx((30.0, 0.9))
    xs = sorted(x for x, _ in found.values())
    assert xs[:3] == pytest.approx([10.0] * 3, rel=0.04)
    assert len(set(xs)) == 4  # arms of one cost do not hide one another


def test_an_arm_has_one_colour_in_all_pictures():
    drawn = plots(PLAIN, DETAILS)
    colours = {arm.key: looks(PLAIN)[arm.key].colour.lower() for arm in (CONTROL, BETTER, WORSE)}
    assert len(set(colours.values())) == 3
    for name, keys in {"gain": [BETTER, WORSE], "quality_size": [CONTROL, BETTER], "curves": [CONTROL]}.items():
        used = {to_hex(line.get_color()) for axes in drawn[name].axes for line in axes.lines}
        assert {colours[one.key] for one in keys} <= used


def test_two_arms_never_look_alike():
    whole, _ = crowd(30)
    assert len({(one.colour, one.marker) for one in looks(whole).values()}) == len(whole.arms)


@pytest.mark.parametrize(("higher", "better", "hint"), [(True, 0.04, "↖ better"), (False, -0.04, "↙ better")])
def test_the_direction_of_the_metric_turns_colours_and_hints(higher, better, hint):
    details = Details(slices={"a": (cut("good", better), cut("bad", -better))})
    drawn = plots(table(CONTROL, arm("a", "distilled", gap=better, verdict="better"), higher=higher), details)
    (image,) = drawn["slices"].axes[0].images
    values = np.asarray(image.get_array()).ravel().tolist()
    assert values == pytest.approx([-better, better])  # the loss comes first
    for value, blue in ((better, True), (-better, False)):
        red, _, blueness, _ = image.cmap(image.norm(value))
        assert (blueness > red) == blue
    assert image.norm(0.0) == pytest.approx(0.5)
    assert hint in words(drawn["quality_latency"])
    assert ("← worse · better →" if higher else "← better · worse →") in words(drawn["gain"])
    assert ("higher is better" in words(drawn["quality_latency"])) == higher


def test_each_difference_stands_beside_its_verdict_and_zero_is_drawn():
    figure = plots(PLAIN, DETAILS)["gain"]
    axes = figure.axes[0]
    rows = {label.get_text(): place for place, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)}
    said = {text.get_position()[1]: text.get_text() for text in axes.texts}
    assert set(rows) == {"distill soft", "distill hard"}
    assert said[rows["distill soft"]].startswith("better\n+0.020")
    assert said[rows["distill hard"]].startswith("worse\n-0.030")
    assert any(set(line.get_xdata()) == {0} for line in axes.lines)
    low, high = axes.get_xlim()
    assert low < -0.04 < 0.03 < high


def test_an_arm_whose_attributions_were_compared_stands_at_its_figure_beside_a_random_models():
    figure = plots(PLAIN, DETAILS)["attribution"]
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [BETTER.label]
    marks = [line.get_xdata()[0] for line in axes.lines if line.get_marker() != "None"]
    assert sorted(marks) == [0.1, 0.6]
    assert "random" in words(figure)


def test_an_interval_of_two_seeds_does_not_squeeze_the_others():
    two = arm("two", "distilled", gap=0.01, verdict="too few seeds", seeds=2)
    drawn = plots(table(CONTROL, BETTER, two), Details())
    assert drawn["gain"].axes[0].get_xlim()[1] < 0.1
    assert np.ptp(drawn["quality_latency"].axes[0].get_ylim()) < 0.1
    assert "Holm-corrected" in words(drawn["gain"])


def test_the_slices_shown_are_those_with_the_greatest_losses_and_the_rest_is_counted():
    many = tuple(cut(f"s{i:02d}", (i - 20) / 1000) for i in range(40))
    figure = plots(table(CONTROL, BETTER), Details(slices={BETTER.key: many}))["slices"]
    rows = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert rows == [f"label s{i:02d} (40)" for i in range(MOST_SLICES)]
    assert f"{40 - MOST_SLICES} slices with smaller losses are left out" in words(figure)


def test_a_slice_that_an_arm_lacks_is_a_dash_and_not_a_zero():
    figure = plots(PLAIN, DETAILS)["slices"]
    cells = [text.get_text() for text in figure.axes[0].texts]
    assert sorted(cells) == sorted(["-0.040", "-0.010", "+0.050", "–"])


def test_every_seed_has_its_line():
    figure = plots(PLAIN, DETAILS)["curves"]
    assert len([line for line in figure.axes[0].lines if len(line.get_xdata()) > 1]) == 6


@pytest.mark.parametrize("higher", [True, False])
def test_no_text_is_cut_by_the_edge_however_long_the_names(higher):
    for name, figure in plots(*crowd(higher=higher)).items():
        drawn = figure.get_tightbbox(renderer(figure))
        wide, tall = figure.get_size_inches()
        assert drawn.x0 > -0.01, name
        assert drawn.y0 > -0.01, name
        assert drawn.x1 < wide + 0.01, name
        assert drawn.y1 < tall + 0.01, name


def test_names_along_an_axis_and_in_a_legend_do_not_cover_one_another():
    drawn = plots(*crowd())
    for figure in drawn.values():
        figure.draw_without_rendering()  # it puts the names in their places
    groups = [
        drawn["gain"].axes[0].get_yticklabels(),
        drawn["gain"].axes[0].texts,
        drawn["attribution"].axes[0].get_yticklabels(),
        drawn["slices"].axes[0].get_yticklabels(),
        drawn["slices"].axes[0].get_xticklabels(),
        drawn["slices"].axes[0].texts,
        *(drawn[name].axes[0].get_legend().get_texts() for name in ("curves", "quality_latency", "quality_size")),
    ]
    for group in groups:
        boxes = [text.get_window_extent(renderer(text.get_figure(root=True))) for text in group]
        assert len(boxes) > 10
        assert not [one for one in itertools.combinations(boxes, 2) if one[0].padded(-0.5).overlaps(one[1])]


@pytest.mark.parametrize("count", [1, 6, 15])
def test_every_arm_is_named_beside_its_own_mark_and_no_name_lies_in_the_picture(count):
    def letters(text):
        return re.sub(r"[\s·]", "", text)

    whole, details = crowd(count)
    for name in ("quality_latency", "quality_size", "curves"):
        axes = plots(whole, details)[name].axes[0]
        legend, drawn = axes.get_legend(), renderer(axes.figure)
        shown = {
            letters(text.get_text()): (mark.get_marker(), mark.get_color())
            for text, mark in zip(legend.get_texts(), legend.legend_handles, strict=True)
        }
        arms = [arm for arm in whole.arms if name != "curves" or arm.key in details.curves]
        look = looks(whole)
        assert shown == {letters(arm.label): (look[arm.key].marker, look[arm.key].colour) for arm in arms}
        assert not legend.get_window_extent(drawn).overlaps(axes.get_window_extent(drawn))


@pytest.mark.parametrize("text", ["one · two · three", "a-long-word " * 9, "x" * 90, "two  spaces\nand a line", ""])
def test_a_wrapped_name_is_whole_and_no_line_is_too_long(text):
    lines = wrapped(text, 20).split("\n")
    assert all(len(line) <= 20 for line in lines)
    assert re.sub(r"[\s·]", "", "".join(lines)) == re.sub(r"[\s·]", "", text)


@pytest.mark.parametrize("name", ["$\\frac{$", "$x$", "a $x$ b $", "<script>&amp;", "汉字 🙂", "two\nlines", "%s {0}"])
def test_a_name_is_drawn_as_it_is_written(name):
    one = arm(name, "distilled", gap=0.01, verdict="better", figures={**COSTS, **ALIKE})
    details = Details(slices={name: (cut(name, -0.1),)}, curves={name: (((1, 0.1), (2, 0.2)),)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = plots(table(CONTROL, one, dataset=name), details)
        assert set(drawn) == NAMES
        for key, figure in drawn.items():
            assert " ".join(name.split()) in words(figure) or key == "slices"
            ET.fromstring(as_svg(figure, key))
            assert as_png(figure).startswith(b"\x89PNG")


def test_a_picture_is_the_same_each_time_and_nothing_of_matplotlib_is_left_changed():
    before = dict(matplotlib.rcParams)
    first, again = ({name: as_svg(figure, name) for name, figure in plots(PLAIN, DETAILS).items()} for _ in range(2))
    assert first == again
    assert dict(matplotlib.rcParams) == before
    assert "pyplot" not in Path(kd.report.plots.__file__).read_text(encoding="utf-8")


def test_a_figure_gives_the_same_svg_before_and_after_its_png_and_a_png_on_white_before_and_after_its_svg():
    figure = plots(PLAIN, DETAILS)["curves"]
    svg, png = as_svg(figure, "one"), as_png(figure)
    assert (as_svg(figure, "one"), as_png(figure)) == (svg, png)
    pixels = matplotlib.image.imread(io.BytesIO(png))
    assert pixels[0, 0].tolist() == [1, 1, 1, 1]
    assert pixels.shape[:2] == tuple(int(160 * inches) for inches in reversed(figure.get_size_inches()))
    assert "fill: #ffffff" not in svg.partition('id="one-axes_1"')[0]


def test_ids_of_two_pictures_in_one_page_do_not_meet():
    drawn = plots(PLAIN, DETAILS)["gain"]
    one, two = (set(re.findall(r'id="([^"]+)"', as_svg(drawn, name))) for name in ("a", "b"))
    assert one
    assert not one & two
    svg = as_svg(drawn, "a")
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    assert used
    assert used <= one
