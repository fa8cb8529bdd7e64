"""An exported model answers as the model it came from, for inputs of any size, and is served without torch."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from transformers import BertForSequenceClassification, DistilBertConfig, DistilBertForSequenceClassification

from kd.base.types import UserError
from kd.models.load import load_tokenizer
from kd.serving import package
from kd.serving.onnx import save_onnx
from kd.tasks import TASKS, options_of, task_named
from kd.tasks.classification.task import Classification
from tests.test_contracts import CASES, features_of
from tests.tiny import bert as deep_bert
from tests.tiny import tokenizer

ROOT = Path(__file__).parents[2]
SERVED = Classification("text", "", "label").served
SETTINGS = {"inputs": ["text"], "labels": ["bad", "good"], "max_length": 12}
FORMATS = ("onnx", "onnx-int8")
TEXTS = ["good", "", "the film was very bad", "Ünïcode ?! — xyz", "a fine story " * 9, "it was not good", "plot"]


def spread(model):
    """Weights so large that different inputs get clearly different answers, which tiny random models do not give."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(10 if weight.ndim > 1 else 1)
    return model.eval()


def bert():
    return spread(deep_bert(layers=1))


def example(rows=2, length=7):
    """A batch of random words whose rows, but for the first, are padded."""
    draw = torch.Generator().manual_seed(rows * length)
    ids = torch.randint(5, len(tokenizer()), (rows, length), generator=draw)
    mask = torch.ones_like(ids)
    for row in range(1, rows):
        kept = int(torch.randint(1, length + 1, (1,), generator=draw))
        ids[row, kept:], mask[row, kept:] = 0, 0
    return {"input_ids": ids, "attention_mask": mask}


def export(folder, form="onnx", model=None, **settings):
    words = settings.pop("words", None) or tokenizer()
    save_onnx(folder, model or bert(), words, example(), {**SETTINGS, "format": form, **settings})
    return folder


@dataclass(frozen=True)
class Folders:
    """One model in each format."""

    safetensors: Path
    onnx: Path
    int8: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("exported")
    package.save(root / "safetensors", bert(), tokenizer(), SETTINGS)
    return Folders(root / "safetensors", export(root / "onnx"), export(root / "int8", "onnx-int8"))


def answer(folder, texts=TEXTS):
    return package.answer(SERVED, folder, pd.DataFrame({"text": texts}))


def probabilities(answers):
    return np.array([[each[label] for label in SETTINGS["labels"]] for each in answers["probabilities"]])


def distilbert():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = DistilBertConfig(vocab_size=len(tokenizer()), dim=16, n_layers=2, n_heads=2, hidden_dim=32)
        return spread(DistilBertForSequenceClassification(config))


@pytest.fixture(scope="module", params=["bert", "distilbert"])
def graph(request, made, tmp_path_factory):
    model = bert() if request.param == "bert" else distilbert()
    folder = made.onnx if request.param == "bert" else export(tmp_path_factory.mktemp("graph") / "onnx", model=model)
    return model, onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("length", [2, 3, 7, 17, 60])
def test_no_axis_is_frozen_at_the_size_it_was_traced_with(graph, rows, length):
    model, session = graph
    batch = example(rows, length)
    given = session.run(["logits"], {name: value.numpy() for name, value in batch.items()})[0]
    with torch.no_grad():
        wanted = model(**batch).logits
    assert given.shape == wanted.shape
    np.testing.assert_allclose(given, wanted.numpy(), atol=1e-5)


def test_padding_is_masked_in_the_graph_too(graph):
    _, session = graph
    batch = {name: value.numpy() for name, value in example(5, 17).items()}
    seen = session.run(["logits"], {**batch, "attention_mask": np.ones_like(batch["attention_mask"])})[0]
    assert np.abs(seen - session.run(["logits"], batch)[0]).max() > 0.003


def test_the_graph_takes_what_it_was_given_and_gives_logits_alone(graph):
    _, session = graph
    assert [one.name for one in session.get_inputs()] == ["input_ids", "attention_mask"]
    assert [one.name for one in session.get_outputs()] == ["logits"]


