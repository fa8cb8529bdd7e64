"""The key of the cache: whatever changes what the teacher says makes another cache, and nothing else does."""

import json
from dataclasses import replace

import pytest
import torch

from kd.base import files
from kd.base.types import TopLogProbs
from kd.config import StudentConfig
from kd.run import identity, student
from kd.run.data import load_rows
from kd.run.locate import locate
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
    return StudentConfig(dataset=str(tmp_path / "rows.csv"), teacher=str(folder), precision="fp32")


def computed(config, split="train"):
    """How many rows the teacher had to run over, and how many there are."""
    rows = load_rows(config, config.seed)
    located = locate(config.teacher, "teacher")
    teacher = rows.task.load_model(located.folder, "teacher", finished=True)
    signal = student.signal_of(config, rows, located, teacher)(split)
    assert signal.all_logits().shape[1] == 2
    return signal.computed


def changed_rows(config, tmp_path, monkeypatch):
    path = tmp_path / "rows.csv"
    path.write_text(path.read_text().replace("good", "fine", 1))


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
    "other code": lambda c, tmp, patch: patch.setattr(student, "teaching_code", lambda: "other"),
    "other libraries": lambda c, tmp, patch: patch.setattr(identity, "version", lambda name: "99"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_the_teacher_said_before_the_change_is_not_read(config, change, tmp_path, monkeypatch):
    assert computed(config) == 32
    assert computed(config) == 0
    change(config, tmp_path, monkeypatch)
    assert computed(config) == 32


@pytest.mark.parametrize("option", [{"max_length": 5}, {"precision": "bf16"}, {"split_seed": 3}], ids=str)
def test_options_that_change_what_the_teacher_sees_make_another_cache(config, option):
    assert computed(config) == 32
    assert computed(replace(config, **option)) == 32


@pytest.mark.parametrize("option", [{"seed": 3}, {"learning_rate": 0.1}, {"epochs": 9}, {"batch_size": 2}], ids=str)
def test_options_of_the_student_share_one_cache(config, option):
    assert computed(config) == 32
    assert computed(replace(config, **option)) == 0


def test_every_split_has_its_own(config):
    assert [computed(config, split) for split in ("train", "validation", "test")] == [32, 4, 4]
    assert [computed(config, split) for split in ("train", "validation", "test")] == [0, 0, 0]


def test_of_many_options_training_keeps_the_most_probable_and_scoring_has_them_all(config, monkeypatch):
    monkeypatch.setattr(run, "MANY_OPTIONS", 2)
    rows = load_rows(config, config.seed)
    located, teacher = student.find_teacher(config, rows)
    signal = student.signal_of(config, rows, located, teacher)
    assert isinstance(signal("train")(torch.arange(2)).logits, TopLogProbs)
    for name in ("validation", "test"):
        assert signal(name).all_logits().shape == (4, 2)


def test_what_is_told_of_a_cache_is_where_it_came_from(config):
    computed(config)
    entry = entries(files.is_whole)[0]
    assert entry.about == {
        "teacher": config.teacher,
        "data": config.dataset,
        "split": "train",
        "precision": "fp32",
        "contents": "logits",
    }
