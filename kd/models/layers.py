"""Which layers of a source model a student keeps, which of them are compared, and the one function that copies them."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from kd.base.types import InitialisationName, LayerPairs, MatchName, UserError

LayerMap = tuple[int, ...]
"""0-based indices into the source's layers, one a student layer, rising."""
Moved = Callable[[], Sequence[float]]
"""Measures how far the source's loss moves without each of its layers, >= 0; called only where it decides."""
WHOLE = "give a whole model as student instead"
OTHERS = "give other layers, such as the first (initialisation=first), or a whole model as student"


LAYER_MAPS: dict[InitialisationName, Callable[[int], slice]] = {
    "first": lambda count: slice(count),
    "top-k": lambda count: slice(count),
    "last": lambda count: slice(-count, None),
    "bottom-k": lambda count: slice(-count, None),
    "odd": lambda count: slice(1, None, 2),
    "even": lambda count: slice(0, None, 2),
    "spaced": lambda count: slice(None),
    "random": lambda count: slice(None),
    "importance": lambda count: slice(None),
}
"""Number of the student's layers -> the source layers that may be copied; of more than that number those spread evenly.

`odd` and `even` are 0-based indices (`odd` of six: 1, 3, 5). `top-k` and `bottom-k` are aliases of `first` and `last`.
With `random` layers start at random. `importance` keeps the layers without which the loss moves most; of layers that
move it equally the lower are kept, because upper layers are missed least (Sajjad et al. 2023,
https://arxiv.org/abs/2004.03844).
"""


def layer_map(
    layers: int | LayerMap,
    initialisation: InitialisationName,
    source_layers: int,
    source: str = "teacher",
    moved: Moved = tuple,
) -> LayerMap:
    """Return the source layers that the student's layers, given by number or themselves, start from.

    It is empty for `random`; `moved` is for `importance`; `source` is named in errors. Raises UserError for more
    layers, or a higher index, than the source has.
    """
    if isinstance(layers, tuple):
        if layers[-1] >= source_layers:
            raise UserError(
                f"student_layers={','.join(map(str, layers))}: the {source} has {source_layers} layers, "
                f"so indices go from 0 to {source_layers - 1}"
            )
        return layers
    among: Sequence[int] = range(source_layers)[LAYER_MAPS[initialisation](layers)]
    if layers > len(among):
        which = f"{initialisation} layers" if initialisation in ("odd", "even") else "layers"
        raise UserError(
            f"student_layers={layers}: the {source} has only {len(among)} {which}; give at most {len(among)}"
        )
    if initialisation == "random":
        return ()
    if initialisation == "importance":
        values = moved()
        among = sorted(sorted(among, key=lambda layer: (-values[layer], layer))[:layers])
    return tuple(among[int(place)] for place in np.rint(np.linspace(0, len(among) - 1, layers)))


def layer_stack(model: PreTrainedModel) -> str:
    """Return the dotted name of a model's one list of `num_hidden_layers` layers; UserError where there is not one."""
    count = model.config.num_hidden_layers
    names = [name for name, part in model.named_modules() if isinstance(part, nn.ModuleList) and len(part) == count]
    outermost = [name for name in names if not any(name.startswith(other + ".") for other in names if other != name)]
    if len(outermost) != 1:
        raise UserError(
            f"student_layers: {type(model).__name__} has no single list of {count} layers to choose from "
            f"(found {', '.join(outermost) or 'none'}); {WHOLE}"
        )
    return str(outermost[0])


def copy_layers(source: PreTrainedModel, student: PreTrainedModel, indices: LayerMap) -> None:
    """Copy `source` into `student`: layer `indices[i]` into layer i, and everything outside the layers.

    With empty `indices` the student's layers keep their initialisation. The two models share no storage afterwards.
    Raises UserError where a weight has no counterpart in the other model.
    """
    stack, chosen = f"{layer_stack(source)}.", {}
    places = {str(layer): str(place) for place, layer in enumerate(indices)}
    for name, value in source.state_dict().items():
        if not name.startswith(stack):
            chosen[name] = value
            continue
        layer, _, rest = name.removeprefix(stack).partition(".")
        if layer in places:
            chosen[f"{stack}{places[layer]}.{rest}"] = value
    wanted = {name for name in student.state_dict() if indices or not name.startswith(stack)}
    if alone := sorted(wanted ^ set(chosen)):
        whose = "no counterpart in its source" if alone[0] in wanted else "no place in the student"
        raise UserError(
            f"student_layers: layers of this {type(source).__name__} differ by their place: {alone[0]} has {whose}; "
            f"{OTHERS}"
        )
    student.load_state_dict(chosen, strict=bool(indices))


@contextmanager
def without_layers(model: PreTrainedModel, layers: Collection[int]) -> Iterator[None]:
    """Take layers out of a model meanwhile: the input of each is its output. Raises UserError as `layer_stack`."""
    stack = list(model.get_submodule(layer_stack(model)).children()) if layers else []
    with ExitStack() as hooks:
        for layer in layers:
            hooks.callback(stack[layer].register_forward_hook(_pass_on, with_kwargs=True).remove)
        yield


def _pass_on(layer: nn.Module, given: tuple[Any, ...], named: dict[str, Any], output: Any) -> Any:
    """Return a layer's input in the form of its output."""
    states = given[0] if given else named["hidden_states"]
    return states if isinstance(output, torch.Tensor) else (states, *output[1:])


def spaced(student: int, teacher: int) -> LayerPairs:
    """Pair layers at the same share of the depth, the last with the last (TinyBERT, https://arxiv.org/abs/1909.10351)."""
    # halves go up: Python's `round` would send them to the even neighbour
    return tuple((i - 1, max((2 * i * teacher + student) // (2 * student), 1) - 1) for i in range(1, student + 1))


MATCHES: dict[MatchName, Callable[[int, int], LayerPairs]] = {
    "spaced": spaced,
    "last": lambda student, teacher: tuple((i, teacher - student + i) for i in range(student)),
    "skip": lambda student, teacher: spaced(student, teacher)[:-1],
}
"""(layers of the student, layers of the teacher) -> pairs.

Counted from 1 to S and T: `spaced` pairs i with i T / S, rounded, so the last with the last; `last` pairs i with
T - S + i; `skip` is `spaced` without the last pair (PKD-Skip, Sun et al. 2019, leaves the last layer to the logits).
"""


def layer_pairs(match: MatchName | LayerPairs, student: int, teacher: int) -> LayerPairs:
    """Return a map's pairs for these numbers of layers; UserError where there is no such map between them."""
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