@pytest.mark.integration
@pytest.mark.parametrize("task", [name for name in TASKS if {*FORMATS} <= {*task_named(name).formats}])
@pytest.mark.parametrize("form", FORMATS)
def test_what_is_served_scores_as_the_models_own_logits_do(task, form, tmp_path):
    case, splits = CASES[task], CASES[task].splits()
    kind = task_named(task).from_options(options_of(task)(**case.options | {"max_length": 12})).fitted(splits)
    rows, model, processor = splits.test, spread(case.model(kind)), case.processor(kind)
    batch = kind.collate(processor)(list(features_of(kind, rows, processor)))
    save_onnx(tmp_path / "model", model, processor, batch.inputs, {**kind.serving(), "format": form})
    answers = package.answer(kind.served, tmp_path / "model", kind.requests(rows))
    with torch.no_grad():
        own = kind.predictions(rows, [[record] for record in kind.answer(model, batch)])
    served = kind.predictions(rows, kind.from_served(answers))
    scores = own.select_dtypes("float").columns
    assert own[scores].std().max() > 0.003
    np.testing.assert_allclose(served[scores], own[scores], atol=1e-4 if form == "onnx" else 0.2)
    if form == "onnx":
        assert kind.fidelity(served, own)["fidelity/agreement"] == 1.0


def test_texts_that_are_empty_strange_or_too_long_are_read_as_before_export(made):
    before = probabilities(answer(made.safetensors))
    np.testing.assert_allclose(probabilities(answer(made.onnx)), before, atol=1e-5)
    assert np.ptp(before[:, 0]) > 0.003


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("columns", [["a"], ["a", "b"]])
def test_the_served_model_reads_texts_as_its_own_tokenizer_cuts_and_pads_them(columns, side, tmp_path):
    package.save(tmp_path / "model", bert(), tokenizer(), {**SETTINGS, "inputs": columns, "max_length": 8})
    path = tmp_path / "model" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"padding_side": side, "truncation_side": side}))
    table = pd.DataFrame({"b": TEXTS[::-1], "a": TEXTS})[sorted(columns, reverse=True)]
    served = probabilities(package.answer(SERVED, tmp_path / "model", table))
    texts = [table[column].tolist() for column in columns]
    words = load_tokenizer(tmp_path / "model", "model")
    batch = words(*texts, truncation=True, max_length=8, padding=True, return_tensors="pt")
    assert bool(batch["attention_mask"][0, 0] == 0) == (side == "left")
    with torch.no_grad():
        wanted = bert()(**batch).logits.softmax(-1).numpy()
    np.testing.assert_allclose(served, wanted, atol=1e-5)
    assert np.ptp(wanted[:, 0]) > 0.003


