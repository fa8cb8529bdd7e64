"""Gather what objective terms compare of a student's layers, while it trains."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, get_args

import torch
from torch import nn
from transformers import PreTrainedModel

from kd.base.types import LayerContent, LayerKind, ObjectiveTerm, StudentOutputs
from kd.models.activations import look_into, with_maps

RAW = "raw"
PROJECTIONS = "distillation"
"""Name of the projections within the student while it trains, so that optimiser, ranks and checkpoints include them."""


@contextmanager
def looked_into(model: PreTrainedModel, terms: Sequence[ObjectiveTerm], seed: int) -> Iterator[dict[str, bool]]:
    """Make a student in training return what terms need, projected to the teacher's width; afterwards it is as before.

    Yields:
        Keyword arguments to call the student with. In training it then returns a dict: `raw`, its own output, and for
        each term entries such as `hidden/hidden.1`, which `gathered` takes apart. Without needs nothing is changed.
    """
    contents = list(dict.fromkeys(name for term in terms for name in term.needs.student))
    if not contents:
        yield {}
        return
    inside = look_into(model, contents, "student")

    def gather(module: nn.Module, _: Any, outputs: Any) -> dict[str, Any] | None:
        if not module.training:
            return None
        found = inside.picked(outputs, heard)
        heard.clear()
        given: dict[str, Any] = {RAW: outputs}
        for term in terms:  # within the forward, so that DDP reduces the projections' gradients
            join = projections[term.name] if term.needs.widths else nn.Identity()
            given |= {f"{term.name}/{name}": join(found[name].float()) for name in term.needs.student}
        return given

    projections = _projections(terms, seed)
    with ExitStack() as until_trained:
        if "attention" in inside.kinds:
            until_trained.enter_context(with_maps(model))
        heard = until_trained.enter_context(inside.listening())
        if projections:
            model.add_module(PROJECTIONS, projections.to(model.device))
            until_trained.callback(model.__delattr__, PROJECTIONS)
        until_trained.callback(model.register_forward_hook(gather).remove)
        yield inside.switches


def _projections(terms: Sequence[ObjectiveTerm], seed: int) -> nn.ModuleDict:
    widths = {term.name: term.needs.widths for term in terms if term.needs.widths}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.ModuleDict({name: nn.Linear(*pair, bias=False) for name, pair in widths.items()})


def gathered(returned: Any, terms: Sequence[ObjectiveTerm]) -> tuple[Any, dict[str, StudentOutputs]]:
    """Separate what the student returns in training: its own output, and the layers that each term compares."""
    deep = [term for term in terms if term.needs.student]
    if not deep:
        return returned, {}
    found = {}
    for term in deep:
        layers: dict[str, dict[int, torch.Tensor]] = {kind: {} for kind in get_args(LayerKind)}
        for name in term.needs.student:
            content = LayerContent.parse(name)
            assert content is not None
            layers[content.kind][content.layer] = returned[f"{term.name}/{name}"]
        found[term.name] = StudentOutputs({}, **layers)
    return returned[RAW], found
