"""Building a student from a source model's layers."""

import copy

import torch
from transformers import PreTrainedModel

from kd.models.layers import LayerMap, copy_layers


def build_student(source: PreTrainedModel, layers: int, indices: LayerMap, seed: int) -> PreTrainedModel:
    """Make a shallower model of the source's own architecture and width.

    Args:
        source: the model whose layers are copied; it is left as it was.
        layers: number of transformer layers of the student.
        indices: the source layer that each student layer starts from; empty: the layers start at random.
        seed: of the random layers.

    Returns:
        A model in float32 with the source's embeddings, pooler and head.
    """
    config = copy.deepcopy(source.config)
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None) is not None:
        config.layer_types = [config.layer_types[i] for i in indices or range(layers)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = type(source)(config).float()
    copy_layers(source, student, indices)
    return student
