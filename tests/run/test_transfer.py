"""Few labels and much text: labels that are not used are never seen, and what is compared is compared fairly."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from kd.base.hashing import fingerprint
from kd.base.types import RunRecord, UserError
from kd.config import DistillConfig, StudentConfig, narrowed
from kd.run import data as rows_module
from kd.run import distill, student
from kd.run.data import load_rows, with_transfer
from kd.run.fit import _fit, trusted_features
from kd.tasks.classification.task import UNLABELLED
from tests.tiny import WORDS, bert, tokenizer

COUNT = 60


def write(path, texts, labels=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    head, lines = "text", texts
    if labels:
        head, lines = "text,label", [f"{text},{label}" for text, label in zip(texts, labels, strict=True)]
    path.write_text("\n".join([head, *lines]) + "\n")
    return str(path)


def texts(count, start=0):
    return [
        f"{WORDS[i % len(WORDS)]} {WORDS[(3 * i + 1) % len(WORDS)]} {chr(97 + i % 26)}{chr(97 + i // 26)}"
        for i in range(start, start + count)
    ]


def labels(count):
    return [("bad", "good")[i % 2] for i in range(count)]


@pytest.fixture
def config(tmp_path):
    """Sixty training rows of which twelve have labels, and a teacher that gives either class to half of them."""
    for name, count, start in (("train", COUNT, 0), ("validation", 10, 200), ("test", 10, 300)):
        write(tmp_path / "data" / f"{name}.csv", texts(count, start), labels(count))
    model = bert(layers=2)
    with torch.no_grad():
        said = model.eval()(**tokenizer()(texts(COUNT), padding=True, return_tensors="pt")).logits
        model.classifier.bias[0] -= (said[:, 0] - said[:, 1]).median()
    model.save_pretrained(tmp_path / "weights")
    tokenizer().save_pretrained(tmp_path / "weights")
    return DistillConfig(
        dataset=str(tmp_path / "data"),
        teacher=str(tmp_path / "weights"),
        student_layers="1",
        precision="fp32",
        labelled=12,
        transfer="rest",
        epochs=2,
        batch_size=8,
        learning_rate=1e-3,
    )


class Run:
    """Takes what a training reports."""

    def __init__(self):
        self.params = {}

    def log_params(self, params):
        self.params |= params

    def log_metrics(self, metrics, step=0):
        pass

    def log_points(self, points):
        pass


def learned(config, folder):
    """Weights of a training, and the parameters it told."""
    run, plan = Run(), distill.planned(config, load_rows(config))
    _fit(plan, config, run, folder, lambda quality, epoch: None)
    return {name: value.clone() for name, value in plan.model.state_dict().items()}, run.params


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


# Labels


def test_labels_are_used_of_so_many_rows_and_the_rest_has_no_column_for_them(config):
    rows = load_rows(config)
    assert len(rows.train) == 12
    assert sorted(rows.train["label"]) == ["bad"] * 6 + ["good"] * 6
    assert len(rows.rest) == COUNT - 12
    assert set(rows.rest.column_names) == {"text", "example_id", "group"}
    assert not {*rows.rest["example_id"]} & {*rows.train["example_id"]}


def test_all_seeds_use_the_same_labels_or_their_one_teacher_would_bring_others(config):
    found = [load_rows(replace(config, seed=seed)) for seed in (0, 1)]
    assert found[0].train_digest == found[1].train_digest
    assert load_rows(replace(config, split_seed=1)).train_digest != found[0].train_digest


def test_fewer_labels_are_some_of_the_same(config):
    few, many = (set(load_rows(replace(config, labelled=count)).train["example_id"]) for count in (4, 20))
    assert few < many


def test_labels_are_restricted_within_the_rows_that_max_train_leaves(config):
    rows = load_rows(replace(config, max_train=30))
    assert (len(rows.train), len(rows.rest)) == (12, 18)


def test_labels_that_are_not_used_change_no_weight_of_student_or_control(config, tmp_path, monkeypatch):
    chosen = set(load_rows(config).train["example_id"])

    def pinned(rows, *_):  # which rows are drawn depends on all labels: as if the same had been labelled
        return rows.select([place for place, name in enumerate(rows["example_id"][:]) if name in chosen])

    monkeypatch.setattr(rows_module, "subset", pinned)
    control = narrowed(StudentConfig, config)
    before = [learned(one, tmp_path / f"a{i}")[0] for i, one in enumerate((config, control))]
    own = {int(name.rpartition(":")[2]): label for name, label in
           zip(*(load_rows(config).train[column] for column in ("example_id", "label")), strict=True)}  # fmt: skip
    other = [own.get(place, "bad" if place % 3 else "good") for place in range(COUNT)]
    assert other != labels(COUNT)
    write(tmp_path / "data" / "train.csv", texts(COUNT), other)
    after = [learned(one, tmp_path / f"b{i}")[0] for i, one in enumerate((config, control))]
    assert same(before[0], after[0])
    assert same(before[1], after[1])
    assert not same(before[0], before[1])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labelled": 61}, "labelled=61: there are 60 training rows"),
        ({"labelled": 1}, "labelled=1 is too few to learn from: label_column='label'"),
    ],
)
def test_a_number_of_labels_that_cannot_be_is_refused(config, changes, said):
    with pytest.raises(UserError) as told:
        load_rows(replace(config, **changes))
    assert str(told.value).startswith(said)
    assert "\n" not in str(told.value)


# Transfer rows


def test_rows_without_labels_come_behind_those_with_and_have_the_tasks_filler(config):
    rows = with_transfer(config, load_rows(config))
    plan = distill.plan(config, load_rows(config))
    encoded = plan.features("train")
    assert len(encoded) == COUNT
    assert (encoded["labels"][:12] != UNLABELLED).all()
    assert (encoded["labels"][12:] == UNLABELLED).all()
    assert len(rows.split("validation")) == 10
    assert rows.train_digest == load_rows(config).train_digest


def test_the_run_says_how_many_rows_and_steps_there_were(config, tmp_path):
    assert learned(config, tmp_path / "a")[1] == {"labelled_rows": 12, "transfer_rows": 48, "steps": 16}
    control = narrowed(StudentConfig, config)
    assert learned(control, tmp_path / "b")[1] == {"labelled_rows": 12, "steps": 4}
    equal = learned(replace(control, epoch_rows=COUNT), tmp_path / "c")[1]
    assert equal == {"labelled_rows": 12, "steps": 16}


def test_text_of_validation_and_test_is_left_out_and_said(config, tmp_path, capsys):
    other = write(tmp_path / "other.csv", [*texts(5, 400), *texts(3, 200), *texts(2, 300)])
    rows = with_transfer(replace(config, transfer=other), load_rows(config))
    assert len(rows.split("train")) == 12 + 5
    assert list(rows.split("train")["text"])[12:] == texts(5, 400)
    assert "5 that are in validation or test were left out" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (texts(10, 300), "all 10 rows have the text or the group of a validation or test row"),
        ([], "has no rows"),
        (None, "not found"),
    ],
    ids=["all in test", "empty", "absent"],
)
def test_text_that_cannot_be_learned_from_is_refused(config, tmp_path, lines, said):
    other = tmp_path / "other.csv"
    if lines is not None:
        write(other, lines)
    with pytest.raises(UserError) as told:
        distill.plan(replace(config, transfer=str(other)), load_rows(config))
    assert str(told.value).startswith("transfer=")
    assert said in str(told.value)
    assert "--dataset" not in str(told.value)


def test_text_in_another_column_is_refused(config, tmp_path):
    (tmp_path / "other.csv").write_text("txt\nfilm\n")
    with pytest.raises(UserError, match=r"^transfer='.*other\.csv': input column 'text' is not in other\.csv"):
        distill.plan(replace(config, transfer=str(tmp_path / "other.csv")), load_rows(config))


def test_all_labels_leave_no_rest(config):
    with pytest.raises(UserError, match="transfer='rest': labelled=60 is all training rows"):
        distill.plan(replace(config, labelled=60), load_rows(replace(config, labelled=60)))


# The teacher on transfer rows


def signal(config):
    plan = distill.plan(config, load_rows(config))
    return plan, plan.signals.train()


def test_the_teacher_reads_transfer_rows_once_whatever_is_kept_of_them(config):
    assert signal(config)[1].computed == COUNT
    for changes in ({"seed": 3}, {"transfer_confidence": 0.5}, {"transfer_balance": True}, {"alpha": 0.1}):
        assert signal(replace(config, **changes))[1].computed == 0
    assert signal(replace(config, labelled=20))[1].computed == COUNT  # other rows have labels


def test_filters_keep_what_the_teacher_is_sure_of_and_all_rows_with_labels(config):
    _, said = signal(config)
    logits = torch.from_numpy(said.all_outputs()["logits"]).double()
    sure = logits.softmax(-1).max(-1).values.numpy()[12:]
    least = float(np.median(sure))
    sure_enough = replace(config, transfer_confidence=least)
    kept = trusted_features(signal(sure_enough)[0], sure_enough)
    assert kept.tolist() == [*range(12), *(12 + np.flatnonzero(sure >= least)).tolist()]
    balanced = replace(config, transfer_balance=True)
    decided = logits.argmax(-1).numpy()[trusted_features(signal(balanced)[0], balanced)[12:]]
    counts = np.unique(logits.argmax(-1).numpy()[12:], return_counts=True)[1]
    assert len(counts) == 2
    assert np.unique(decided, return_counts=True)[1].tolist() == [counts.min()] * len(counts)


def test_a_confidence_that_leaves_no_row_is_told_before_training(config, tmp_path):
    with pytest.raises(UserError, match=r"^transfer_confidence=1\.0: .* none of the 48 transfer rows: lower it"):
        learned(replace(config, transfer_confidence=1.0), tmp_path)


# Arms


def arm(config):
    return fingerprint(distill.planned(config, load_rows(config)).identity)


def test_the_control_is_the_student_on_the_same_labels_alone(config):
    plan = distill.plan(config, load_rows(config))
    assert fingerprint(plan.control) == arm(narrowed(StudentConfig, config))
    assert fingerprint(plan.control) == arm(narrowed(StudentConfig, replace(config, seed=5)))
    assert "transfer" not in plan.control
    assert arm(narrowed(StudentConfig, replace(config, labelled=20))) != fingerprint(plan.control)


def test_what_changes_the_rows_that_are_learned_makes_another_arm(config, tmp_path):
    other = write(tmp_path / "other.csv", texts(5, 400))
    changes = [{}, {"transfer": ""}, {"transfer": other}, {"transfer_confidence": 0.6}, {"transfer_balance": True}]
    changes += [{"labelled": 20}, {"epoch_rows": 99}]
    assert len({arm(replace(config, **each)) for each in changes}) == len(changes)
    copied = write(tmp_path / "copy" / "other.csv", texts(5, 400))
    assert arm(replace(config, transfer=other)) == arm(replace(config, transfer=copied))


SEEN = {"kd.role": "teacher", "kd.seed": "0", "kd.arm": "t", "kd.dataset_digest": "others"}


@pytest.mark.parametrize(
    ("tags", "params", "told"),
    [
        ({}, {}, "unknown"),
        ({}, {"labelled_rows": "60"}, "60"),
        ({}, {"labelled_rows": "12"}, "12"),  # as many, but others
        ({}, {"labelled_rows": "8"}, "8"),  # not known to be some of the same
        ({}, {"labelled_rows": "8", "labelled": "8"}, ""),
        ({}, {"labelled_rows": "8", "labelled": "8", "split_seed": "1"}, "8"),
        ({"kd.teacher_labels": "60"}, {"labelled_rows": "8", "labelled": "8"}, "60"),
        ({"kd.dataset_digest": "own"}, {"labelled_rows": "12"}, ""),
        ({"kd.dataset_digest": "own", "kd.teacher_labels": "60"}, {"labelled_rows": "12"}, "60"),  # by its own teacher
    ],
)
def test_a_teacher_that_has_seen_other_labels_is_told(config, monkeypatch, tags, params, told):
    rows = load_rows(config)
    teacher = student.find_teacher(config, rows)
    tags = {**SEEN, **tags}
    if tags["kd.dataset_digest"] == "own":
        tags["kd.dataset_digest"] = rows.train_digest
    params = {"dataset": config.dataset, "split_seed": "0", **params}
    monkeypatch.setattr(student.tracking, "record", lambda run_id: RunRecord(run_id, "t", params, {}, tags))
    known = replace(teacher, located=replace(teacher.located, run_id="r"))
    monkeypatch.setattr(student, "find_teacher", lambda *_: known)
    assert student.plan(narrowed(StudentConfig, config), rows).teacher_labels == told
    assert distill.plan(config, rows).teacher_labels == told
    everything = replace(config, labelled=0, transfer="")
    assert distill.plan(everything, load_rows(everything)).teacher_labels == ""
    if tags["kd.dataset_digest"] == "others":
        part = replace(everything, max_train=12)
        assert distill.plan(part, load_rows(part)).teacher_labels == tags.get(
            "kd.teacher_labels", params.get("labelled_rows", "unknown")
        )


@pytest.mark.parametrize("part", [{}, {"labelled": 0, "transfer": "", "max_train": 12}])
def test_arm_and_control_of_one_number_but_other_rows_are_never_paired(config, part):
    config = replace(config, **part)
    one, other = (distill.plan(each, load_rows(each)) for each in (config, replace(config, split_seed=1)))
    assert one.rows.validation_digest == other.rows.validation_digest
    assert one.rows.train_digest != other.rows.train_digest
    assert fingerprint(one.control) != fingerprint(other.control)


def test_rows_are_the_same_on_every_seed_also_where_max_train_limits_the_text_beside_them(config):
    asked = replace(config, max_train=20)
    one, other = (load_rows(replace(asked, seed=seed)) for seed in (0, 1))
    assert one.train_digest == other.train_digest == load_rows(config).train_digest
    assert one.rest["example_id"][:] == other.rest["example_id"][:]
    assert len(one.rest) == 8
    assert load_rows(replace(asked, split_seed=1)).rest["example_id"][:] != one.rest["example_id"][:]
    assert load_rows(replace(config, max_train=12)).rest is None
    with pytest.raises(UserError, match="labelled=12 is more than max_train=11"):
        load_rows(replace(config, max_train=11))


def test_self_trained_students_of_all_seeds_are_one_arm_and_the_weights_of_another_seed_are_not(config, monkeypatch):
    def arm_of(digest, teacher_seed, seed=0):
        given = replace(config, seed=seed)
        rows = load_rows(given)
        teacher = student.find_teacher(given, rows)
        tags = {**SEEN, "kd.role": "student", "kd.seed": str(teacher_seed), "kd.dataset_digest": rows.train_digest}
        with monkeypatch.context() as patch:
            patch.setattr(student.tracking, "record", lambda run_id: RunRecord(run_id, "t", {}, {}, tags))
            known = replace(teacher, located=replace(teacher.located, run_id="r", digest=digest))
            patch.setattr(student, "find_teacher", lambda *_: known)
            plan = distill.plan(replace(given, student=str(teacher.located.folder)), rows)
        assert "from a student" in plan.title
        return fingerprint(plan.identity), fingerprint(plan.control)

    plain = fingerprint(distill.plan(config, load_rows(config)).control)
    one, other = arm_of("a", 0), arm_of("b", 1, seed=1)
    assert one == other
    assert one[1] == plain  # its control is the control of all
    assert arm_of("b", 1)[0] != arm_of("c", 1)[0]


def test_of_many_classes_a_few_rows_each_may_have_labels(config, tmp_path):
    many = [f"class {i % 30}" for i in range(90)]
    for name, start in (("train", 0), ("validation", 200), ("test", 300)):
        write(tmp_path / "many" / f"{name}.csv", texts(90, start), many)
    asked = replace(config, dataset=str(tmp_path / "many"), labelled=30)
    assert sorted(load_rows(asked).train["label"][:]) == sorted(set(many))
    assert len(load_rows(replace(asked, labelled=0, max_train=31, transfer="")).train) == 31
    with pytest.raises(UserError, match="labelled=29 is too few to learn from"):
        load_rows(replace(asked, labelled=29))
