"""Which layers of a source model a student keeps, and the one function that copies them."""

from collections.abc import Callable, Sequence

import numpy as np
from torch import nn
from transformers import PreTrainedModel

from kd.base.types import InitialisationName, UserError

LayerMap = tuple[int, ...]
"""0-based indices into the source's layers, one a student layer, rising."""
Moved = Callable[[], Sequence[float]]
"""Measures how far the source's loss moves without each of its layers, >= 0; called only where it decides."""


def _spread(among: range, count: int) -> LayerMap:
    return tuple(among[int(i)] for i in np.rint(np.linspace(0, len(among) - 1, count)))


def _unmeasured() -> Sequence[float]:
    raise ValueError("importance was not measured")


def _first(source: int, count: int, moved: Moved) -> LayerMap:
    return tuple(range(count))


def _last(source: int, count: int, moved: Moved) -> LayerMap:
    return tuple(range(source - count, source))


def _most_moving(source: int, count: int, moved: Moved) -> LayerMap:
    values = moved()
    return tuple(sorted(sorted(range(source), key=lambda layer: (-values[layer], layer))[:count]))


LAYER_MAPS: dict[InitialisationName, Callable[[int, int, Moved], LayerMap]] = {
    "first": _first,
    "top-k": _first,
    "last": _last,
    "bottom-k": _last,
    "odd": lambda source, count, moved: _spread(range(1, source, 2), count),
    "even": lambda source, count, moved: _spread(range(0, source, 2), count),
    "spaced": lambda source, count, moved: _spread(range(source), count),
    "random": lambda source, count, moved: (),
    "importance": _most_moving,
}
"""(layers of the source, layers of the student, `Moved`) -> the source layers to copy; empty: layers start at random.

`odd` and `even` are 0-based indices (`odd` of six: 1, 3, 5), spread evenly where the student has fewer. `top-k` and
`bottom-k` are aliases of `first` and `last`. `importance` keeps the layers without which the loss moves most; of layers
that move it equally the lower are kept, because upper layers are missed least (Sajjad et al. 2023,
https://arxiv.org/abs/2004.03844).
"""


def parse_layers(text: str) -> int | LayerMap:
    """Read `student_layers`: a count (`2`) or explicit 0-based indices (`0,5`; one index is written `5,`).

    Raises:
        UserError: not a positive number, not indices, or indices that do not rise.
    """
    allowed = "a count such as 2, or rising 0-based layer indices such as 0,5 (a single index as `5,`)"
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() for part in parts):
        raise UserError(f"student_layers={text!r} is not understood: give {allowed}")
    numbers = tuple(int(part) for part in parts)
    if "," in text:
        if list(numbers) != sorted(set(numbers)):
            raise UserError(f"student_layers={text!r}: indices must rise and not repeat: give {allowed}")
        return numbers
    if numbers[0] < 1:
        raise UserError(f"student_layers={text!r}: a student needs at least one layer: give {allowed}")
    return numbers[0]


def layer_map(
    layers: int | LayerMap,
    initialisation: InitialisationName,
    source_layers: int,
    source: str = "teacher",
    moved: Moved = _unmeasured,
) -> LayerMap:
    """Return the source layers that the student's layers start from; empty for `random`.

    Args:
        layers: a count, or the layers themselves.
        initialisation: which layers, for a count.
        source_layers: how many the source has.
        source: name of the source in errors.
        moved: for `importance`.

    Raises:
        UserError: more layers, or a higher index, than the source has.
    """
    if isinstance(layers, tuple):
        if layers[-1] >= source_layers:
            raise UserError(
                f"student_layers={','.join(map(str, layers))}: the {source} has {source_layers} layers, "
                f"so indices go from 0 to {source_layers - 1}"
            )
        return layers
    available = {"odd": source_layers // 2, "even": (source_layers + 1) // 2}.get(initialisation, source_layers)
    if layers > available:
        which = f"{initialisation} layers" if initialisation in ("odd", "even") else "layers"
        raise UserError(f"student_layers={layers}: the {source} has only {available} {which}; give at most {available}")
    return LAYER_MAPS[initialisation](source_layers, layers, moved)


def layer_stack(model: PreTrainedModel) -> str:
    """Return the dotted name of the list of transformer layers inside `model`.

    Raises:
        UserError: the architecture has no single list of `num_hidden_layers` layers.
    """
    count = model.config.num_hidden_layers
    names = [name for name, part in model.named_modules() if isinstance(part, nn.ModuleList) and len(part) == count]
    outermost = [name for name in names if not any(name.startswith(other + ".") for other in names if other != name)]
    if len(outermost) != 1:
        raise UserError(
            f"student_layers: {type(model).__name__} has no single list of {count} layers to choose from "
            f"(found {outermost or 'none'}); give a whole model as student instead"
        )
    return str(outermost[0])


def copy_layers(source: PreTrainedModel, student: PreTrainedModel, indices: LayerMap) -> None:
    """Copy `source` into `student`: layer `indices[i]` into layer i, and everything outside the layers.

    With empty `indices` the student's layers keep their initialisation. The two models share no storage afterwards.
    """
    stack = layer_stack(source)
    weights = source.state_dict()
    chosen = {}
    for name in student.state_dict():
        if name.startswith(stack + "."):
            position, rest = name[len(stack) + 1 :].split(".", 1)
            if indices:
                chosen[name] = weights[f"{stack}.{indices[int(position)]}.{rest}"]
        else:
            chosen[name] = weights[name]
    student.load_state_dict(chosen, strict=bool(indices))
