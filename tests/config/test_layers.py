"""What `student_layers` means is said once, for the command line, designs and spaces."""

import pytest

from kd.base.types import UserError
from kd.config.layers import parse_layers, spelt_layers


@pytest.mark.parametrize(
    ("text", "meant"), [("2", 2), ("12", 12), ("0,5", (0, 5)), (" 0 , 5 ", (0, 5)), ("5,", (5,)), ("0,1,2", (0, 1, 2))]
)
def test_a_count_and_indices_are_told_apart(text, meant):
    assert parse_layers(text) == meant


@pytest.mark.parametrize(
    "text",
    ["", ",", "two", "-1", "0", "1.5", "5,0", "1,1", "0,-1", "0;5", "0-3", "0,,5", ",5", "05", "0x2", "1_0", "٢"],
)
def test_what_is_neither_count_nor_rising_indices_is_refused(text):
    with pytest.raises(UserError, match=r"^student_layers=.*give a count such as 2") as caught:
        parse_layers(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "spelt"), [(" 2 ", "2"), ("0, 5", "0,5"), ("5 ,", "5,"), ("+2", "2")])
def test_layers_have_one_spelling_so_that_equal_ones_look_equal(text, spelt):
    assert spelt_layers(text) == spelt
    assert parse_layers(spelt) == parse_layers(text)