def test_pairs_are_cut_and_padded_as_before_export_also_on_the_left(tmp_path):
    words = tokenizer()
    words.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    settings |= {"padding_side": "left", "truncation_side": "left"}
    settings["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    words = load_tokenizer(tmp_path, "model")
    batch = dict(words(TEXTS[:2], TEXTS[1:3], padding=True, return_tensors="pt"))
    assert batch["attention_mask"][0, 0] == 0
    assert "token_type_ids" in batch
    said = {**SETTINGS, "inputs": ["a", "b"], "max_length": 8}
    package.save(tmp_path / "safetensors", bert(), words, said)
    save_onnx(tmp_path / "onnx", bert(), words, batch, {**said, "format": "onnx"})
    pairs = pd.DataFrame({"b": TEXTS, "a": TEXTS[::-1]})
    before, after = (package.answer(SERVED, tmp_path / form, pairs) for form in ("safetensors", "onnx"))
    np.testing.assert_allclose(probabilities(after), probabilities(before), atol=1e-5)
    assert np.ptp(probabilities(before)[:, 0]) > 0.003  # the pairs are told apart at all


def test_an_int8_answer_does_not_depend_on_what_else_is_asked(made):
    together = probabilities(answer(made.int8))
    alone = np.concatenate([probabilities(answer(made.int8, [text])) for text in TEXTS])
    np.testing.assert_array_equal(together, alone)


def test_int8_is_smaller_and_not_the_same_numbers(made):
    sizes = [(folder / "model.onnx").stat().st_size for folder in (made.int8, made.onnx)]
    assert sizes[0] < sizes[1]
    kinds = {one.data_type for one in onnx.load(made.int8 / "model.onnx").graph.initializer}
    assert onnx.TensorProto.INT8 in kinds
    difference = np.abs(probabilities(answer(made.int8)) - probabilities(answer(made.onnx))).max()
    assert 0 < difference < 0.1


@pytest.mark.parametrize("form", ["onnx", "int8"])
def test_the_folder_has_the_weights_once_and_nothing_of_this_machine(made, form):
    folder = getattr(made, form)
    assert {path.name for path in folder.iterdir()} == {
        *("model.onnx", "config.json", "kd.json", "tokenizer.json", "tokenizer_config.json")
    }
    words = (folder / "model.onnx").read_bytes()
    assert str(ROOT).encode() not in words
    assert b"site-packages" not in words
    assert json.loads((folder / "kd.json").read_text())["parameters"] == bert().num_parameters()


@pytest.mark.integration
@pytest.mark.parametrize("form", FORMATS)
def test_weights_too_large_for_one_file_still_give_a_model_that_answers(made, form, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.onnx._internal.exporter._onnx_program._LARGE_MODEL_THRESHOLD", 0)
    folder = export(tmp_path / "large", form)
    beside = [path.name for path in folder.iterdir() if path.name.startswith("model.onnx.")]
    assert beside == (["model.onnx.data"] if form == "onnx" else [])  # a quarter of the size fits again
    moved = folder.rename(tmp_path / "moved")
    usual = made.onnx if form == "onnx" else made.int8
    np.testing.assert_allclose(probabilities(answer(moved)), probabilities(answer(usual)), atol=1e-6)


def python(code, *words, **env):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


SERVE = """
import json, sys
from pathlib import Path
import pandas as pd
from kd.serving import package
import kd.commands.measure
for folder in sys.argv[2:]:
    answers = package.answer(Path(sys.argv[1]), Path(folder), pd.DataFrame({"text": ["good", "bad plot"]}))
    assert len(answers) == 2
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
COUNT = """
import json, sys, importlib.util
spec = importlib.util.spec_from_file_location("served", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
ours = module._threads()
import torch
print(json.dumps([ours, torch.get_num_threads()]))
"""


@pytest.mark.integration
def test_neither_serving_nor_measuring_an_exported_model_imports_torch(made):
    modules = python(SERVE, SERVED, made.onnx, made.int8, **{"PATH": "/usr/bin"})
    assert "onnxruntime" in modules
    assert {"torch", "transformers", "safetensors"}.isdisjoint(modules)


@pytest.mark.integration
@pytest.mark.parametrize("env", [{"OMP_NUM_THREADS": "1"}, {"OMP_NUM_THREADS": "512"}], ids=str)
def test_onnxruntime_takes_as_many_threads_as_torch_so_their_latencies_compare(env):
    ours, torchs = python(COUNT, SERVED, **env)
    assert ours == torchs


def test_the_served_model_says_how_many_threads_its_session_has(made, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    given = []
    session = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda *words: given.append(words[1].intra_op_num_threads) or session(*words)
    )
    answer(made.onnx)
    assert given == [1]


def test_an_exported_model_needs_neither_torch_nor_transformers_to_be_installed():
    names = {form: {line.partition("==")[0] for line in package.requirements(form)} for form in ("onnx", "onnx-int8")}
    assert names["onnx"] == names["onnx-int8"]
    assert "onnxruntime" in names["onnx"]
    assert {"torch", "transformers", "safetensors"}.isdisjoint(names["onnx"])
    assert "onnxruntime" not in {line.partition("==")[0] for line in package.requirements("safetensors")}


class Branching(BertForSequenceClassification):
    """Decides by the values of its input, which no graph can."""

    def forward(self, input_ids, attention_mask):
        if input_ids.sum().item() % 2:
            return super().forward(input_ids, attention_mask)
        return super().forward(input_ids)


def test_a_model_that_cannot_be_traced_is_named_in_one_line(tmp_path):
    with pytest.raises(UserError, match=r"^model: Branching cannot be exported to ONNX: \S") as caught:
        export(tmp_path / "model", model=Branching(bert().config))
    assert "\n" not in str(caught.value)


def test_a_tokenizer_of_python_code_is_refused_since_it_would_not_be_there_when_served(tmp_path):
    from transformers import CanineTokenizer

    with pytest.raises(UserError, match="CanineTokenizer"):
        export(tmp_path / "model", words=CanineTokenizer())
    assert not (tmp_path / "model").exists()
