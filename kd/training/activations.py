"""Gather what objective terms compare of a student's layers, while it trains."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, get_args

import torch
from torch import nn
from transformers import PreTrainedModel

from kd.base.types import LayerKind, ObjectiveTerm, StudentOutputs
from kd.models.activations import look_into, with_maps

RAW = "raw"
PROJECTIONS = "distillation"
"""Name of the projections within the student while it trains, so that optimiser, ranks and checkpoints include them."""


@contextmanager
def looked_into(model: PreTrainedModel, terms: Sequence[ObjectiveTerm], seed: int) -> Iterator[dict[str, bool]]:
    """Make a student in training return what terms need, projected to the teacher's width; afterwards it is as before.

    Yields:
        Keyword arguments to call the student with. In training it then returns a dict: `raw`, its own output, and for
        each term its layers, which `gathered` takes apart. Without needs nothing is changed.
    """
    deep = [term for term in terms if term.needs.student]
    if not deep:
        yield {}
        return
    inside = look_into(model, [name for term in deep for name in term.needs.student], "student")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        widths = {term.name: term.needs.widths for term in deep if term.needs.widths}
        projections = nn.ModuleDict({name: nn.Linear(*pair, bias=False) for name, pair in widths.items()})

    def gather(module: nn.Module, _: Any, outputs: Any) -> dict[str, Any] | None:
        if not module.training:
            return None
        found = inside.picked(outputs, heard)
        heard.clear()
        given: dict[str, Any] = {RAW: outputs}
        for term in deep:  # within the forward, so that DDP reduces the projections' gradients
            join = projections[term.name] if term.needs.widths else nn.Identity()
            given[term.name] = {kind: {} for kind in get_args(LayerKind)}
            for name in term.needs.student:
                content = inside.contents[name]
                given[term.name][content.kind][content.layer] = join(found[name].float())
        return given

    with ExitStack() as until_trained:
        if "attention" in inside.kinds:
            until_trained.enter_context(with_maps(model))
        heard = until_trained.enter_context(inside.listening())
        if projections:
            model.add_module(PROJECTIONS, projections.to(model.device))
            until_trained.callback(model.__delattr__, PROJECTIONS)
        until_trained.callback(model.register_forward_hook(gather).remove)
        yield inside.switches


def gathered(returned: Any, terms: Sequence[ObjectiveTerm]) -> tuple[Any, dict[str, StudentOutputs]]:
    """Separate what the student returns in training: its own output, and the layers that each term compares."""
    names = [term.name for term in terms if term.needs.student]
    if not names:
        return returned, {}
    return returned[RAW], {name: StudentOutputs({}, **returned[name]) for name in names}
