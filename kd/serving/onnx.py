"""A PyTorch model as ONNX, in float32 or with int8 weights, in the folder it is served from."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from tokenizers import Tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kd.base.types import UserError
from kd.serving.package import write_settings

OPSET = 20
"""From opset 23 attention is one operator, which onnxruntime's quantisation turns into an invalid graph."""


class _Logits(torch.nn.Module):
    """Takes the model's inputs by position, and returns its logits alone."""

    def __init__(self, model: PreTrainedModel, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.model(**dict(zip(self.names, inputs, strict=True))).logits


def save_onnx(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    inputs: Mapping[str, torch.Tensor],
    settings: Mapping[str, Any],
) -> None:
    """Write `model.onnx`, configuration, tokenizer and `kd.json` into `folder`; no weights but those in the graph.

    Weights are in that file up to 1.5 GiB; larger ones are in a file beside it, which onnxruntime finds by itself.

    Args:
        folder: is created.
        model: on CPU, float32.
        tokenizer: the model's; the file written pads to the longest and cuts at `max_length` by itself, so that the
            library tokenizers alone can read it.
        inputs: a batch of at least two features, by the model's names. Later batches may have any size, and so may
            every other axis that the model lets vary.
        settings: of the pyfunc, with `format` (onnx or onnx-int8) and `max_length`; the number of parameters, which
            cannot be read from a graph, is added.

    Raises:
        UserError: the model's code cannot be traced, or its tokenizer is not that library's.
    """
    if not tokenizer.is_fast:
        raise UserError(f"model: {type(tokenizer).__name__} works in Python alone, and ONNX is served without its code")
    folder.mkdir(parents=True)
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _reader(tokenizer, settings["max_length"]).save(str(folder / "tokenizer.json"))
    write_settings(folder, {**settings, "parameters": model.num_parameters()})
    with _silent():
        program = _traced(model, inputs)
        if settings["format"] == "onnx-int8":
            _quantise(program.model_proto, folder / "model.onnx")
        else:
            program.save(folder / "model.onnx")


def _traced(model: PreTrainedModel, inputs: Mapping[str, torch.Tensor]) -> torch.onnx.ONNXProgram:
    free = torch.export.Dim.AUTO
    shapes = tuple({axis: free if axis else "batch" for axis in range(value.ndim)} for value in inputs.values())
    try:
        program = torch.onnx.export(
            _Logits(model.eval(), list(inputs)),
            tuple(inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=["logits"],
            dynamic_shapes={"inputs": shapes},
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        cause = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"model: {type(model).__name__} cannot be exported to ONNX: {cause[0]}") from error
    assert program is not None  # it is None only where a file name is given
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # half a MiB of stack traces with this machine's paths
    return program


def _quantise(model: onnx.ModelProto, target: Path) -> None:
    """Quantise weights to int8, activations at run time: https://onnxruntime.ai/docs/performance/model-optimizations.

    Each output channel has a scale: with one scale for a whole matrix, two to three times as many answers changed on
    the demo's models. Seven of the eight bits are used, because with eight, sums overflow on x86 processors without
    VNNI, and answers would depend on the processor.
    """
    del model.graph.value_info[:]  # shapes recorded by tracing, which quantisation finds contradictory
    quantize_dynamic(model, target, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)


def _reader(tokenizer: PreTrainedTokenizerBase, max_length: int) -> Tokenizer:
    reader = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    reader.enable_truncation(max_length, direction=tokenizer.truncation_side)
    reader.enable_padding(
        direction=tokenizer.padding_side,
        pad_id=tokenizer.pad_token_id,
        pad_type_id=tokenizer.pad_token_type_id,
        pad_token=tokenizer.pad_token,
    )
    return reader


@contextmanager
def _silent() -> Iterator[None]:
    """Hide the exporters' messages to developers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)
