"""Several features of one example: numbered through, taught and cached one by one, answered for as one."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset

from kd.config import DistillConfig
from kd.data import encoded
from kd.run import distill
from kd.run.data import load_rows
from kd.run.fidelity import inside
from kd.run.fit import _fit, trusted_features
from kd.tasks import TASKS, TaskEntry
from kd.tasks.classification.options import ClassificationOptions
from kd.tasks.classification.task import UNLABELLED, Classification
from tests.tiny import WORDS, bert, saved_bert, tokenizer

WINDOW, STRIDE = 4, 2


class Windows(Classification):
    """Cuts a text into overlapping windows of tokens, and answers by the mean of their logits."""

    def encode(self, examples, processor):
        """Make a feature of each window."""
        found = []
        for one in super().encode(examples, processor):
            for start in range(0, max(one["length"] - STRIDE, 1), STRIDE):
                cut = {name: part[start : start + WINDOW] if isinstance(part, list) else part
                       for name, part in one.items()}  # fmt: skip
                found.append({**cut, "length": len(cut["input_ids"])})
        return Dataset.from_list(found)

    def predictions(self, examples, records):
        """Average over the windows of each example."""
        means = [np.mean([one["logits"] for one in own], axis=0) for own in records]
        return super().predictions(examples, [[{"logits": logits}] for logits in means])


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Forty texts of one to nine words, encoded seven at a time, and a teacher in a folder."""
    windows = TaskEntry(ClassificationOptions, f"{__name__}:Windows")
    monkeypatch.setitem(TASKS, "classification", windows)
    monkeypatch.setattr(encoded, "CHUNK", 7)
    draw = np.random.default_rng(0)
    texts = [f"{' '.join(draw.choice(WORDS, i % 9))} {chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(40)]
    lines = [f"{text.strip()},{('bad', 'good')[i % 2]}" for i, text in enumerate(texts)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    saved_bert(tmp_path / "weights", layers=2)
    return DistillConfig(
        dataset=str(tmp_path / "rows.csv"),
        teacher=str(tmp_path / "weights"),
        student_layers="1",
        objective="soft,hidden",
        precision="fp32",
        epochs=2,
        batch_size=8,
    )


def plan_of(config):
    return distill.plan(config, load_rows(config))


def windows(config, split):
    """How many features each example has, counted without the code that numbers them."""
    rows = load_rows(config)
    made = rows.task.encode(rows.split(split), tokenizer())
    return [made["example"][:].count(i) for i in range(len(rows.split(split)))]


def test_features_are_numbered_through_and_say_whose_they_are(config):
    found, counts = plan_of(config).features("train"), windows(config, "train")
    assert len(set(counts)) > 2
    assert found["feature"].tolist() == list(range(sum(counts)))
    assert found["example"].tolist() == np.repeat(np.arange(len(counts)), counts).tolist()


def test_the_cache_of_more_features_than_examples_is_whole_and_says_what_the_teacher_says(config, caplog):
    """Judged by the number of examples it would never be whole, and each seed would run the teacher at every step."""
    contents = ("outputs", "hidden.1")
    first = plan_of(config).signals.train(contents)
    again = plan_of(config).signals.train(contents)
    online = plan_of(replace(config, cache="off")).signals.train(contents)
    count = sum(windows(config, "train"))
    assert (first.computed, again.computed, online.computed) == (count, 0, 0)
    assert [one.reader is not None for one in (first, again, online)] == [True, True, False]
    assert "not whole" not in caplog.text
    some = np.random.default_rng(1).permutation(count)[:17]
    kept, said = again(some), online(some)
    assert kept.outputs["logits"].shape == (17, 2)
    torch.testing.assert_close(kept.outputs["logits"], said.outputs["logits"], rtol=0, atol=1e-5)
    torch.testing.assert_close(kept.hidden[1], said.hidden[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("cache", ["auto", "off"])
def test_the_teachers_answers_are_one_line_an_example_and_of_its_own_features(config, cache):
    plan = plan_of(replace(config, cache=cache))
    table = plan.signals.predictions("test")
    examples, model = plan.rows.splits.test, plan.teacher.model.eval()
    assert list(table["example_id"]) == list(examples["example_id"])
    for place in range(len(examples)):
        own = plan.rows.task.encode(examples.select([place]), tokenizer())
        with torch.inference_mode():
            logits = [model(input_ids=torch.tensor([one])).logits[0] for one in own["input_ids"]]
        expected = torch.stack(logits).mean(0).softmax(-1).tolist()
        np.testing.assert_allclose(table.loc[place, ["score:bad", "score:good"]].tolist(), expected, atol=1e-5)


class Run:
    """Takes what a training reports."""

    def __init__(self):
        self.params = {}

    def log_params(self, params):
        """Keep them."""
        self.params |= params

    def set_tags(self, tags):
        """Drop them."""

    def log_metrics(self, metrics, step=0):
        """Nothing."""

    def log_points(self, points):
        """Nothing."""


def test_a_student_learns_the_same_from_the_cache_as_from_the_teacher_itself(config, tmp_path):
    found = []
    for cache in ("off", "auto", "auto"):
        plan = plan_of(replace(config, cache=cache, learning_rate=1e-4))
        torch.manual_seed(0)
        fitted = _fit(plan, replace(config, learning_rate=1e-4), Run(), tmp_path / str(len(found)), lambda *_: None)
        assert fitted.steps == 2 * -(-sum(windows(config, "train")) // 8)
        found.append({name: value.clone() for name, value in plan.model.state_dict().items()})
    for other in found[1:]:
        for name, value in found[0].items():
            torch.testing.assert_close(other[name], value, rtol=0, atol=1e-4)


def test_of_transfer_rows_every_feature_is_weighed_and_of_labelled_ones_every_feature_is_kept(config, capsys, tmp_path):
    some = replace(config, labelled=12, transfer="rest", objective="soft")
    plan = plan_of(some)
    labels = plan.features("train")["labels"]
    labelled = int((labels != UNLABELLED).sum())
    assert labelled > 12
    assert (labels[labelled:] == UNLABELLED).all()
    assert plan.features("train")["example"][labelled] == 12
    logits = torch.from_numpy(plan.signals.train().all_outputs()["logits"]).double()
    sure = logits.softmax(-1).max(-1).values.numpy()[labelled:]
    least = float(np.median(sure))
    capsys.readouterr()
    sure_enough = replace(some, transfer_confidence=least)
    kept = trusted_features(plan_of(sure_enough), sure_enough)
    assert kept.tolist() == [*range(labelled), *(labelled + np.flatnonzero(sure >= least)).tolist()]
    rows = len(set(plan.features("train")["example"][kept[labelled:]].tolist()))
    assert rows < len(kept) - labelled
    assert f"{rows} of 20 transfer rows are kept" in " ".join(capsys.readouterr().out.split())
    run = Run()
    _fit(plan_of(sure_enough), sure_enough, run, tmp_path / "fit", lambda *_: None)
    assert run.params["transfer_rows"] == rows


def test_models_that_cut_examples_into_other_numbers_of_features_have_no_likeness_of_layers(config, tmp_path):
    """Matched by number, the features would be of different examples."""
    assert "fidelity/cka" in inside(plan_of(replace(config, objective="soft")), config)
    bert(layers=2).save_pretrained(tmp_path / "letters")
    words = tokenizer()
    words.save_pretrained(tmp_path / "letters")
    path = tmp_path / "letters" / "tokenizer.json"
    text = path.read_text()
    for word in WORDS[:8]:
        text = text.replace(f'"{word}"', f'"{word}{word}"')  # unknown words are cut into letters
    path.write_text(text)
    plan = plan_of(replace(config, objective="soft", student=str(tmp_path / "letters"), student_layers=""))
    assert len(plan.features("validation")) != sum(windows(config, "validation"))
    assert inside(plan, config) == {}
    table = plan.signals.predictions("validation")
    assert isinstance(table, pd.DataFrame)
    assert len(table) == len(plan.rows.splits.validation)
