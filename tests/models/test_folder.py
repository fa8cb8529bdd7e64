"""A hostile or damaged folder is refused in one line, before memory, time or code is spent on it."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForSequenceClassification

from kd.base.types import UserError
from kd.models.load import fit_together, types_fit
from kd.run.locate import load
from kd.tasks.classification.task import Classification
from tests.architectures import built
from tests.tiny import bert, saved_bert, tokenizer

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 70,
         "image_size": 28, "patch_size": 14, "num_key_value_heads": 1, "head_dim": 8}  # fmt: skip
TASK = Classification("text", "", "label", max_length=32, labels=("bad", "good"))


@pytest.fixture
def folder(tmp_path):
    return saved_bert(tmp_path / "model")


def loaded(folder, task=TASK):
    return load(task, str(folder), "teacher", finished=False).model


def refusal(folder, task=TASK):
    with pytest.raises(UserError) as caught:
        loaded(folder, task)
    text = str(caught.value)
    assert text.startswith(f"teacher={str(folder)!r}")
    assert "\n" not in text
    return text


def write(folder, file="config.json", **settings):
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **settings}), encoding="utf-8")


@pytest.mark.parametrize("content", ["3", "null", "[]", '"bert"', "", "[" * 100_000, '{"model_type": "bert"'])
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_settings_that_are_no_settings_are_called_damaged(folder, file, content):
    (folder / file).write_text(content, encoding="utf-8")
    assert f"its {file} is damaged" in refusal(folder)


@pytest.mark.parametrize("content", ["{}", "3", "null", '{"model": {}}', "", "[" * 100_000])
def test_a_tokenizer_that_is_none_is_refused(folder, content):
    (folder / "tokenizer.json").write_text(content, encoding="utf-8")
    assert "no usable tokenizer" in refusal(folder)


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("link", [False, True])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(folder, file, link):
    (folder / file).unlink()
    os.mkfifo(folder.parent / "pipe" if link else folder / file)
    if link:
        (folder / file).symlink_to(folder.parent / "pipe")
    assert f"{file} is no ordinary file" in refusal(folder)


def test_a_pipe_in_place_of_pickled_weights_is_not_waited_for(folder):
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "pytorch_model.bin")
    assert "pytorch_model.bin is no ordinary file" in refusal(folder)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_weights_that_were_cut_short_are_called_damaged(folder, share):
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "model.safetensors is damaged" in refusal(folder)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_pickled_weights_that_were_cut_short_are_called_damaged(folder, share):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    content = (folder / "pytorch_model.bin").read_bytes()
    (folder / "pytorch_model.bin").write_bytes(content[: int(len(content) * share)])
    assert "pytorch_model.bin is damaged" in refusal(folder)


@pytest.mark.parametrize("name", ["num_hidden_layers", "num_labels"])
def test_counts_that_no_weights_have_are_refused_before_they_are_built(folder, name):
    write(folder, **{name: 10**9})
    assert f"{name}=1000000000" in refusal(folder)


@pytest.mark.parametrize("name", ["vocab_size", "hidden_size", "intermediate_size", "max_position_embeddings"])
def test_sizes_that_no_weights_have_take_no_memory(folder, name):
    write(folder, **{name: 10**10})
    assert any(words in refusal(folder) for words in ("they do not belong together", "size calculation overflowed"))


@pytest.mark.parametrize(
    "settings",
    [
        {"num_hidden_layers": "x"},
        {"num_hidden_layers": None},
        {"num_hidden_layers": -1},
        {"hidden_size": 0},
        {"num_attention_heads": 0},
        {"model_type": "no-such"},
        {"model_type": None},
        {"hidden_act": "no-such"},
        {"id2label": 3},
        {"dtype": "no-such"},
    ],
    ids=str,
)
def test_settings_of_which_no_model_can_be_built_are_refused(folder, settings):
    write(folder, **settings)
    refusal(folder)


def test_a_model_of_several_models_is_refused_in_words(tmp_path):
    """It has no number of layers, which all that follows reads."""
    config = AutoConfig.for_model("gemma3", **{part: {**SMALL} for part in ("text_config", "vision_config")})
    model = AutoModelForSequenceClassification.from_config(config)
    model.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    assert "Gemma3ForSequenceClassification has no layers of its own" in refusal(tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        {"auto_map": {"AutoModel": "evil.Model"}},
        {"text_config": {"auto_map": {"AutoModel": "evil.Model"}}},
        {"attn_implementation": "owner/kernel"},
        {"_attn_implementation": "owner/kernel"},
        {"attn_implementation": {"": "owner/kernel@main:run"}},
        {"_attn_implementation": {"text_config": "owner/kernel"}},
        {"text_config": {"_attn_implementation": "owner/kernel"}},
        {"parts": [{"attn_implementation": "owner/kernel"}]},
        {"attn_implementation": "paged|owner/kernel"},
        {"attn_implementation": "flash_attention_2"},
        {"experts_implementation": "deepgemm"},
        {"quantization_config": {"quant_method": "fp8"}},
        {"transformers_weights": "adapter_model.bin"},
    ],
    ids=str,
)
def test_settings_that_would_run_code_or_fetch_kernels_are_refused(folder, settings):
    write(folder, **settings)
    assert "needs code of its own to run" in refusal(folder)


def test_a_tokenizer_that_brings_its_own_code_is_refused(folder):
    write(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Words", None]})
    assert "needs code of its own to run, which is never executed (auto_map in tokenizer_config.json)" in refusal(
        folder
    )


@pytest.mark.parametrize("way", ["eager", "sdpa", None])
def test_ways_to_attend_that_need_no_other_code_are_taken(folder, way):
    write(folder, _attn_implementation=way)
    assert loaded(folder).config.num_hidden_layers == 4


def test_labels_may_be_called_as_settings_are(folder):
    names = ["auto_map", "quantization_config", *(f"label {i}" for i in range(1200))]
    write(folder, id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)})
    assert loaded(folder).config.num_labels == 2


def test_an_adapter_is_not_taken_for_a_model(folder):
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "owner/other"}', encoding="utf-8")
    assert "holds an adapter" in refusal(folder)


def test_an_index_that_names_pickled_parts_is_refused(folder):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    save_file(weights, folder / "model-1.safetensors", metadata={"format": "pt"})
    torch.save(weights, folder / "part.bin")
    parts = {"metadata": {}, "weight_map": dict.fromkeys(weights, "part.bin")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(parts), encoding="utf-8")
    assert "names files that are not there" in refusal(folder)
    parts["weight_map"] = dict.fromkeys(weights, "model-1.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(parts), encoding="utf-8")
    assert loaded(folder).config.num_hidden_layers == 4


# Model and tokenizer


def test_a_tokenizer_of_more_tokens_than_the_model_has_embeddings_is_refused_before_training(folder):
    words = tokenizer()
    words.add_tokens(["splendid"])
    words.save_pretrained(folder)
    assert "tokens up to number 70, and the model has embeddings for 70" in refusal(folder)


def test_token_types_that_the_model_has_not_are_refused_where_the_task_gives_them():
    model = bert()
    model.config.type_vocab_size = 1
    types_fit(model, [0, 0, 0], "teacher")
    with pytest.raises(
        UserError, match="teacher: its tokenizer gives pairs of texts 2 token types, and the model has 1"
    ):
        types_fit(model, [0, 0, 1], "teacher")


@pytest.mark.parametrize(("name", "most"), [("RoBERTa", 129), ("MPNet", 128), ("BERT", 130), ("OPT", 130)])
def test_positions_that_are_reserved_are_not_promised(name, most):
    """A text of 130 tokens is beyond RoBERTa's 130 positions: the training broke at its first long row."""
    model, words = built(name), tokenizer()
    words.model_max_length = 10**6
    fit_together(model, words, "teacher", most)
    ids = torch.full((1, most), 7)
    with torch.no_grad():
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
    with pytest.raises(UserError, match=f"max_length={most + 1} is more than its {most} positions"):
        fit_together(model, words, "teacher", most + 1)


def test_a_model_without_a_limit_takes_texts_of_any_length():
    """XLNet writes -1."""
    words = tokenizer()
    words.model_max_length = 10**6
    fit_together(built("XLNet"), words, "teacher", 5000)
