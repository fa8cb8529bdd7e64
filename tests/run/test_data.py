"""Rows are read once, and what is kept beside a prediction never takes the place of what it is scored by."""

from dataclasses import replace

import numpy as np
import pytest

from kd.base.types import UserError
from kd.config import RowOptions, TeacherConfig
from kd.run.data import load_rows, predictions
from kd.tasks.classification.options import ClassificationOptions

REGIONS = ("north", "south", "a, b", 'say "x"')


@pytest.fixture
def data(tmp_path):
    """Three files of rows whose columns bear awkward names."""
    for split, count in (("train", 24), ("validation", 8), ("test", 8)):
        lines = ["text,stars,label,region,rating,words,score:1"]
        for row in range(count):
            region = REGIONS[row % 4].replace('"', '""')
            lines.append(f'text {split} {row},{row % 2},other,"{region}",{row}.5,7,x')
        (tmp_path / f"{split}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(tmp_path)


def options(data, **more):
    return RowOptions(dataset=data, task_options=ClassificationOptions(label_column="stars"), **more)


def table(config):
    rows = load_rows(config)
    test = rows.splits.test
    records = [[{"logits": np.zeros(2, dtype=np.float32)}]] * len(test)
    return predictions(config, rows.task, test, records), test


def test_columns_to_slice_by_stand_beside_the_prediction_of_their_own_row(data):
    plain, _ = table(options(data))
    kept, test = table(options(data, slice_columns="region, rating"))
    assert list(kept["region"]) == list(test["region"]) == [*REGIONS] * 2
    assert list(kept["rating"]) == [str(value) for value in test["rating"]]
    assert kept.drop(columns=["region", "rating"]).equals(plain)


@pytest.mark.parametrize("name", ["label", "words", "score:1", "group", "example_id"])
def test_a_column_of_the_data_never_takes_the_place_of_one_of_the_predictions(data, name):
    with pytest.raises(UserError, match=f"^slice_columns='region,{name}'") as caught:
        load_rows(options(data, slice_columns=f"region,{name}"))
    assert "another name" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_column_that_is_not_there_is_refused_before_anything_is_trained(data):
    with pytest.raises(UserError, match=r"^slice_columns='regoin': there is no column 'regoin'; give some of .*region"):
        load_rows(options(data, slice_columns="regoin"))


def test_every_seed_and_arm_has_the_rows_of_max_train_or_its_teacher_knows_more_than_the_control_can(data):
    config = TeacherConfig(
        dataset=data, task_options=ClassificationOptions(label_column="stars"), teacher="x", max_train=5
    )
    found = {load_rows(replace(config, seed=seed)).train_digest for seed in (0, 1)}
    assert len(found) == 1
    assert load_rows(replace(config, split_seed=1)).train_digest not in found


def test_what_is_kept_beside_predictions_changes_neither_rows_nor_digests(data):
    one, other = load_rows(options(data)), load_rows(options(data, slice_columns="region"))
    names = ("full_digest", "train_digest", "validation_digest", "test_digest")
    assert [getattr(one, name) for name in names] == [getattr(other, name) for name in names]
    assert len({getattr(one, name) for name in names}) == 3  # all of train is used, and each split is another


def test_a_value_that_is_missing_is_no_value_to_slice_by(data, tmp_path):
    path = tmp_path / "test.csv"
    path.write_text(path.read_text().replace(",0.5,7", ",,7", 1))
    kept, _ = table(options(data, slice_columns="rating"))
    assert kept["rating"].isna().sum() == 1


def unbalanced(folder, *counts):
    lines = [f"text {label} {row},{label}" for label, count in enumerate(counts) for row in range(count)]
    (folder / "u.csv").write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    return RowOptions(dataset=str(folder / "u.csv"))


@pytest.mark.parametrize("option", ["max_train", "labelled"])
def test_a_draw_that_changes_the_shares_of_classes_says_so(tmp_path, option):
    (note,) = [note for note in load_rows(replace(unbalanced(tmp_path, 180, 20), **{option: 20})).splits.notes
               if option in note]  # fmt: skip
    assert f"{option}=20 draws the values of 'label' evenly: '0' is 90% of the training rows and 50% of those" in note
    assert f"leave {option} out" in note


def test_a_draw_that_changes_no_share_says_nothing(tmp_path):
    assert not any(
        "max_train" in note for note in load_rows(replace(unbalanced(tmp_path, 100, 100), max_train=20)).splits.notes
    )


def test_too_few_rows_for_all_classes_are_told_by_their_option(tmp_path):
    with pytest.raises(UserError, match=r"^max_train=1 is too few to learn from: "):
        load_rows(replace(unbalanced(tmp_path, 100, 100), max_train=1))
