"""The key of the cache: whatever changes what the teacher says makes another cache, and nothing else does."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from kd.base.files import is_whole
from kd.base.types import TopLogProbs, UserError
from kd.config import StudentConfig, with_options
from kd.run import identity, signals, student
from kd.run.code import code_digest
from kd.run.data import load_rows
from kd.run.signals import TeacherSignals
from kd.tasks.classification.options import ClassificationOptions
from kd.teacher import run
from kd.teacher.cache.inventory import entries
from tests.tiny import saved_bert

WORDS = ("good", "bad", "fine", "poor", "very", "not")


@pytest.fixture
def config(tmp_path):
    """Forty rows, and a teacher in a folder."""
    lines = [f"{WORDS[i % 6]} {WORDS[i % 5]} film {chr(97 + i % 26)} {i},{('bad', 'good')[i % 2]}" for i in range(40)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    folder = saved_bert(tmp_path / "weights", layers=2)
    return StudentConfig(
        dataset=str(tmp_path / "rows.csv"), teacher=str(folder), precision="fp32", task_options=ClassificationOptions()
    )


def opened(config):
    """The teacher of these options, and what it says of their rows."""
    rows = load_rows(config)
    teacher = student.find_teacher(config, rows)
    return teacher, TeacherSignals(config, rows, teacher)


def computed(config):
    """How many training features the teacher had to run over."""
    signal = opened(config)[1].train()
    assert signal.all_outputs()["logits"].shape == (32, 2)
    return signal.computed


def answered(config, split="test"):
    """How many features of a split the teacher had to answer."""
    teacher, found = opened(config)
    seen = []
    teacher.model.register_forward_pre_hook(
        lambda _, given, named: seen.append(len(named["input_ids"])), with_kwargs=True
    )
    assert len(found.predictions(split)) == 4
    return sum(seen)


def changed_rows(config, tmp_path, monkeypatch):
    path = tmp_path / "rows.csv"
    path.write_text(path.read_text().replace(" film", " story"))


def changed_word(config, tmp_path, monkeypatch):
    path = tmp_path / "weights" / "tokenizer.json"
    told = json.loads(path.read_text())
    told["model"]["vocab"]["film"], told["model"]["vocab"]["book"] = (
        told["model"]["vocab"]["book"],
        told["model"]["vocab"]["film"],
    )
    path.write_text(json.dumps(told))


CHANGES = {
    "another teacher of the same name": lambda c, tmp, _: saved_bert(tmp / "weights", layers=2, seed=1) and None,
    "another configuration": lambda c, tmp, _: (tmp / "weights" / "config.json").write_text(
        (tmp / "weights" / "config.json").read_text().replace('"layer_norm_eps": 1e-12', '"layer_norm_eps": 1e-05')
    ),
    "another vocabulary": changed_word,
    "other rows": changed_rows,
    "other code": lambda c, tmp, patch: patch.setattr(signals, "teaching_code", lambda task: "other"),
    "other libraries": lambda c, tmp, patch: patch.setattr(identity, "version", lambda name: "99"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_the_teacher_said_before_the_change_is_not_read(config, change, tmp_path, monkeypatch):
    assert (computed(config), answered(config)) == (32, 4)
    assert (computed(config), answered(config)) == (0, 0)
    change(config, tmp_path, monkeypatch)
    assert (computed(config), answered(config)) == (32, 4)


@pytest.mark.parametrize("option", [{"max_length": 5}, {"precision": "bf16"}, {"split_seed": 3}], ids=str)
def test_options_that_change_what_the_teacher_sees_make_another_cache(config, option):
    """Predictions are those of the served teacher, float32 whatever the training computes in."""
    assert (computed(config), answered(config)) == (32, 4)
    assert computed(with_options(config, **option)) == 32
    assert answered(with_options(config, **option)) == (0 if "precision" in option else 4)


@pytest.mark.parametrize("option", [{"seed": 3}, {"learning_rate": 0.1}, {"epochs": 9}, {"batch_size": 2}], ids=str)
def test_options_of_the_student_share_one_cache(config, option):
    assert (computed(config), answered(config)) == (32, 4)
    assert (computed(with_options(config, **option)), answered(with_options(config, **option))) == (0, 0)


def test_every_split_has_its_own(config):
    for again in (False, True):
        assert computed(config) == (0 if again else 32)
        assert [answered(config, split) for split in ("validation", "test")] == ([0, 0] if again else [4, 4])


@pytest.mark.parametrize("split", ["validation", "test"])
def test_predictions_from_disk_are_those_of_the_teacher_when_it_answers_itself(config, split):
    teacher, found = opened(config)
    kept = [found.predictions(split), opened(config)[1].predictions(split)]
    online = opened(replace(config, cache="off"))[1].predictions(split)
    for table in kept:
        pd.testing.assert_frame_equal(table, online, check_exact=True)
    examples = found.rows.split(split)
    batch = teacher.processor(list(examples["text"]), padding=True, return_tensors="pt")
    with torch.inference_mode():
        plain = teacher.model.eval()(**batch).logits.softmax(-1).numpy()
    np.testing.assert_allclose(online[["score:bad", "score:good"]], plain, atol=1e-6)
    assert list(online["example_id"]) == list(examples["example_id"])


def test_without_a_cache_predictions_are_neither_written_nor_read(config, kd_home):
    off = replace(config, cache="off")
    assert [answered(off), answered(off)] == [4, 4]
    assert not list(kd_home.glob("predictions/*"))
    assert answered(config) == 4
    assert answered(off) == 4


def test_predictions_that_are_damaged_are_made_again_and_alike(config, kd_home):
    before = opened(config)[1].predictions("test")
    (path,) = kd_home.glob("predictions/*.parquet")
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], whole[:60] + bytes([whole[60] ^ 1]) + whole[61:]):
        path.write_bytes(damaged)
        assert answered(config) == 4
        assert answered(config) == 0
        pd.testing.assert_frame_equal(opened(config)[1].predictions("test"), before, check_exact=True)


def test_a_disk_that_takes_no_predictions_costs_a_warning_and_not_the_training(config, kd_home, caplog):
    (kd_home / "encoded").mkdir(parents=True)
    (kd_home / "predictions").write_text("a file where the folder should be")
    assert [answered(config), answered(config)] == [4, 4]
    assert "predictions are not kept" in caplog.text


def test_an_edit_in_one_task_leaves_what_is_kept_of_others_valid(config, tmp_path, monkeypatch):
    """Of the tasks' folders only the own one is hashed: no file of another can change a key."""
    read = []
    real = type(tmp_path).read_bytes
    monkeypatch.setattr(type(tmp_path), "read_bytes", lambda path: read.append(path) or real(path))
    task = load_rows(config).task
    read.clear()
    whole = code_digest(task)
    of_tasks = {path.parent.name for path in read if "tasks" in path.parts}
    assert of_tasks == {"classification"}
    assert {path.name for path in read} >= {"scores.py", "signal.py", "loop.py"}
    monkeypatch.setattr(type(tmp_path), "read_bytes", lambda path: real(path) + b"#" * (path.name == "scores.py"))
    assert code_digest(task) != whole


