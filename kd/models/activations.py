"""What a model gives besides its logits: outputs and attention maps of layers, and their queries, keys and values."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

from kd.base.types import LayerContent, LayerKind, UserError

QUERIES, KEYS, VALUES = ("query", "q_proj", "q_lin"), ("key", "k_proj", "k_lin"), ("value", "v_proj", "v_lin")
"""Names of the linear layers of self-attention in BERT, most decoders, and DistilBERT."""
EAGER, MAPS = "eager", "kd_maps"
"""Implementations of attention that return maps: plain, and `_attention`."""
OTHERWISE = "use another objective or another"


@dataclass(frozen=True)
class Insides:
    """The contents of a model's layers that are read.

    Attributes:
        whose: `teacher` or `student`, for errors.
        contents: by text form, such as `hidden.3`.
        joints: modules that make queries, keys and values, by layer; of the layers whose relation is read.
    """

    whose: str
    contents: Mapping[str, LayerContent]
    joints: Mapping[int, tuple[torch.nn.Module, ...]]

    @property
    def kinds(self) -> set[LayerKind]:
        """Kinds among the contents."""
        return {content.kind for content in self.contents.values()}

    @property
    def switches(self) -> dict[str, bool]:
        """What the model must be called with."""
        known = {"output_hidden_states": "hidden", "output_attentions": "attention"}
        return {option: True for option, kind in known.items() if kind in self.kinds}

    @contextmanager
    def listening(self) -> Iterator[dict[torch.nn.Module, torch.Tensor]]:
        """Record the outputs of the joints meanwhile."""
        heard: dict[torch.nn.Module, torch.Tensor] = {}
        with ExitStack() as hooks:
            for joint in chain.from_iterable(self.joints.values()):
                hooks.callback(joint.register_forward_hook(lambda each, _, output: heard.update({each: output})).remove)
            yield heard

    def picked(self, outputs: Any, heard: Mapping[torch.nn.Module, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the contents, by text form; UserError where the model does not give one.

        Hidden states `(batch, length, width)`, attention maps `(batch, heads, length, length)`, relations
        `(batch, 3, length, width)`: queries, keys, values.
        """
        found = {}
        for name, content in self.contents.items():
            kind, layer = content.kind, content.layer
            if kind == "relation":
                found[name] = torch.stack([heard[joint] for joint in self.joints[layer]], dim=1)
                continue
            states = getattr(outputs, "hidden_states" if kind == "hidden" else "attentions", None)
            place = layer + (kind == "hidden")  # the first hidden state is the embeddings'
            if not states or place >= len(states) or states[place] is None:
                raise UserError(f"{self.whose}: it gives no {kind} of layer {layer}; {OTHERWISE} {self.whose}")
            found[name] = states[place]
        return found


def look_into(model: PreTrainedModel, contents: Sequence[str], whose: str) -> Insides:
    """Find contents of layers in a model: `hidden.3`, `attention.3` or `relation.3` of layer 3 (0-based), say.

    Raises UserError where it has no such layer, or no queries, keys and values of its own.
    """
    found = {name: content for name in contents if (content := LayerContent.parse(name)) is not None}
    count = getattr(model.config, "num_hidden_layers", 0)
    if (last := max((content.layer for content in found.values()), default=-1)) >= count:
        raise UserError(f"{whose}: its layer {last} (0-based) is to be compared, and it has {count} layers")
    relations = {content.layer for content in found.values() if content.kind == "relation"}
    if not relations:
        return Insides(whose, found, {})
    parts = list(model.named_modules())
    joints = [[part for name, part in parts if name.rpartition(".")[2] in words] for words in (QUERIES, KEYS, VALUES)]
    widths = {getattr(joint, "out_features", None) for joint in chain.from_iterable(joints)}
    if any(len(each) != count for each in joints) or len(widths) > 1:
        raise UserError(
            f"{whose}: {type(model).__name__} has no queries, keys and values of one width of its own in each of "
            f"{count} layers; {OTHERWISE} {whose}"
        )
    return Insides(whose, found, {layer: tuple(each[layer] for each in joints) for layer in relations})


def check(
    model: PreTrainedModel, inputs: Mapping[str, torch.Tensor], length: int, contents: Sequence[str], whose: str
) -> None:
    """Check on inputs of `length` tokens, before a training, that a model gives what is compared of each of them.

    Raises UserError where it does not.
    """
    inside = look_into(model, contents, whose)
    if not inside.contents:
        return
    was_training = model.training
    maps = with_maps(model, MAPS if whose == "student" else EAGER) if "attention" in inside.kinds else nullcontext()
    inputs = {name: value.to(model.device) for name, value in inputs.items()}
    with maps, torch.no_grad(), inside.listening() as heard:
        try:
            outputs = model.eval()(**inputs, **inside.switches)
        except TypeError as error:
            kinds = " and ".join(sorted(inside.kinds))
            raise UserError(f"{whose}: {type(model).__name__} gives no {kinds}; {OTHERWISE} {whose}") from error
        found = inside.picked(outputs, heard)
    if short := [name for name, value in found.items() if value.shape[-2] != length]:
        raise UserError(
            f"{whose}: {type(model).__name__} gives {short[0]} of {found[short[0]].shape[-2]} tokens where a text has "
            f"{length}; {OTHERWISE} {whose}"
        )
    model.train(was_training)


@contextmanager
def with_maps(model: PreTrainedModel, way: str = MAPS) -> Iterator[None]:
    """Make a model compute attention maps, before dropout, which fused attention does not; then it computes as before.

    As `way` EAGER is enough where there is no dropout. Raises UserError where maps cannot be had before dropout.
    """
    former = model.config._attn_implementation
    model.set_attn_implementation(way)
    try:
        if way == MAPS != model.config._attn_implementation:
            raise UserError(
                f"student: {type(model).__name__} gives no attention maps before dropout; {OTHERWISE} student"
            )
        yield
    finally:
        model.set_attn_implementation(former)


def _attention(module: torch.nn.Module, *given: Any, dropout: float = 0.0, **named: Any) -> Any:
    """Attend as the model's own plain code does, and give the maps as they are before dropout.

    After dropout a tenth of a map is 0, and its divergence from the teacher's infinite.
    """
    attend = sys.modules[type(module).__module__].eager_attention_forward
    output, maps = attend(module, *given, dropout=0.0, **named)
    if dropout and module.training:
        output, _ = attend(module, *given, dropout=dropout, **named)
    return output, maps


AttentionInterface.register(MAPS, _attention)
AttentionMaskInterface.register(MAPS, eager_mask)
