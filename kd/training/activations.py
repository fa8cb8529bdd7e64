"""What the terms compare of the student's layers, gathered while it trains."""

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
"""Name of the projections within the student, while it trains: so optimiser, ranks and checkpoints know them."""


@contextmanager
def looked_into(model: PreTrainedModel, terms: Sequence[ObjectiveTerm], seed: int) -> Iterator[dict[str, bool]]:
    """Have a student in training give what terms need, joined to the teacher's width; afterwards no trace is left.

    Yields:
        What the student must be called with. In training it then returns a dict: `raw`, what it would have returned,
        and for each term `hidden/hidden.1`, say, which `gathered` takes apart. Without needs nothing is changed.
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
        for term in terms:  # within the forward, or the ranks' gradients would not be brought together
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
    """Take apart what the student returns in training: its own output, and what each term takes of its layers."""
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
