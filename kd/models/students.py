"""Build a student: from a source model's layers, or with random weights from a configuration."""

import copy
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from transformers import PreTrainedModel

from kd.base.console import did_you_mean, one_line
from kd.base.types import UserError
from kd.models.folder import UNUSABLE
from kd.models.layers import OTHERS, WHOLE, LayerMap, copy_layers, layer_stack, without_layers

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
NO_LAYERS = ("_token_id", "architectures", "languages", "type_vocab_sizes")
"""Ends of names of lists that have no entry a layer, whatever their length."""
SAME = 1e-5
"""Largest difference of outputs that are the same, as a share of the greatest of them: both are computed alike."""
Says: TypeAlias = Callable[[PreTrainedModel], Mapping[str, torch.Tensor]]
SIZES = ("num_hidden_layers", "hidden_size", "num_attention_heads")


def build_student(source: PreTrainedModel, layers: int, indices: LayerMap, seed: int) -> PreTrainedModel:
    """Make a shallower model of the source's own architecture and width, with its embeddings, pooler and head; float32.

    Layer i starts from the source's layer `indices[i]`, or by `seed` where there are none. The source is not changed.

    Raises:
        UserError: the source has no single list of layers, layers differ in their weights by their place, or the
            student's configuration, saved and read again, is another model's.
    """
    kind = type(source)
    stack = layer_stack(source)
    try:
        student = _random(kind, _cut(source.config, layers, indices or range(layers)), seed)
    except UNUSABLE as error:
        raise UserError(
            f"student_layers: no {kind.__name__} of {layers} of its {source.config.num_hidden_layers} layers can be "
            f"built: {one_line(error)}; {WHOLE}"
        ) from error
    if (count := len(list(student.get_submodule(stack).children()))) != layers:
        raise UserError(
            f"student_layers: with {layers} layers this {kind.__name__} still has {count} in {stack}; {WHOLE}"
        )
    copy_layers(source, student, indices)
    require_kept(student, "student_layers")
    return student


def _cut(config: Any, layers: int, kept: Sequence[int]) -> Any:
    """Return a configuration of `layers` layers; of each setting with one entry a layer, the entries of `kept`."""
    settings, depth = config.to_dict(), config.num_hidden_layers
    for name, value in settings.items():
        if isinstance(value, list) and len(value) == depth and not name.endswith(NO_LAYERS):
            settings[name] = [value[layer] for layer in kept]
    if "per_layer_config" in settings:
        own = {int(layer): value for layer, value in settings["per_layer_config"].items()}
        settings["per_layer_config"] = {place: own[layer] for place, layer in enumerate(kept) if layer in own}
    if "attention_types" in settings:  # GPT-Neo reads its kinds of layers from pairs of a pattern and how often
        settings["attention_types"] = [[[kind], 1] for kind in settings["attention_layers"]]
    settings[config.attribute_map.get("num_hidden_layers", "num_hidden_layers")] = layers
    return type(config).from_dict(settings)


def require_kept(model: PreTrainedModel, option: str) -> None:
    """Check that a model's configuration, saved and read again, is the same and makes a model of the same weights.

    Raises UserError, naming the option, where it does not: the trained model could not be loaded.
    """
    kind, config = type(model), model.config
    try:
        with tempfile.TemporaryDirectory() as folder:
            config.save_pretrained(folder)
            again = type(config).from_pretrained(folder)
        settings = [
            {
                name: value
                for name, value in json.loads(one.to_json_string(use_diff=False)).items()
                if name not in NO_SHAPE
            }
            for one in (config, again)
        ]
        with torch.device("meta"):
            shapes = [{name: value.shape for name, value in one.state_dict().items()} for one in (model, kind(again))]
    except UNUSABLE as error:
        raise UserError(
            f"{option}: a saved {kind.__name__} like this cannot be read again: {one_line(error)}"
        ) from error
    if settings[0] != settings[1] or shapes[0] != shapes[1]:
        raise UserError(
            f"{option}: a saved {kind.__name__} like this is another model when it is read again: use another"
        )


def require_same(source: PreTrainedModel, student: PreTrainedModel, indices: LayerMap, say: Says) -> None:
    """Check that a student made of layers says what its source says without its other layers.

    What a layer does may depend on its place in ways that no setting knows, such as a scale by its number.

    Args:
        source: gave the layers `indices`.
        student: has them and no others.
        indices: 0-based.
        say: returns a model's outputs for some inputs, by name.

    Raises:
        UserError: it does not.
    """
    said, home = [], student.device
    student.to(source.device)  # another device computes otherwise
    for model, others in ((student, ()), (source, set(range(source.config.num_hidden_layers)) - set(indices))):
        was_training = model.training
        with torch.inference_mode(), without_layers(model.eval(), others):
            said.append({name: value.float().cpu() for name, value in say(model).items()})
        model.train(was_training)
    student.to(home)
    for name, theirs in said[1].items():
        scale = theirs[theirs.isfinite()].abs().max().item()
        if not torch.allclose(said[0][name], theirs, rtol=0.0, atol=SAME * scale, equal_nan=True):
            raise UserError(
                f"student_layers: layers {','.join(map(str, indices))} of this {type(source).__name__} would compute "
                f"something else in a student, because what a layer does depends on its place; {OTHERS}"
            )


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
    except UNUSABLE as error:
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
