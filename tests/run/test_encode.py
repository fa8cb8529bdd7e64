"""A split is encoded once for all that read it alike, and again for what reads it otherwise."""

from dataclasses import replace

import pytest
from datasets import Dataset
from tokenizers import processors

from kd.base.types import UserError
from kd.config import StudentConfig, with_options
from kd.models.load import load_tokenizer, tokenizer_digest
from kd.run import encode as encoding
from kd.run import student
from kd.run.data import load_rows
from kd.run.encode import encoder
from kd.run.locate import locate
from kd.run.signals import TeacherSignals
from kd.tasks.classification.options import ClassificationOptions
from kd.tasks.classification.task import Classification
from tests.run.test_signals import WORDS
from tests.tiny import saved_bert, tokenizer


@pytest.fixture
def config(tmp_path):
    """Forty rows, and a teacher in a folder."""
    lines = [f"{WORDS[i % 6]} {WORDS[i % 5]} film {chr(97 + i % 26)} {i},{('bad', 'good')[i % 2]}" for i in range(40)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    saved_bert(tmp_path / "weights", layers=2)
    return StudentConfig(
        dataset=str(tmp_path / "rows.csv"),
        teacher=str(tmp_path / "weights"),
        precision="fp32",
        task_options=ClassificationOptions(),
    )


@pytest.fixture
def asked(monkeypatch):
    """How many rows were encoded, call by call."""
    counts = []
    real = Classification.encode

    def counting(self, rows, *args, **kwargs):
        counts.append(len(rows))
        return real(self, rows, *args, **kwargs)

    monkeypatch.setattr(Classification, "encode", counting)
    return counts


def test_teacher_student_and_every_later_training_share_what_was_tokenised_once(config, asked):
    rows = load_rows(config)
    teacher = student.find_teacher(config, rows)
    signals = TeacherSignals(config, rows, teacher)
    assert signals.train().computed == 32
    assert [len(signals.predictions(name)) for name in ("validation", "test")] == [4, 4]
    start = student.initialise(config, rows, teacher)
    for seed in range(3):
        other = replace(config, seed=seed, epochs=9, learning_rate=0.1)
        for name, count in (("train", 32), ("validation", 4), ("test", 4)):
            assert len(encoder(other, rows, start.processor)(name)) == count
    assert asked == [32, 4, 4, 4]  # the last are the few rows on which the layers taken out are tried


def test_encoded_rows_are_those_of_the_split_they_are_asked_for(config):
    rows = load_rows(replace(config, max_train=10))
    words = tokenizer()
    for name, split in (("train", rows.train), ("validation", rows.splits.validation), ("test", rows.splits.test)):
        got = encoder(config, rows, words)(name)
        expected = rows.task.encode(split, words)
        taken = got.__getitems__(list(range(len(got))))
        assert [row["input_ids"].tolist() for row in taken] == list(expected["input_ids"])
        assert got["labels"].tolist() == list(expected["labels"])
        assert got["feature"].tolist() == got["example"].tolist() == list(range(len(split)))


def test_a_training_asks_the_disk_for_a_split_once_and_a_plan_keeps_it(config, asked, monkeypatch):
    """Each further look would read the source and hash the whole file again."""
    looks = []
    real = encoding.encoded
    monkeypatch.setattr(encoding, "encoded", lambda *given: looks.append(given[3]["split"]) or real(*given))
    plan = student.plan(config, load_rows(config))
    for _ in range(3):
        for name in ("train", "validation", "test"):
            plan.features(name)
    assert looks == ["train", "validation", "test"]


def swapped(folder):
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"film"', '"?"').replace('"book"', '"film"').replace('"?"', '"book"'))


@pytest.mark.parametrize(
    "change",
    [
        lambda config, tmp, patch: swapped(tmp / "weights"),
        lambda config, tmp, patch: patch.setattr(encoding, "code_digest", lambda task, parts: "other"),
        lambda config, tmp, patch: patch.setattr(encoding, "version", lambda name: "99"),
        lambda config, tmp, patch: (tmp / "rows.csv").write_text(
            (tmp / "rows.csv").read_text().replace("good\n", "bad\n", 1)
        ),
    ],
    ids=["another vocabulary", "other code", "other libraries", "another label"],
)
def test_what_was_tokenised_before_the_change_is_not_read(change, config, asked, tmp_path, monkeypatch):
    def total():
        before = sum(asked)
        rows = load_rows(config)
        words = load_tokenizer(locate(config.teacher, "teacher").folder, "teacher")
        for name in ("train", "validation", "test"):
            encoder(config, rows, words)(name)
        return sum(asked) - before

    assert (total(), total()) == (40, 0)
    change(config, tmp_path, monkeypatch)
    assert total() > 0
    assert total() == 0


def test_another_length_is_another_encoding(config, asked):
    for length in (5, 6, 5):
        shorter = with_options(config, max_length=length)
        assert max(encoder(shorter, load_rows(shorter), tokenizer())("train")["length"]) == length
    assert asked == [32, 32]


def test_a_row_without_a_token_is_named_instead_of_failing_in_a_model(config, tmp_path):
    rows = load_rows(config)
    words = tokenizer()
    words.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B")
    texts = ["good film", " ", "bad film", "\t"]
    blank = Dataset.from_dict({**{column: rows.train[column][:4] for column in rows.train.column_names}, "text": texts})
    with pytest.raises(UserError, match="train row 1 and 1 others have no token"):
        encoder(config, replace(rows, train=blank, train_digest="blank"), words)("train")


def test_a_tokenizer_is_the_same_after_it_was_used_and_after_it_was_saved(tmp_path):
    words = tokenizer()
    before = tokenizer_digest(words)
    words(["good film"], truncation=True, max_length=3, padding="max_length")
    assert tokenizer_digest(words) == before
    words.add_tokens(["distillation"])
    assert tokenizer_digest(words) != before
