"""The text of `student_layers`: read without torch, so that a mistake in it is refused at once."""

from kd.base.console import shown
from kd.base.numbers import wholes
from kd.base.types import UserError

DEFAULT_LAYERS = "2"
"""How many of the teacher's layers a student keeps, where nothing is given."""
ALLOWED = "give a count such as 2, or rising 0-based layer indices such as 0,5 (a single index as `5,`)"


def parse_layers(text: str) -> int | tuple[int, ...]:
    """Read `student_layers`: a count (`2`), or rising 0-based indices (`0,5`; one is `5,`). Raises UserError."""
    try:
        numbers = wholes(text.strip().removesuffix(","))
    except ValueError as error:
        raise UserError(f"student_layers={shown(text)} is not understood: {ALLOWED}") from error
    if "," not in text and numbers[0] < 1:
        raise UserError(f"student_layers={shown(text)}: a student needs at least one layer: {ALLOWED}")
    if list(numbers) != sorted(set(numbers)) or numbers[0] < 0:
        raise UserError(f"student_layers={shown(text)}: indices must rise from 0 or more, and not repeat: {ALLOWED}")
    return numbers if "," in text else numbers[0]


def spelt_layers(text: str) -> str:
    """Return `student_layers` in its one spelling. Raises UserError."""
    read = parse_layers(text)
    return str(read) if isinstance(read, int) else ",".join(map(str, read)) + ("," if len(read) == 1 else "")
