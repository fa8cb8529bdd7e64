"""Forecasters made by name, made around a language model's weights, and read back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel

from kd.base.console import one_line, shown
from kd.base.types import UserError
from kd.models.folder import UNUSABLE, require_weights
from kd.models.forecast import FORECASTERS, Forecaster, ForecasterConfig, made, read
from kd.tasks.forecasting.options import ForecastingOptions

HEADS = 8
"""Heads of the reprogramming attention, as published."""
PEER = {"num_hidden_layers": 3, "hidden_size": 64, "num_attention_heads": 4}
"""Shape of PatchTST."""


@dataclass(frozen=True)
class Scale:
    """What a forecaster measures in: the mean of the series and the spread of each channel, on training rows; time."""

    center: float = 0.0
    spreads: tuple[float, ...] = (1.0,)
    step_s: int = 0
    """Seconds from one value to the next."""


def channels(options: ForecastingOptions, step_s: int) -> dict[str, Any]:
    """Return the settings that say what a forecaster is given and asked."""
    names = options.covariate_names
    return {
        "history": options.history,
        "horizon": options.horizon,
        "step_s": step_s,
        "covariates": list(names),
        "channels": 1 + len(names),
        "known": [1 + names.index(name) for name in options.known_names],
        "quantiles": list(options.levels),
    }


def named(kind: str, options: ForecastingOptions, scale: Scale) -> Forecaster:
    """Make a small forecaster by name."""
    settings = channels(options, scale.step_s) | (PEER if kind == "patchtst" else {})
    if kind == "persistence":
        settings["known"] = []
    return _scaled(made(ForecasterConfig(kind=kind, **settings)), scale)


def around(folder: Path, option: str, options: ForecastingOptions, scale: Scale) -> Forecaster:
    """Make Time-LLM around the language model in a folder.

    Raises:
        UserError: no such model can be made of it.
    """
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        depth, width = config.num_hidden_layers, config.hidden_size
        if options.backbone_layers > depth:
            raise UserError(f"backbone_layers={options.backbone_layers}: {option} has {depth}: give at most so many")
        if options.head_width > width:
            raise UserError(f"head_width={options.head_width}: {option} is {width} wide: give at most that")
        source = _source(folder, option, config)
        if options.backbone in ("attention", "none"):
            width = source.get_input_embeddings().embedding_dim
        layers = {"attention": 1, "none": 0}.get(options.backbone, options.backbone_layers or depth)
        settings = ForecasterConfig(
            kind="time-llm",
            **channels(options, scale.step_s),
            num_hidden_layers=layers,
            hidden_size=width,
            num_attention_heads=config.num_attention_heads,
            patch_length=options.patch_length,
            patch_stride=options.patch_stride,
            patch_width=options.patch_width,
            head_width=options.head_width,
            key_width=options.head_width,
            heads=HEADS,
            prototypes=options.prototypes,
            around=options.backbone,
            train_backbone=options.train_backbone,
            prompt="none" if options.backbone == "none" else options.prompt,
            about=options.prompt_about,
            backbone=_settings(config),
        )
        model = made(settings)
        _take_weights(model, source)
    except UNUSABLE as error:
        raise UserError(
            f"{option}: {folder.name} is no language model that can be loaded: {one_line(error)}"
        ) from error
    return _scaled(model, scale)


def _settings(config: Any) -> dict[str, Any]:
    """Return a language model's settings, without what does not matter to its shape."""
    settings: dict[str, Any] = config.to_dict()
    for name in ("_name_or_path", "architectures", "transformers_version", "dtype", "id2label", "label2id"):
        settings.pop(name, None)
    return {**settings, "model_type": config.model_type}


def _source(folder: Path, option: str, config: Any) -> Any:
    """Load a language model, in float32."""
    require_weights(lambda: AutoModel.from_config(config, trust_remote_code=False), folder, option)
    source, info = AutoModel.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, output_loading_info=True
    )
    if absent := [name for name in info["missing_keys"] if ".pooler." not in f".{name}"]:
        raise UserError(
            f"{option}: {len(absent)} weights of {type(source).__name__} are not in {folder.name} "
            f"(such as {min(absent)!r}); use a model that is whole"
        )
    return source


def _take_weights(model: Any, source: Any) -> None:
    """Copy a language model's weights, or its table of words alone, into a Time-LLM."""
    with torch.no_grad():
        model.table.weight.copy_(source.get_input_embeddings().weight)
    if model.config.around == "pretrained":
        wanted = model.backbone.state_dict()
        model.backbone.load_state_dict({name: value for name, value in source.state_dict().items() if name in wanted})


def finished(folder: Path, option: str, options: ForecastingOptions, step_s: int) -> Forecaster:
    """Read a forecaster back that was trained.

    Raises:
        UserError: it is none, is damaged, or forecasts something else than these options ask.
    """
    try:
        config = ForecasterConfig.from_pretrained(folder)
        if config.kind not in FORECASTERS or config.model_type != ForecasterConfig.model_type:
            raise ValueError("its config.json is not a forecaster's")
        require_weights(lambda: made(config), folder, option)
        model = read(folder)
    except UNUSABLE as error:
        raise UserError(f"{option}: {folder.name} is no forecaster that can be loaded: {one_line(error)}") from error
    for name, wanted in channels(options, step_s).items():
        has = getattr(config, name)
        if has != wanted and not (name == "known" and config.kind == "persistence"):
            had, here = (",".join(map(str, one)) if isinstance(one, list) else one for one in (has, wanted))
            raise UserError(
                f"{option}: it was trained with {name}={shown(had)}, and here {name}={shown(here)}: use a model "
                "trained with the options of these data"
            )
    return model


def is_forecaster(folder: Path) -> bool:
    """Whether a folder's configuration is that of a forecaster of this project."""
    text = (folder / "config.json").read_text(encoding="utf-8") if (folder / "config.json").is_file() else ""
    return f'"{ForecasterConfig.model_type}"' in text


def _scaled(model: Forecaster, scale: Scale) -> Forecaster:
    model.scaled_by(scale.center, scale.spreads)
    return model
