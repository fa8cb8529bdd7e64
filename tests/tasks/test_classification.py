"""Classification: labels keep their places, scores mean what their names say, and impossible data is refused early."""

import math
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import ClassLabel, Dataset
from safetensors.torch import load_file, save_file

from kd.base.types import Splits, UserError
from kd.tasks.classification.options import ClassificationOptions
from kd.tasks.classification.scores import frame, softmax, tempered
from kd.tasks.classification.task import Classification
from tests.tiny import saved_bert, tokenizer


def rows(texts, labels, names=None, **more):
    ids = [f"row:{i}" for i in range(len(texts))]
    made = Dataset.from_dict({"text": texts, "label": labels, "example_id": ids, "group": ids, **more})
    return made.cast_column("label", ClassLabel(names=names)) if names else made


def splits(train, validation=None, test=None):
    return Splits(train, validation or train, test or train, ())


def fed(task, data):
    """The features of rows, numbered."""
    return [{**one, "feature": i} for i, one in enumerate(task.encode(data, tokenizer()))]


TASK = Classification("text", "", "label", max_length=16)
FOUR = rows(["good film", "bad film", "a fine plot", "poor"], ["good", "bad", "good", "bad"])


# Labels


def test_undeclared_labels_are_sorted_so_that_the_order_of_rows_does_not_change_the_head():
    one = TASK.fitted(splits(rows(["a", "b", "c"], ["x", "z", "y"])))
    other = TASK.fitted(splits(rows(["a", "b", "c"], ["z", "y", "x"])))
    assert one.labels == other.labels == ("x", "y", "z")


def test_declared_labels_keep_their_declared_order():
    data = rows(["a", "b"], [0, 1], names=["zebra", "ant"])
    assert TASK.fitted(splits(data)).labels == ("zebra", "ant")
    assert TASK.fitted(splits(data)).encode(data, tokenizer())["labels"] == [0, 1]


def test_number_labels_become_their_text():
    data = rows(["a", "b", "c"], [3, 1, 3])
    task = TASK.fitted(splits(data))
    assert task.labels == ("1", "3")
    assert list(task.encode(data, tokenizer())["labels"]) == [1, 0, 1]


