"""Hashes that a store keeps: were one to change, runs made before would no longer be compared with those made today."""

from dataclasses import replace

import pytest
from datasets import ClassLabel, Dataset

from kd.base.hashing import fingerprint
from kd.config import DistillConfig, StudentConfig, TeacherConfig
from kd.data.digests import digest
from kd.models import load
from kd.run import distill, student, teacher
from kd.run import locate as locating
from kd.run.data import load_rows
from kd.run.locate import locate
from tests.tiny import saved_bert

WORDS = ("good", "bad", "fine", "poor", "very", "not")
ROWS = [f"{WORDS[i % 6]} {WORDS[i % 5]} film {chr(97 + i % 26)} {i},{('bad', 'good')[i % 2]}" for i in range(40)]
# computed at the last commit before digests had a module of their own
DIGESTS = (
    "87dbc0406bbfb4d4a824728d7e7180d2",
    "8a166677573112b0160490619ecbf9f9",
    "b77c1c0a47f609ac0483d951178f88af",
    "15573a9419f4807a38b662b9e78f439b",
)
PLAIN, NAMED = "ae2779fa074350e44221bdf1b28b186e", "9bc7a33c0fdd3f2ef851cc544c10e406"
ARMS = {
    "teacher": "d75a96982b8f1539f7b0ab945c1423dc",
    "student": "ab89cd3a3b6088a655449f3ddc054139",
    "distilled": "59f9f88ac3d28dca6b000e3a44c0c873",
    "control": "fe6955131b83eed869a07cd54dc17aec",
}
PARTS = "e443c497ab85b47cacab0e475b75d209"
FOLDER = "7cf6c50a6405623c4e2214b50ed5349a"


@pytest.fixture
def base(tmp_path, monkeypatch):
    """Forty rows and a teacher; its own digest is left out, as it depends on the versions of libraries."""
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *ROWS]) + "\n")
    folder = saved_bert(tmp_path / "teacher", layers=4)
    monkeypatch.setattr(locating, "locate", lambda *given: replace(locate(*given), digest="d" * 32))
    return {"dataset": str(tmp_path / "rows.csv"), "precision": "fp32"}, {"teacher": str(folder)}


def test_digests_of_rows_are_what_they_were(base):
    rows = load_rows(StudentConfig(**base[0], teacher="x", max_train=20))
    found = rows.full_digest, rows.train_digest, rows.validation_digest, rows.test_digest
    assert found == DIGESTS
    data = Dataset.from_dict({"example_id": ["a:0", "a:1"], "x": [[1.5, None], []], "label": [1, 0], "text": ["é", ""]})
    assert digest(data, ["x", "text"]) == PLAIN
    assert digest(data.cast_column("label", ClassLabel(names=["no", "yes"])), ["label"]) == NAMED


def test_arms_of_teacher_student_distilled_and_control_are_what_they_were(base):
    data, model = base
    taught = TeacherConfig(**data, **model)
    alone = StudentConfig(**data, **model, student_layers="2", epochs=2)
    guided = DistillConfig(**data, **model, student_layers="2", objective="soft:0.5,hidden", alpha=0.3, beta=0.25)
    rows = load_rows(guided)
    plan = distill.plan(guided, rows)
    plans = [teacher.plan(taught, rows), student.plan(alone, rows), plan]
    found = [fingerprint(identity) for identity in (*(one.identity for one in plans), plan.control)]
    assert dict(zip(ARMS, found, strict=True)) == ARMS


def test_what_any_parts_are_hashed_to_is_what_it_was():
    assert fingerprint({"b": [1, 2.5, None, "é"], "a": {"z": True, "y": ()}}) == PARTS


def test_a_model_folder_is_called_by_the_names_and_bytes_of_its_files(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "require_safe", lambda folder, named: None)  # these bytes are no weights
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").write_bytes(bytes(range(64)))
    (tmp_path / "vocab.txt").write_text("[PAD]\n")
    (tmp_path / "README.md").write_text("plays no part")
    assert locate(str(tmp_path), "teacher").digest == FOLDER
