"""The report says all that the table says, opens without a network, and shows names as text, never as markup."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from kd.analysis.slices import Details, SeedTest
from kd.analysis.table import Doubt
from kd.report.page import page
from kd.report.plots import as_svg, plots
from kd.report.tables import answer, figure_cells, quality_cells, slice_cells
from tests.report.examples import BETTER, CONTROL, DETAILS, PLAIN, WORSE, arm, crowd, cut, table

INPUTS = {"experiments": "kd", "kd.git_commit": "0a1b2c"}
HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "</svg></div>", "-->")
EMPTY = {"meta", "br", "img", "input", "link"}


class Read(HTMLParser):
    """Tags, attributes, visible text, and styles of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.seen, self.styles, self.open = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attributes]
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attributes]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        (self.styles if "style" in self.open else self.seen).append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.seen).split())


def written(*findings, notes=(), inputs=INPUTS):
    drawings = [
        {name: as_svg(figure, f"{name}-{place}") for name, figure in plots(*found).items()}
        for place, found in enumerate(findings)
    ]
    return page(findings, drawings, notes, inputs)


@pytest.fixture(scope="module")
def plain():
    return written((PLAIN, DETAILS), notes=["run 3 was left out"])


def test_every_cell_answer_and_run_is_on_it(plain):
    read = Read(plain)
    assert read.open == []
    for rows in (quality_cells(PLAIN), figure_cells(PLAIN, "cost"), slice_cells(PLAIN, DETAILS)):
        assert len(rows) > 1
        assert [cell for row in rows for cell in row if cell not in read.text] == []
    assert all(line in read.text for line in answer(PLAIN).splitlines())
    assert all(run_id in read.text for one in PLAIN.arms for run_id in one.run_ids)
    for one in PLAIN.arms:
        assert one.label in read.text
        assert one.verdict is None or one.verdict in read.text
    assert read.tags.count("svg") == len(plots(PLAIN, DETAILS))


def test_what_speaks_against_the_models_comes_before_every_verdict():
    doubted = replace(PLAIN, doubts=(Doubt("No better than words.", "train longer", ()),))
    text = Read(written((doubted, DETAILS))).text
    assert text.count("No better than words.") == 1
    assert text.index("No better than words.") < min(text.index(one.verdict) for one in (BETTER, WORSE))


def test_inputs_and_what_was_left_out_are_on_it(plain):
    text = Read(plain).text
    assert all(f"{name} {value}" in text for name, value in INPUTS.items())
    assert "run 3 was left out" in text
    assert "Left out" not in Read(written((table(CONTROL), Details()))).text


def test_it_asks_nothing_of_a_network(plain):
    read = Read(plain)
    asked = ("src", "href", "xlink:href", "data", "action", "poster", "srcset", "background")
    assert [one for one in read.attributes if one[1] in asked and not one[2].startswith(("#", "data:"))] == []
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(read.tags)
    styles = [*read.styles, *(value for _, name, value in read.attributes if name in ("style", "clip-path", "fill"))]
    assert not [style for style in styles if "@import" in style or re.search(r"url\((?!#)", style)]
    addresses = set(re.findall(r"https?://[^\s\"'<>]+", plain))
    assert all(address.startswith("http://www.w3.org/") for address in addresses)  # names of SVG, not fetched


def test_names_from_users_are_text_and_never_markup():
    label = " ".join(HOSTILE)
    bad = arm(label, "distilled", gap=0.02, verdict="better")
    details = Details({label: (cut(label, -0.1),)}, {label: (SeedTest(0, label, 0.5),)}, {})
    page_text = written((table(CONTROL, bad, dataset=label, against=label), details), notes=HOSTILE,
                        inputs={label: label})  # fmt: skip
    read = Read(page_text)
    assert read.open == []
    assert not {"script", "img"} & set(read.tags)
    assert not [one for one in read.attributes if one[1].startswith("on")]
    assert all(name in read.text for name in HOSTILE)


def test_a_figure_that_was_not_measured_is_a_dash():
    text = Read(written((table(CONTROL, arm("bare", "distilled", gap=0.1, figures={})), Details()))).text
    row = text[text.index("Cost of a request") :]
    assert re.search(r"bare – –", row)
    assert " 0.0 " not in row[: row.index("bare – –") + 10]


def test_a_seed_without_its_test_is_a_dash_and_a_tiny_p_is_no_zero(plain):
    text = Read(plain).text
    assert "arm test seed 0 seed 2" in text
    assert "distill soft McNemar 0.250 < 0.001" in text
    two = {BETTER.key: (SeedTest(0, "t", 0.5),), CONTROL.key: (SeedTest(1, "t", 0.25),)}
    assert "0.500 –" in Read(written((table(CONTROL, BETTER), Details(tests=two)))).text


def test_one_arm_without_any_difference_makes_a_page():
    alone = table(arm("alone", figures={}))
    read = Read(written((alone, Details())))
    assert read.open == []
    assert "alone" in read.text
    assert answer(alone) in read.text
    assert "svg" not in read.tags
    assert "Slices that lose" not in read.text


@pytest.mark.parametrize(("higher", "arrow"), [(True, "accuracy ↑"), (False, "rmse ↓")])
def test_the_direction_of_the_metric_is_on_it(higher, arrow):
    assert arrow in Read(written((table(CONTROL, BETTER, higher=higher), Details()))).text


def test_verdicts_are_counted_where_there_are_many():
    whole, details = crowd(5)
    assert "no difference shown: 5" in Read(written((whole, details))).text


def test_ids_are_unique_and_references_meet_them_with_several_tables():
    text = written((PLAIN, DETAILS), (table(CONTROL, BETTER, higher=False), DETAILS))
    ids = [value for _, name, value in Read(text).attributes if name == "id"]
    assert ids
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', text)) <= set(ids)


def test_pictures_take_the_pages_colour_so_that_they_can_be_read_in_the_dark(plain):
    svgs = re.findall(r"<svg.*?</svg>", plain, flags=re.DOTALL)
    assert svgs
    for svg in svgs:
        assert "currentColor" in svg
        assert "#1f2429" not in svg
        assert "background" not in svg


def test_the_same_comparison_gives_the_same_bytes(plain):
    assert written((PLAIN, DETAILS), notes=["run 3 was left out"]) == plain
