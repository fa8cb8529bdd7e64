"""Build a student: from a source model's layers, or with random weights from a configuration."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedModel

from kd.base.console import did_you_mean, one_line
from kd.base.types import UserError
from kd.models.layers import LayerMap, copy_layers

SHARED = (
    *("vocab_size", "type_vocab_size", "pad_token_id", "bos_token_id", "eos_token_id"),
    *("id2label", "label2id", "problem_type"),
)
"""Settings decided by tokenizer and labels: a student of another shape takes its teacher's."""
NO_SHAPE = (
    *("_name_or_path", "architectures", "model_type", "num_labels"),
    *("dtype", "torch_dtype", "transformers_version"),
)
"""Other settings of a saved configuration, which are ignored."""
SIZES = ("num_hidden_layers", "hidden_size", "num_attention_heads")


def build_student(source: PreTrainedModel, layers: int, indices: LayerMap, seed: int) -> PreTrainedModel:
    """Make a shallower model of the source's own architecture and width, with its embeddings, pooler and head; float32.

    Layer i starts from the source's layer `indices[i]`, or by `seed` where there are none. The source is not changed.
    """
    config = copy.deepcopy(source.config)
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None) is not None:
        config.layer_types = [config.layer_types[i] for i in indices or range(layers)]
    student = _random(type(source), config, seed)
    copy_layers(source, student, indices)
    return student


def configured_student(source: PreTrainedModel, settings: Mapping[str, Any], seed: int) -> PreTrainedModel:
    """Make a model of the source's architecture, vocabulary and labels in another shape, with random weights; float32.

    The source is not changed. Settings that are not given have the architecture's default.

    Raises:
        UserError: another architecture or vocabulary, an unknown setting, or a shape that cannot be built.
    """
    _require_settings(source, settings)
    kind = type(source.config)
    shared = {name: getattr(source.config, name) for name in SHARED if hasattr(source.config, name)}
    shape = {name: value for name, value in settings.items() if name not in NO_SHAPE}
    try:
        config = kind(**{**shape, **shared})
        for name in SIZES:
            if not (isinstance(value := getattr(config, name), int) and value >= 1):
                raise ValueError(f"{name}={value!r} is no number >= 1")
        return _random(type(source), config, seed)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, StrictDataclassError) as error:
        raise UserError(f"student_config: no {kind.model_type} model can be built of it: {one_line(error)}") from error


def random_like(model: PreTrainedModel, seed: int) -> PreTrainedModel:
    """Make a model of the same shape with random weights, float32."""
    return _random(type(model), copy.deepcopy(model.config), seed)


def _require_settings(source: PreTrainedModel, settings: Mapping[str, Any]) -> None:
    kind, words = type(source.config), source.config.vocab_size
    if (other := settings.get("model_type", kind.model_type)) != kind.model_type:
        raise UserError(
            f"student_config: model_type={other!r}, and the teacher is {kind.model_type!r}: give a configuration of "
            "that architecture, or another pretrained model as student"
        )
    if (count := settings.get("vocab_size", words)) != words:
        raise UserError(
            f"student_config: vocab_size={count!r}, and the student has its teacher's tokenizer of {words} tokens: "
            "leave it out"
        )
    known = {*kind().to_dict(), *kind.attribute_map, *NO_SHAPE}
    if unknown := [name for name in settings if name not in known]:
        hint = did_you_mean(unknown[0], known, "leave it out")
        raise UserError(f"student_config: {unknown[0]!r} is no setting of a {kind.model_type} model; {hint}")


def _random(kind: type[PreTrainedModel], config: Any, seed: int) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(config).float()