@pytest.mark.parametrize("file", ["predict.py", "run.py", "tokens.py", "scores.py"])
def test_code_that_decides_what_the_teacher_answers_is_part_of_the_key(config, tmp_path, monkeypatch, file):
    """Else a mended `answers` would go on serving the predictions of the broken one."""
    task, real = load_rows(config).task, type(tmp_path).read_bytes
    before = identity.teaching_code(task)
    monkeypatch.setattr(type(tmp_path), "read_bytes", lambda path: real(path) + b"#" * (path.name == file))
    assert identity.teaching_code(task) != before


def test_a_digest_of_code_that_names_no_folder_fails_instead_of_naming_nothing(config):
    with pytest.raises(FileNotFoundError, match="signals"):
        code_digest(load_rows(config).task, ("data", "signals"))


def test_of_many_options_training_keeps_the_most_probable_and_scoring_has_them_all(config, monkeypatch):
    monkeypatch.setattr(run, "MANY_OPTIONS", 2)
    found = opened(config)[1]
    assert isinstance(found.train()(np.arange(2)).outputs["logits"], TopLogProbs)
    with pytest.raises(UserError, match="too many options to keep them all"):
        found.train().all_outputs()
    for name in ("validation", "test"):
        table = found.predictions(name)
        np.testing.assert_allclose(table["score:bad"] + table["score:good"], 1)


def test_what_is_told_of_a_cache_is_where_it_came_from(config):
    computed(config)
    entry = entries(is_whole)[0]
    assert entry.about == {
        "teacher": config.teacher,
        "data": config.dataset,
        "split": "train",
        "precision": "fp32",
        "contents": "outputs",
    }
