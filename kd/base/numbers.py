"""Numbers in text: plain decimals alone, so that each means to Python what it means to the person who wrote it.

Python, YAML 1.1 and C read `010`, `0x10`, `1_000`, `1:30` and digits of other scripts as numbers, and not as the same.
"""

import math
import re

PLAIN = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,9})?")
WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*)")
GREATEST = 2**53
"""Whole numbers up to this are numbers of JSON, MLflow and floats too."""


def number(text: str) -> float:
    """Return the finite number that a text means; ValueError where it means none, or one that no float is near to."""
    text = text.strip()
    if not PLAIN.fullmatch(text):
        raise ValueError("no plain decimal number")
    if WHOLE.fullmatch(text):  # a float would round a greater one
        return whole(text) + 0.0
    value = float(text) + 0.0  # -0 is 0, and spelt so
    if not math.isfinite(value) or (value == 0 and re.match(r"[-+.0]*[1-9]", text)):
        raise ValueError("a number past every float")
    return value


def whole(text: str) -> int:
    """Return the whole number that a text means, up to GREATEST; ValueError where it means none."""
    text = text.strip()
    if not WHOLE.fullmatch(text):
        raise ValueError("no whole number in plain decimal digits")
    if len(text) > 17 or abs(int(text)) > GREATEST:
        raise ValueError("a number past 2**53")
    return int(text)


def wholes(text: str) -> tuple[int, ...]:
    """Return comma-separated whole numbers; ValueError where one is none."""
    return tuple(map(whole, text.split(",")))
