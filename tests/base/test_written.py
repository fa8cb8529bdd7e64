"""What a user writes in YAML means what it seems to mean, or is refused with its place; no file can hang a command."""

import os
import time

import pytest

from kd.base.types import UserError
from kd.base.written import MOST_BYTES, parse_json, parse_yaml, read_text


def refusal(call, *arguments):
    began = time.process_time()
    with pytest.raises(UserError) as caught:
        call(*arguments)
    assert time.process_time() - began < 5
    text = str(caught.value)
    assert text.startswith("gates='g.yaml'")
    assert "\n" not in text
    assert len(text) < 500
    return text


def wrong(text):
    return refusal(parse_yaml, text, "gates='g.yaml'")


@pytest.mark.parametrize(
    "text",
    ["010", "0x10", "0b11", "1_000", "1__0.5", "1:30", "190:20:30.15", "00", ".inf", "-.inf", ".nan", "9" * 400,
     "1e999", "1e-400", "9007199254740993"],
)  # fmt: skip
def test_a_number_that_is_no_plain_decimal_is_refused_with_its_place_and_not_read_in_another_base(text):
    told = wrong(f"\na:\n  - 5\n  - {text}\n")
    assert told.startswith(f"gates='g.yaml', line 4, column 5: '{text[:20]}")
    assert "in quotes if it is text" in told


@pytest.mark.parametrize(
    ("text", "value"),
    [("12", 12), ("-3", -3), ("+5", 5), ("0.50", 0.5), (".5", 0.5), ("1.", 1.0), ("1e-5", 1e-5), ("1.0e+30", 1e30),
     ("'010'", "010"), ('"1:30"', "1:30"), ("0,5", "0,5"), ("0:2,1:5", "0:2,1:5"), ("2020-01-01", "2020-01-01"),
     ("true", True), ("null", None), ("1 000", "1 000"), ("=", "="), ("v1.0", "v1.0")],
)  # fmt: skip
def test_plain_decimals_are_numbers_and_what_is_quoted_or_a_date_stays_text(text, value):
    read = parse_yaml(f"a: {text}", "n")["a"]
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("min_metric: 0.9\nmin_metric: 0.1", "line 2, column 1: 'min_metric' is given a second time"),
        ("min_metric: 0.9\n'min_metric': 0.1", "line 2, column 1: 'min_metric' is given a second time"),
        ("a: {b: 1, c: 2, b: 3}", "line 1, column 17: 'b' is given a second time"),
        ("a: &x {b: 1}\nc:\n  <<: *x", "line 3, column 3: << (a merge key)"),
        ("a: !!int 3", "line 1, column 4: the tag '!!int'"),
        ("a: !!python/object/apply:os.system [echo]", "the tag '!!python/object/apply:os.system'"),
        ("a: &a [*a]", "line 1, column 8: *a lies within"),
        ("a: *b", "is no YAML, line 1, column 4: found undefined alias 'b'"),
        ("a: [1", "is no YAML, line 1, column 6: while parsing a flow sequence"),
        ("a: b\n c: d", "is no YAML, line 2, column 3: "),
        ("\n\na: x\x00", "is no YAML, line 3: 0x0 is no character of text"),
        ("--- {}\n--- {}", "expected a single document in the stream but found another"),
        ("? [a]\n: b", "unhashable key"),
    ],
)
def test_what_means_something_else_than_it_seems_is_refused_with_its_place(text, told):
    assert told in wrong(text)


def bomb(levels, each=9):
    lines = [f"a{level}: &a{level} [{','.join([f'*a{level - 1}'] * each)}]" for level in range(1, levels)]
    return "\n".join([f"a0: &a0 [{','.join('x' * each)}]", *lines])


def test_aliases_that_unfold_to_very_much_are_refused_instead_of_filling_the_memory():
    assert "aliases unfold to more than 10,000 values" in wrong(bomb(9))
    assert "aliases unfold to more than 10,000 values" in wrong(bomb(200, each=2))
    assert parse_yaml(bomb(3), "n")["a2"][8][8] == list("x" * 9)


@pytest.mark.parametrize("part", ["[", "{a: ", "- ", "? ", "[{? "])
def test_deep_nesting_is_refused_at_its_place_instead_of_a_stack_trace(part):
    assert "more than 20 levels" in wrong(part * 100_000)


def read(path):
    return read_text(str(path), "gates='g.yaml'", "give a YAML file of gates")


def test_what_is_no_file_of_text_is_one_line_and_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    (tmp_path / "binary").write_bytes(b"\x00\xff\xfe")
    (tmp_path / "large").write_bytes(b"a: 1 # " + b"x" * MOST_BYTES)
    for path, told in (
        ("absent.yaml", f"is no file in {tmp_path}: give a YAML file of gates"),
        (tmp_path / "absent.yaml", "is no file: give"),
        (".", "no regular file"),
        ("pipe", "no regular file"),
        ("/dev/zero", "no regular file"),
        ("binary", "no UTF-8 text (byte 1): save it as UTF-8"),
        ("large", "has more than 256 KiB"),
        ("x" * 5000, "cannot be read"),
        ("~nobody-of-this-name/g.yaml", "cannot be read"),
        ("a\0b", "is no file"),
    ):
        assert told in refusal(read, path)


def test_a_mark_that_editors_put_first_is_no_part_of_the_text(tmp_path):
    (tmp_path / "g.yaml").write_bytes(b"\xef\xbb\xbfa: 1\r\n")
    assert parse_yaml(read(tmp_path / "g.yaml"), "n") == {"a": 1}
    assert parse_yaml("", "n") == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"a": 1, "b": 2, "a": 3}', "'a' is given twice"),
        ('{"a": NaN}', "NaN is no number"),
        ("[" * 100_000, "recursion"),
        ('{"a": ' + "9" * 5000 + "}", "limit"),
        ("{", "line 1 column 2"),
    ],
)
def test_json_that_python_would_take_otherwise_is_refused(text, told):
    assert told in refusal(parse_json, text, "gates='g.yaml'", "give JSON")
