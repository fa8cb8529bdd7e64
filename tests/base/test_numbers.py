"""A number is read as it was meant, or refused: never as octal, hexadecimal, base 60, or by its underscores."""

import math

import pytest

from kd.base.numbers import number, whole, wholes

WHOLE = {"0": 0, "7": 7, " 12 ": 12, "+3": 3, "-4": -4, "-0": 0, str(2**53): 2**53}
PLAIN = {"0.5": 0.5, ".5": 0.5, "5.": 5.0, "1e-5": 1e-5, "1E+3": 1000.0, "-1.5": -1.5, "1e+30": 1e30, "0e5": 0.0}
NONE = ["", " ", "x", "1 2", "1,5", "0x10", "0o7", "0b1", "1_000", "1:30", "010", "00", "-01", "1.5.2", "e5", ".", "-",
        "nan", "inf", "-inf", ".inf", "Infinity", "٣", "１２", "½", "²", "1e", "--1", "+-1", "1\n2"]  # fmt: skip


@pytest.mark.parametrize(("text", "meant"), WHOLE.items())
def test_whole_numbers_are_read_in_decimal_digits(text, meant):
    assert whole(text) == number(text) == meant
    assert type(whole(text)) is int


@pytest.mark.parametrize(("text", "meant"), PLAIN.items())
def test_decimals_are_read_exactly_and_are_no_whole_numbers(text, meant):
    assert number(text) == meant
    with pytest.raises(ValueError, match="whole number"):
        whole(text)


@pytest.mark.parametrize("text", NONE)
def test_what_python_or_yaml_would_read_otherwise_than_a_person_is_no_number(text):
    for read in (number, whole):
        with pytest.raises(ValueError, match="no "):
            read(text)


@pytest.mark.parametrize("text", ["1e999", "-1e999", "1e-400", "0.0001e-999999999", "9" * 400 + "."])
def test_a_number_past_every_float_is_refused_and_not_infinite_or_0(text):
    with pytest.raises(ValueError, match="past every float"):
        number(text)


@pytest.mark.parametrize("text", [str(2**53 + 1), "9" * 400, "9" * 5000])
def test_a_whole_number_that_other_programs_would_round_is_refused(text):
    for read in (whole, number):
        with pytest.raises(ValueError, match=r"past 2\*\*53"):
            read(text)


def test_minus_0_is_0_because_equal_options_must_look_equal():
    assert math.copysign(1, number("-0.0")) == 1.0


def test_a_list_is_refused_where_one_of_it_is_no_number():
    assert wholes("4, 5,6") == (4, 5, 6)
    for text in ("4,,6", "4,", "4,x", "1,0x2", ""):
        with pytest.raises(ValueError, match="no whole number"):
            wholes(text)