@pytest.mark.parametrize(
    ("train", "other", "message"),
    [
        (rows(["a", "b"], ["x", "x"]), None, "one class only ('x')"),
        (rows([f"t{i}" for i in range(50)], [f"l{i}" for i in range(50)]), None, "50 different values in 50"),
        (rows(["a", "b"], ["x", "y"]), rows(["c"], ["new"]), "new"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused_before_training(train, other, message):
    with pytest.raises(UserError, match=r"^label_column='label'") as caught:
        TASK.fitted(splits(train, test=other))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# Models


def test_a_teacher_with_other_labels_is_refused_naming_both(tmp_path):
    task = TASK.fitted(splits(FOUR))
    model, _ = task.load(saved_bert(tmp_path / "same", ("bad", "good")), "teacher", finished=True)
    assert tuple(model.config.id2label.values()) == ("bad", "good")
    for labels in (("good", "bad"), ("down", "up"), ("bad", "good", "ugly")):
        folder = saved_bert(tmp_path / "_".join(labels), labels)
        with pytest.raises(UserError, match=r"^teacher: its labels are not the data's") as caught:
            task.load(folder, "teacher", finished=True)
        assert "'bad', 'good' (2)" in str(caught.value)
        assert repr(labels[0]) in str(caught.value)


def test_weights_with_another_head_get_a_new_head_of_the_datas_labels(tmp_path):
    folder = saved_bert(tmp_path, ("a", "b", "c"))
    model, _ = TASK.fitted(splits(FOUR)).load(folder, "teacher", finished=False)
    assert model.config.id2label == {0: "bad", 1: "good"}
    assert model.classifier.weight.shape[0] == 2
    assert model.dtype == torch.float32


# Rows


def test_both_texts_of_a_pair_are_read_in_their_order():
    task = Classification("text", "second", "label").fitted(splits(rows(["a"] * 4, list("xyxy"), second=["b"] * 4)))
    data = rows(["good film", "a"], ["x", "y"], second=["bad", "b"])
    words = tokenizer().convert_ids_to_tokens(task.encode(data, tokenizer())[0]["input_ids"])
    assert words == ["[CLS]", "good", "film", "[SEP]", "bad", "[SEP]"]
    assert list(task.requests(data).columns) == ["text", "second"]
    assert task.serving()["inputs"] == ["text", "second"]


def test_unlabelled_rows_count_in_no_loss_but_still_follow_the_teacher():
    task = TASK.fitted(splits(FOUR))
    batch = task.collate(tokenizer())(fed(task, FOUR))
    logits = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    outputs = type("Output", (), {"logits": logits})
    some = replace(batch, truth={"labels": torch.tensor([1, -100, -100, 0])})
    total, count = task.loss(outputs, some)
    expected = torch.nn.functional.cross_entropy(logits[[0, 3]], torch.tensor([1, 0]), reduction="sum")
    torch.testing.assert_close(total, expected)
    assert count == 2
    assert task.masks(some)["target"].tolist() == [True, False, False, True]
    assert task.masks(some)["positions"].all()
    assert torch.equal(task.outputs(outputs, some)["logits"], logits)
    none = replace(batch, truth={"labels": torch.full((4,), -100)})
    assert [value.item() for value in task.loss(outputs, none)] == [0.0, 0]


def test_predictions_count_words_and_give_probabilities_under_the_labels_names():
    task = TASK.fitted(splits(FOUR))
    logits = np.array([[0.0, 1.0], [0, -1], [2, 0], [0, 0]], dtype=np.float32)
    table = task.predictions(FOUR, [[{"logits": one}] for one in logits])
    assert list(table["words"]) == [2, 2, 3, 1]
    assert list(table["prediction"]) == ["good", "bad", "bad", "bad"]
    one = 1 / (1 + math.exp(-1))
    np.testing.assert_allclose(table["score:good"], [one, 1 - one, 1 / (1 + math.exp(2)), 0.5])
    np.testing.assert_allclose(table["score:good"] + table["score:bad"], 1)
    assert table["loss"][0] == pytest.approx(-math.log(one))


# Scores


def predicted(truth, probabilities, labels=("a", "b")):
    data = rows(["t"] * len(truth), list(truth))
    return frame(data, list(truth), labels, np.asarray(probabilities, dtype=float))


def test_softmax_survives_extreme_logits():
    got = softmax(np.array([[1e4, -1e4], [-1e4, -1e4]], dtype=np.float32))
    np.testing.assert_allclose(got, [[1, 0], [0.5, 0.5]])


def test_a_certain_mistake_has_a_large_but_finite_loss():
    loss = TASK.quality(predicted("a", [[0.0, 1.0]]))["loss"]
    assert 20 < loss < 100


def test_accuracy_and_macro_f1_by_hand():
    # a: precision 2/3, recall 1 -> 0.8; b: precision 1, recall 1/2 -> 2/3; accuracy 3/4
    table = predicted("aabb", [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.1, 0.9]])
    got = TASK.quality(table)
    assert got["accuracy"] == 0.75
    assert got["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)
    assert got["loss"] == pytest.approx(-np.log([0.9, 0.8, 0.3, 0.9]).mean())


def test_macro_f1_weighs_a_rare_class_as_a_common_one():
    table = predicted("a" * 9 + "b", [[1, 0]] * 10)
    assert TASK.quality(table)["accuracy"] == 0.9
    assert TASK.quality(table)["macro_f1"] == pytest.approx((18 / 19 + 0) / 2)


def test_macro_f1_is_over_the_classes_that_occur_whatever_is_predicted():
    # a: 1; b: precision 1, recall 1/2; c does not occur and has no F1 of its own
    table = predicted("aabb", np.eye(4)[[0, 0, 1, 2]], labels=("a", "b", "c", "d"))
    assert TASK.quality(table)["macro_f1"] == pytest.approx((1 + 2 / 3) / 2)


def test_calibration_error_by_hand():
    # bins of 1/15: 0.9 twice (one right: gap |1 - 1.8|), 0.6 twice (both right: gap |2 - 1.2|)
    table = predicted("abaa", [[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    assert TASK.diagnostics(None, table)["calibration/ece"] == pytest.approx((0.8 + 0.8) / 4)


def test_over_and_under_confidence_in_different_bins_do_not_cancel():
    table = predicted("ab", [[0.7, 0.3], [0.9, 0.1]])
    assert TASK.diagnostics(None, table)["calibration/ece"] == pytest.approx((0.3 + 0.9) / 2)


@pytest.mark.parametrize(("truth", "ece", "brier"), [("aa", 0.0, 0.0), ("bb", 1.0, 2.0), ("ab", 0.5, 1.0)])
def test_full_confidence_falls_into_the_last_bin_and_brier_runs_from_0_to_2(truth, ece, brier):
    got = TASK.diagnostics(None, predicted(truth, [[1.0, 0.0], [1.0, 0.0]]))
    assert (got["calibration/ece"], got["calibration/brier"]) == (ece, brier)


def test_brier_by_hand_over_all_classes_not_the_predicted_one_alone():
    table = predicted("ac", [[0.5, 0.3, 0.2], [0.6, 0.3, 0.1]], labels=("a", "b", "c"))
    expected = ((0.25 + 0.09 + 0.04) + (0.36 + 0.09 + 0.81)) / 2
    assert TASK.diagnostics(None, table)["calibration/brier"] == pytest.approx(expected)


def test_shares_as_predictions_are_calibrated():
    table = predicted("aaab", [[0.75, 0.25]] * 4)
    assert TASK.diagnostics(None, table)["calibration/ece"] == pytest.approx(0.0)


def test_fidelity_by_hand():
    teacher = predicted("ab", [[0.8, 0.2], [0.4, 0.6]])
    student = predicted("ab", [[0.6, 0.4], [0.7, 0.3]])
    got = TASK.fidelity(student, teacher)
    first = 0.8 * math.log(0.8 / 0.6) + 0.2 * math.log(0.2 / 0.4)
    second = 0.4 * math.log(0.4 / 0.7) + 0.6 * math.log(0.6 / 0.3)
    assert got == {
        "fidelity/agreement": 0.5,
        "fidelity/kl": pytest.approx((first + second) / 2),
        "fidelity/right_where_teacher_wrong": 0,
        "fidelity/wrong_where_teacher_right": 1,
    }


def test_a_temperature_that_is_known_is_found_and_mends_the_calibration():
    """Answers drawn from probabilities, told three times too surely: T is 3."""
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(4000, 3))
    truth = [draw.choice(3, p=row) for row in softmax(logits)]
    names = [("a", "b", "c")[i] for i in truth]
    table = predicted(names, softmax(3 * logits), labels=("a", "b", "c"))
    half = len(table) // 2
    got = tempered(table[:half], table[half:].reset_index(drop=True))
    assert got["calibration/temperature"] == pytest.approx(3, rel=0.1)
    assert got["calibration/ece_tempered"] < 0.05 < TASK.diagnostics(None, table[half:])["calibration/ece"]


def test_tempering_with_1_changes_no_calibration():
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(4000, 2))
    names = ["ab"[draw.choice(2, p=row)] for row in softmax(logits)]
    table = predicted(names, softmax(logits))
    temperature = tempered(table, table)["calibration/temperature"]
    cooled = predicted(names, softmax(logits / temperature))
    got = tempered(cooled, cooled)
    assert got["calibration/temperature"] == pytest.approx(1, abs=1e-4)
    untempered = TASK.diagnostics(None, cooled)["calibration/ece"]
    assert got["calibration/ece_tempered"] == pytest.approx(untempered, abs=1e-3)


def test_churn_by_hand():
    before = predicted("aaab", [[1, 0], [0, 1], [1, 0], [0, 1]])
    after = predicted("aaab", [[0, 1], [1, 0], [1, 0], [1, 0]])
    assert TASK.churn(before, after) == {"changed": 0.75, "to right": 0.25, "to wrong": 0.5}


def test_a_change_from_one_wrong_class_to_another_is_churn_to_neither_side():
    before, after = (predicted("a", [row], labels=("a", "b", "c")) for row in ([0, 1, 0], [0, 0, 1]))
    assert TASK.churn(before, after) == {"changed": 1.0, "to right": 0.0, "to wrong": 0.0}


def test_fidelity_pairs_classes_by_name_not_by_place():
    teacher = predicted("ab", [[0.8, 0.2], [0.4, 0.6]])
    swapped = predicted("ab", [[0.2, 0.8], [0.6, 0.4]], labels=("b", "a"))
    got = TASK.fidelity(swapped, teacher)
    assert (got["fidelity/agreement"], got["fidelity/kl"]) == (1.0, pytest.approx(0.0))


def test_fidelity_counts_agreement_with_the_teacher_even_where_both_are_wrong():
    wrong = predicted("bb", [[0.9, 0.1], [0.9, 0.1]])
    assert TASK.fidelity(wrong, wrong)["fidelity/agreement"] == 1.0


def test_fidelity_is_finite_where_the_student_excludes_what_the_teacher_says():
    got = TASK.fidelity(predicted("a", [[0.0, 1.0]]), predicted("a", [[1.0, 0.0]]))
    assert 20 < got["fidelity/kl"] < 100


@pytest.mark.parametrize("change", [lambda table: table.iloc[::-1], lambda table: table.iloc[:1]])
def test_fidelity_refuses_other_examples_or_another_order(change):
    table = predicted("ab", [[0.8, 0.2], [0.4, 0.6]])
    with pytest.raises(ValueError, match="same examples"):
        TASK.fidelity(change(table), table)


def test_the_paired_test_counts_examples_that_one_alone_got_right():
    def answers(said):
        return predicted("a" * 12, [[1, 0] if one == "a" else [0, 1] for one in said])

    ours, theirs = answers("aaaaaaaa" + "bbbb"), answers("aabbbbbb" + "abbb")
    assert TASK.paired_test(ours, theirs) == ("McNemar", pytest.approx(2 * (1 + 7) / 2**7))  # 6 against 1
    assert TASK.paired_test(answers("a" * 12), answers("b" * 12)) == ("McNemar", pytest.approx(2 / 2**12))


def test_two_that_err_on_the_same_examples_do_not_differ_whatever_they_say_instead():
    one = predicted("aab", [[0, 1, 0], [1, 0, 0], [0, 1, 0]], labels=("a", "b", "c"))
    other = predicted("aab", [[0, 0, 1], [1, 0, 0], [0, 1, 0]], labels=("a", "b", "c"))
    assert TASK.paired_test(one, other) == ("McNemar", 1.0)


def read_back(served, labels):
    task = replace(TASK, labels=tuple(labels))
    return np.array([own["logits"] for (own,) in task.from_served(pd.DataFrame({"probabilities": served}))])


def test_served_probabilities_are_read_by_label_and_not_by_place():
    served = [{"b": 0.9, "a": 0.1}, {"a": 0.3, "b": 0.7}]
    np.testing.assert_allclose(softmax(read_back(served, "ab")), [[0.1, 0.9], [0.3, 0.7]])
    np.testing.assert_allclose(softmax(read_back(served, "ba")), [[0.9, 0.1], [0.7, 0.3]])


def test_a_served_probability_of_0_stays_finite_and_all_but_0():
    logs = read_back([{"a": 0.0, "b": 1.0}], "ab")
    assert np.isfinite(logs).all()
    np.testing.assert_allclose(softmax(logs), [[0, 1]], atol=1e-9)


# Baselines


def scored(train, test):
    """Predictions on test of each baseline."""
    data = splits(train, test, test)
    return {name: tables["test"] for name, tables in TASK.fitted(data).baselines(data)}


def test_the_majority_is_that_of_train_and_not_of_what_is_predicted():
    table = scored(rows(["x"] * 4, ["a", "a", "a", "b"]), rows(["x", "x"], ["b", "b"]))["majority class"]
    np.testing.assert_allclose(table[["score:b", "score:a"]], [[0.25, 0.75]] * 2)


def test_bag_of_words_puts_each_probability_under_its_label():
    texts, truth = ["cold snow", "cold ice", "warm sun", "warm sand"] * 5, [0, 0, 2, 2] * 5
    names = ["winter", "autumn", "summer"]
    table = scored(rows(texts, truth, names), rows(["snow ice", "sun sand"], [0, 2], names))["bag of words"]
    assert list(table["prediction"]) == ["winter", "summer"]
    assert (table["score:autumn"] == 0).all()  # train has none of it
    np.testing.assert_allclose(table[[f"score:{name}" for name in names]].sum(axis=1), 1)


def test_baselines_learn_from_train_alone():
    test = rows(["sun", "snow"], ["a", "b"])
    train = rows(["snow", "sun", "snow", "sun"] * 3, ["a", "b", "a", "b"] * 3)
    task = TASK.fitted(splits(train, test, test))
    tables = dict(task.baselines(splits(train, test, test)))
    assert list(tables["bag of words"]["test"]["prediction"]) == ["b", "a"]
    assert isinstance(tables["majority class"]["validation"], pd.DataFrame)


# Models that are not whole


def without(folder, saved, prefix):
    weights = {
        key: value for key, value in load_file(saved / "model.safetensors").items() if not key.startswith(prefix)
    }
    shutil.copytree(saved, folder)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_a_finished_teacher_without_its_head_is_refused_else_it_teaches_at_random(tmp_path):
    task, saved = TASK.fitted(splits(rows(["a", "b"], ["good", "bad"]))), saved_bert(tmp_path / "whole")
    headless = without(tmp_path / "headless", saved, "classifier.")
    with pytest.raises(UserError, match="2 weights of BertForSequenceClassification are not in headless"):
        task.load(headless, "teacher", finished=True)
    assert task.load(headless, "teacher", finished=False)[0].config.num_labels == 2


def test_pretrained_weights_that_lack_a_layer_are_refused_else_it_starts_at_random(tmp_path):
    task, saved = TASK.fitted(splits(rows(["a", "b"], ["good", "bad"]))), saved_bert(tmp_path / "whole")
    holed = without(tmp_path / "holed", saved, "bert.encoder.layer.1.")
    for finished in (True, False):
        with pytest.raises(UserError, match=r"bert\.encoder\.layer\.1\."):
            task.load(holed, "teacher", finished=finished)


def test_torn_weights_are_one_line(tmp_path):
    saved = saved_bert(tmp_path / "torn")
    (saved / "model.safetensors").write_bytes((saved / "model.safetensors").read_bytes()[:200])
    task = TASK.fitted(splits(rows(["a", "b"], ["good", "bad"])))
    with pytest.raises(UserError, match=r"teacher: model\.safetensors is damaged") as caught:
        task.load(saved, "teacher", finished=True)
    assert "\n" not in str(caught.value)


def test_one_column_for_two_parts_is_refused_else_the_model_reads_its_own_label():
    for columns in ({"text_column": "a", "text_pair_column": "a"}, {"text_column": "a", "label_column": "a"}):
        with pytest.raises(UserError, match="name one column twice"):
            ClassificationOptions(**columns)


def test_texts_of_signs_alone_do_not_break_the_baselines():
    tables = scored(rows(["!", "?", ""], ["a", "b", "a"]), rows(["!", "a", ""], ["a", "b", "a"]))
    assert [len(table) for table in tables.values()] == [3, 3]
