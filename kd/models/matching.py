"""Maps of a student's layers to its teacher's, for comparing them."""

from collections.abc import Callable

from kd.base.types import LayerPairs, MatchName, UserError


def _spaced(student: int, teacher: int) -> LayerPairs:
    # halves go up: Python's `round` would send them to the even neighbour
    return tuple((i - 1, (2 * i * teacher + student) // (2 * student) - 1) for i in range(1, student + 1))


MATCHES: dict[MatchName, Callable[[int, int], LayerPairs]] = {
    "spaced": _spaced,
    "last": lambda student, teacher: tuple((i, teacher - student + i) for i in range(student)),
    "skip": lambda student, teacher: _spaced(student, teacher)[:-1],
}
"""(layers of the student, layers of the teacher) -> pairs.

Counted from 1 to S and T: `spaced` pairs i with i T / S, rounded, so the last with the last; `last` pairs i with
T - S + i; `skip` is `spaced` without the last pair (PKD-Skip, Sun et al. 2019, leaves the last layer to the logits).
"""


def layer_pairs(match: MatchName | LayerPairs, student: int, teacher: int) -> LayerPairs:
    """Return the pairs of a map between a student and a teacher with these numbers of layers.

    Raises:
        UserError: there is no such map between them.
    """
    sizes = f"the student has {student} layer{'s' if student > 1 else ''} and its teacher {teacher}"
    if not isinstance(match, str):
        if any(mine >= student or its >= teacher for mine, its in match):
            shown = ",".join(f"{mine}:{its}" for mine, its in match)
            raise UserError(f"match={shown!r}: {sizes}: give pairs from 0:0 to {student - 1}:{teacher - 1}")
        return match
    if student > teacher:
        raise UserError(f"match={match!r}: {sizes}, so some have no counterpart: give pairs, such as 0:0,1:1")
    found = MATCHES[match](student, teacher)
    if not found:
        raise UserError(f"match={match!r}: {sizes}, and the last layers are left out: give spaced, last, or pairs")
    return found


def without_last(pairs: LayerPairs, student: int, teacher: int) -> LayerPairs:
    """Return the pairs without that of the two last layers."""
    return tuple(pair for pair in pairs if pair != (student - 1, teacher - 1))
