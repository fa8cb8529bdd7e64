"""Names from data do nothing where they are shown, and what lets somebody in is not shown at all."""

import csv
import io
import logging

import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from kd.base import console, terminal
from kd.base.harmless import harmless, in_cell, in_code, in_csv, in_markdown, without_secrets

SECRET = "S3cretT0ken"


@pytest.mark.parametrize(
    "address",
    [
        f"http://{SECRET}@host:5000/x",
        f"https://me:pa/ss#w?{SECRET}@host/x",
        f"http://me:{SECRET}/tail@host/x",
        f"http://host:5000/x?token={SECRET}",
        f"http://host/x?a=1&access_token={SECRET}&b=2",
        f"http://host/x?api_key={SECRET}",
        f"http://host/x?jwt={SECRET}",
        f"mssql+pyodbc:///?odbc_connect=DRIVER%3D%7Bx%7D%3BUID%3Dann%3BPWD%3D{SECRET}",
        f"HTTPS://host/x?Token={SECRET}",
        f"http://host:5000/x#{SECRET}",
        f"http://host:5000/x/#/{SECRET}",
        f"databricks://{SECRET}",
        f"databricks://{SECRET}:prefix",
        f"databricks-uc://{SECRET}",
        f"postgresql+psycopg2://ann:{SECRET}@host/db",
        f"postgresql://ann:pa/{SECRET}@host/db",
        f"mysql+pymysql://host/db?user=ann&passwd={SECRET}",
        f"postgresql://host/db#{SECRET}",
        f"redis://:{SECRET}@host:6379/0",
        f"s3://key:{SECRET}@bucket/x",
        f"s3://bucket/x?X-Amz-Signature={SECRET}",
        f"Max retries exceeded with url: /?token={SECRET}/api/2.0",
        f"cannot reach 'http://{SECRET}@host:5000/x', nor http://host?token={SECRET}",
    ],
)
def test_what_lets_somebody_in_is_never_shown(address):
    for text in (address, f"the store {address} cannot be used", repr(address)):
        assert SECRET not in without_secrets(text)
        assert SECRET not in harmless(text)


@pytest.mark.parametrize(
    "address",
    [
        "http://host:5000",
        "sqlite:////a/b@c#d/mlflow.db",
        "file:///a#b/c",
        "postgresql+psycopg2://ann@host/db?sslmode=require",
        "wasbs://container@account/path",
        "stanfordnlp/sst2:config",
        "https://host/rows.csv?version=2&max_tokens=64",
        "a@b.c",
        "http://localhost:5000/#/experiments/1/runs?workflowType=machine_learning",
    ],
)
def test_an_address_without_a_secret_is_shown_as_it_is(address):
    assert without_secrets(address) == address


TRICKS = [
    "\x1b[31mred\x1b[0m",
    "\x1b]8;;http://evil\x07link",
    "two\nPromote it: rm",
    "back\rspace\x08",
    "tab\tbed",
    "\u202egnp.exe",
    "\u2066isolate\u2069",
    "\x9b31m",
    "zero\u200bwidth\ufeff",
    "line\u2028para\u2029",
    "nul\x00",
    "lone\ud800",
]


@pytest.mark.parametrize("name", TRICKS)
def test_a_name_moves_no_cursor_breaks_no_line_and_turns_no_text(name):
    text = harmless(name)
    assert text.isprintable()
    assert text.encode()
    assert harmless(text) == text


@pytest.mark.parametrize(
    "name", ["Größe", "数据", "نص\u200cها", "👩\u200d🔬", "a · b", 'it\'s "it"', "[/]", ":warning:"]
)
def test_letters_of_every_script_stay_as_they_are(name):
    assert harmless(name) == name


@pytest.mark.parametrize("name", [*TRICKS, "[red]", "[/]", "[link=http://evil]x[/link]", ":warning:"])
def test_on_the_terminal_a_name_is_text(name, monkeypatch):
    out = io.StringIO()
    like = terminal.console
    shown = Console(file=out, width=200, markup=like._markup, emoji=like._emoji, highlight=False)
    monkeypatch.setattr(terminal, "console", shown)
    table = terminal.Table(title=harmless(name))
    table.add_column("x")
    table.add_row(name)
    console.say(name)
    console.say(table)
    lines = out.getvalue().split("\n")
    assert lines[0] == harmless(name)
    assert sum(harmless(name) in line for line in lines) == 3
    assert all(line.isprintable() for line in lines)


def test_a_log_line_is_as_harmless():
    record = logging.LogRecord("kd", logging.WARNING, "", 0, "cache %s", ("a\n\x1b[2J http://T0ken@host",), None)
    assert console._Plain("%(message)s").format(record) == "cache a\\n\\x1b[2J http://***@host"


MARKUP = [
    "<b>bold</b>",
    "<img src=x onerror=alert(1)>",
    "[x](http://evil)",
    "![x](http://evil)",
    "[x]: http://evil",
    "[x][y]",
    "`code`",
    "**bold**",
    "_it_",
    "__b__",
    "~~gone~~",
    "a | b | c",
    "# head",
    "> quote",
    "- list",
    "+ list",
    "1. list",
    "1) list",
    "***",
    "---",
    "===",
    "&lt;",
    "&#60;",
    "\\*x\\*",
    "<http://evil>",
    "http://evil.example",
    "www.evil.example",
    "me@evil.example",
    "``a`b``",
    "$x$",
    "a\n\n# head",
    "[^1]: note",
    "*",
    "`",
    "[![x](y)](z)",
]


def text_of(tokens):
    return "".join(inner.content for token in tokens for inner in token.children or () if inner.type == "text")


@pytest.mark.parametrize("name", MARKUP)
def test_in_markdown_a_name_is_text_at_the_start_of_a_line_in_a_table_and_in_code(name):
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    line = reader.parse(in_markdown(name))
    assert [token.type for token in line] == ["paragraph_open", "inline", "paragraph_close"]
    assert {inner.type for inner in line[1].children} <= {"text", "text_special"}
    assert "".join(inner.content for inner in line[1].children) == harmless(name).strip()
    table = reader.parse(f"| arm | x |\n| :-- | :-- |\n| {in_cell(name)} | 1 |\n")
    cells = [token for token in table if token.type == "inline"]
    assert len(cells) == 4
    assert "".join(inner.content for inner in cells[2].children) == harmless(name)
    assert {inner.type for inner in cells[2].children} <= {"text", "text_special"}
    (span,) = reader.parse(f"On {in_code(name)}.")[1].children[1:2]
    assert (span.type, span.content) == ("code_inline", harmless(name))


@pytest.mark.parametrize("name", ["http://evil.example", "www.evil.example", "me@evil.example"])
def test_a_name_becomes_no_link_where_markdown_makes_links_of_addresses(name):
    for bare in ("://", "www.", "me@"):
        assert bare not in in_cell(name)


def test_our_own_cells_are_not_defaced():
    for cell in (
        "0.812 [0.790, 0.830]",
        "+0.031 [+0.010, +0.050]",
        "-0.2 [-0.3, -0.1]",
        "< 0.001",
        "–",
        "kd.teacher_labels",
        "test accuracy ↑ [95 %]",
        "difference [95 % Holm]",
        "distill soft T=2 a=0.5 · 2 layers",
    ):
        assert in_cell(cell) == cell


@pytest.mark.parametrize("start", ["=1+1", "+1", "-1+2", "@SUM(A1)", "\t=1", "\r=1", " =1", "\uff1d1"])
def test_in_csv_a_name_is_no_formula_and_numbers_stay_numbers(start):
    assert in_csv(start).startswith(("'", "\\"))
    assert [in_csv(value) for value in (-0.5, 3, None, True)] == [-0.5, 3, None, True]
    assert in_csv("plain") == "plain"
    out = io.StringIO()
    csv.writer(out).writerow([in_csv("a\nb"), in_csv(-0.5)])
    assert out.getvalue() == "a\\nb,-0.5\r\n"
