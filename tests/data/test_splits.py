"""Splits: nothing leaks, nothing is lost, and ids do not move."""

import json
from collections import Counter
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, DatasetDict

from kd.base.types import UserError
from kd.config import RowOptions
from kd.data import sources
from kd.data.digests import digest
from kd.data.sources import BUILTINS, load
from kd.data.splits import subset
from kd.tasks.classification.options import ClassificationOptions
from kd.tasks.classification.task import Classification

REAL = Path(__file__).parents[2].parent / "shared" / "data"


def save(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def some(count, start=0, classes=3):
    return [{"text": f"row {i}", "label": f"c{i % classes}", "doc": f"d{i // 7}"} for i in range(start, start + count)]


def request(folder, inputs=("text",), target="label", group="", **options):
    holds = dict.fromkeys(inputs, "text") | ({target: "class"} if target else {})
    return RowOptions(dataset=str(folder), group_column=group, **options), inputs, target, holds


def refusal(wanted):
    with pytest.raises(UserError) as caught:
        load(*wanted)
    text = str(caught.value)
    assert "\n" not in text
    return text


def parts(splits):
    return [splits.train, splits.validation, splits.test]


@pytest.mark.parametrize("group", ["", "doc"])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("count", [60, 997])
def test_cuts_lose_no_row_repeat_none_and_take_a_tenth_each(tmp_path, group, seed, count):
    save(tmp_path / "train.jsonl", some(count))
    splits = load(*request(tmp_path, group=group, split_seed=seed))
    ids = [i for part in parts(splits) for i in part["example_id"]]
    assert sorted(ids) == sorted(f"train.jsonl:{i}" for i in range(count))
    slack = 7 if group else 1
    assert all(abs(part.num_rows - count / 10) <= slack for part in parts(splits)[1:])
    for part in parts(splits):
        assert all(part["text"][k] == f"row {i.split(':')[1]}" for k, i in enumerate(part["example_id"]))


def test_rows_of_a_group_never_part(tmp_path):
    save(tmp_path / "train.jsonl", some(400))
    splits = load(*request(tmp_path, group="doc"))
    a, b, c = (set(part["doc"]) for part in parts(splits))
    assert not a & b
    assert not a & c
    assert not b & c
    assert all(list(part["group"]) == list(part["doc"]) for part in parts(splits))


@pytest.mark.parametrize("group", ["", "doc"])
def test_equal_inputs_never_part_even_through_chains_of_groups(tmp_path, group):
    rows = [{**row, "text": f"copy {i // 3}" if i < 90 else row["text"]} for i, row in enumerate(some(700))]
    save(tmp_path / "train.jsonl", rows)
    splits = load(*request(tmp_path, group=group))
    a, b, c = (set(part["text"]) for part in parts(splits))
    assert not a & b
    assert not a & c
    assert not b & c
    assert not any("exactly the inputs" in note for note in splits.notes)


def test_classes_keep_their_proportions_in_spite_of_a_long_tail(tmp_path):
    labels = [f"c{i % 20}" for i in range(600)] + [f"rare{i}" for i in range(5)]
    save(tmp_path / "train.jsonl", [{"text": f"t{i}", "label": label} for i, label in enumerate(labels)])
    splits = load(*request(tmp_path))
    for part in (splits.validation, splits.test):
        counts = Counter(part["label"])
        assert all(2 <= counts[f"c{i}"] <= 4 for i in range(1, 20))


def test_uneven_groups_are_drawn_to_a_tenth_of_the_rows_not_to_the_fewest(tmp_path):
    docs = [size for size in range(1, 41) for _ in range(size)]
    save(tmp_path / "train.jsonl", [{"text": f"t{i}", "label": f"u{i}", "doc": doc} for i, doc in enumerate(docs)])
    for part in parts(load(*request(tmp_path, group="doc")[:3], {}))[1:]:
        assert part.num_rows == pytest.approx(82, abs=12)


def test_the_seed_alone_decides_the_cut(tmp_path):
    save(tmp_path / "train.jsonl", some(300))

    def ids(seed, group=""):
        return list(load(*request(tmp_path, split_seed=seed, group=group)).validation["example_id"])

    assert ids(0) == ids(0) != ids(1)
    assert ids(0, "doc") == ids(0, "doc") != ids(1, "doc")


@pytest.mark.parametrize("target", ["", "score", "pieces"])
def test_targets_that_are_no_classes_are_cut_plainly(tmp_path, target):
    save(tmp_path / "train.jsonl", [{"text": f"t{i}", "score": i / 7, "pieces": [f"s{i}", "x"]} for i in range(50)])
    splits = load(*request(tmp_path, target=target)[:3], {"text": "text"})
    assert [part.num_rows for part in parts(splits)] == [40, 5, 5]


def test_a_test_keeps_its_ids_and_digest_whatever_is_cut_from_train(tmp_path):
    for name, rows in (
        ("a/train", some(100)),
        ("a/test", some(20, 200)),
        ("b/train", some(70)),
        ("b/test", some(20, 200)),
    ):
        save(tmp_path / f"{name}.jsonl", rows)
    save(tmp_path / "b" / "dev.jsonl", some(20, 300))
    tests = [
        load(*request(tmp_path / "a")),
        load(*request(tmp_path / "a", split_seed=9)),
        load(*request(tmp_path / "b")),
        load(*request(tmp_path / "a", test_file=str(tmp_path / "b" / "test.jsonl"))),
    ]
    assert len({digest(splits.test, ["text", "label"]) for splits in tests}) == 1
    assert tests[0].test["example_id"][3] == "test.jsonl:3"


def test_missing_splits_are_cut_from_train_alone_and_said(tmp_path):
    save(tmp_path / "train.jsonl", some(100))
    save(tmp_path / "test.jsonl", some(20, 200))
    one = load(*request(tmp_path))
    assert [part.num_rows for part in parts(one)] == [90, 10, 20]
    assert any("Validation was cut from train: 10 of its 100" in note for note in one.notes)
    (tmp_path / "test.jsonl").rename(tmp_path / "dev.jsonl")
    two = load(*request(tmp_path))
    assert [part.num_rows for part in parts(two)] == [90, 20, 10]
    assert any("Test was cut from train" in note for note in two.notes)


@pytest.mark.parametrize("label", [-1, None, "absent"])
def test_a_test_without_targets_is_refused_and_validation_takes_its_place(tmp_path, label):
    blind = [{"text": row["text"], **({} if label == "absent" else {"label": label})} for row in some(20, 200)]
    for name, rows in (("train", some(100)), ("validation", some(20, 300)), ("test", blind)):
        save(tmp_path / f"{name}.jsonl", rows)
    splits = load(*request(tmp_path))
    assert [part.num_rows for part in parts(splits)] == [90, 10, 20]
    assert set(splits.test["example_id"]) == {f"validation.jsonl:{i}" for i in range(20)}
    assert any("'test.jsonl' was refused" in note for note in splits.notes)
    assert load(*request(tmp_path, target="")).test["example_id"][0] == "test.jsonl:0"


def test_a_refused_test_without_validation_is_cut_from_train(tmp_path):
    save(tmp_path / "train.jsonl", some(100))
    save(tmp_path / "test.jsonl", [{"text": "x"}] * 5)
    assert [part.num_rows for part in parts(load(*request(tmp_path)))] == [80, 10, 10]


def test_groups_shared_by_official_splits_are_refused_with_examples(tmp_path):
    save(tmp_path / "train.jsonl", some(100))
    save(tmp_path / "test.jsonl", some(30, 95))
    text = refusal(request(tmp_path, group="doc"))
    assert "2 of its values" in text
    assert "'d13'" in text


def test_copies_of_train_rows_in_official_splits_are_counted_and_kept(tmp_path):
    save(tmp_path / "train.jsonl", some(100))
    save(tmp_path / "dev.jsonl", some(30, 200))
    save(tmp_path / "test.jsonl", some(30, 90))
    splits = load(*request(tmp_path))
    assert splits.test.num_rows == 30
    assert any(note.startswith("10 of 30 rows of test") for note in splits.notes)


@pytest.mark.parametrize(("count", "fields", "need"), [(9, {}, "at least 10"), (14, {"group": "doc"}, "at least 3")])
def test_too_few_rows_or_groups_say_how_many_are_needed(tmp_path, count, fields, need):
    save(tmp_path / "train.jsonl", some(count))
    assert need in refusal(request(tmp_path, **fields))


def test_copies_do_not_count_as_rows_enough_to_cut(tmp_path):
    save(tmp_path / "train.jsonl", some(9) * 10)
    assert "9 rows with distinct inputs" in refusal(request(tmp_path))


def test_three_groups_are_enough_for_three_splits(tmp_path):
    save(tmp_path / "train.jsonl", some(21))
    assert [part.num_rows for part in parts(load(*request(tmp_path, group="doc")))] == [7, 7, 7]


def test_an_unknown_column_lists_those_there_are_and_the_nearest(tmp_path):
    save(tmp_path / "train.jsonl", some(20))
    text = refusal(request(tmp_path, target="lable"))
    assert "did you mean label?" in text
    assert "text, label, doc" in text


@pytest.mark.parametrize("column", ["text", "label", "doc"])
def test_missing_values_are_counted_and_placed_rather_than_learned(tmp_path, column):
    rows = some(20)
    rows[4][column] = rows[9][column] = None
    save(tmp_path / "train.jsonl", rows)
    text = refusal(request(tmp_path, group="doc"))
    assert f"'{column}' has no value in 2 of 20 rows of train.jsonl, first in row 4" in text


def test_a_class_label_of_minus_one_is_a_missing_value(tmp_path):
    data = Dataset.from_dict({"text": [f"t{i}" for i in range(20)], "label": [-1, *[0, 1] * 9, 0]})
    data.cast_column("label", ClassLabel(names=["no", "yes"])).save_to_disk(str(tmp_path))
    assert "first in row 0" in refusal(request(tmp_path))


def test_class_names_survive_the_cut(tmp_path):
    data = Dataset.from_dict({"text": [f"t{i}" for i in range(40)], "label": [0, 1] * 20})
    data.cast_column("label", ClassLabel(names=["no", "yes"])).save_to_disk(str(tmp_path))
    assert all(part.features["label"].names == ["no", "yes"] for part in parts(load(*request(tmp_path))))


def test_saved_folders_keep_class_names_and_split_names(tmp_path):
    data = Dataset.from_dict({"text": [f"t{i}" for i in range(40)], "label": [0, 1] * 20})
    data = data.cast_column("label", ClassLabel(names=["no", "yes"]))
    DatasetDict(train=data, dev=data).save_to_disk(str(tmp_path / "dict"))
    data.save_to_disk(str(tmp_path / "one"))
    splits = load(*request(tmp_path / "dict"))
    assert {i.partition(":")[0] for i in splits.train["example_id"]} == {"train"}
    assert splits.validation["example_id"][:] == [f"dev:{i}" for i in range(40)]
    assert splits.validation.features["label"].names == ["no", "yes"]
    assert "--test_file" in refusal(request(tmp_path / "one", test_file="x.csv"))
    DatasetDict(test=data).save_to_disk(str(tmp_path / "no train"))
    assert "has no split 'train', only test" in refusal(request(tmp_path / "no train"))


def test_a_torn_saved_folder_is_refused_in_one_line(tmp_path):
    Dataset.from_dict({"text": ["a"]}).save_to_disk(str(tmp_path / "one"))
    for file in (tmp_path / "one").glob("*.arrow"):
        file.write_bytes(b"")
    assert "save it again" in refusal(request(tmp_path / "one"))


def test_targets_written_differently_in_two_splits_are_refused(tmp_path):
    save(tmp_path / "train.jsonl", [{"text": f"t{i}", "label": str(i % 2)} for i in range(20)])
    save(tmp_path / "test.jsonl", [{"text": f"u{i}", "label": i % 2} for i in range(20)])
    assert "'label' is number or date in test.jsonl but text in train.jsonl" in refusal(request(tmp_path))


def test_a_file_with_a_header_and_no_rows_is_refused(tmp_path):
    save(tmp_path / "train.jsonl", some(20))
    (tmp_path / "test.csv").write_text("text,label\n")
    assert "test.csv has no rows" in refusal(request(tmp_path))


def test_reserved_columns_are_replaced_with_a_word_or_refused(tmp_path):
    save(tmp_path / "train.jsonl", [{"text": f"t{i}", "label": "a", "group": f"g{i // 2}"} for i in range(40)])
    splits = load(*request(tmp_path))
    assert list(splits.train["group"]) == list(splits.train["example_id"])
    assert any("'group'" in note and "replaced" in note for note in splits.notes)
    assert "reserved" in refusal(request(tmp_path, target="group"))
    assert load(*request(tmp_path, group="group")).train["group"][0].startswith("g")


def test_a_builtin_is_loaded_lazily_and_its_groups_always_count(monkeypatch):
    rows = [{**row, "group": row["doc"]} for row in some(200)]
    monkeypatch.setitem(BUILTINS, "stub", lambda: DatasetDict(train=Dataset.from_list(rows)))
    splits = load(*request("builtin:stub"))
    assert not set(splits.train["group"]) & set(splits.test["group"])
    assert not hasattr(sources, "apidocs")


@pytest.mark.parametrize("size", [1, 2, 10, 25, 99])
def test_subsets_are_as_even_as_class_sizes_allow(size):
    labels = ["a"] * 80 + ["b"] * 15 + ["c"] * 5
    rows = Dataset.from_dict({"label": labels, "n": range(100)})
    drawn = subset(rows, size, 0, "label")
    counts = Counter(drawn["label"])
    assert drawn.num_rows == size
    assert list(drawn["n"]) == sorted(set(drawn["n"]))
    room = Counter(labels)
    top = max(counts.values())
    assert all(counts[label] >= min(room[label], top - 1) for label in room)


def test_subsets_follow_the_seed_and_grow_without_exchanging_rows():
    rows = Dataset.from_dict({"label": ["a", "b"] * 50, "n": range(100)})
    for balance in ("", "label"):
        small, large = subset(rows, 10, 3, balance), subset(rows, 40, 3, balance)
        assert set(small["n"]) < set(large["n"])
        assert list(small["n"]) == list(subset(rows, 10, 3, balance)["n"])
        assert list(small["n"]) != list(subset(rows, 10, 4, balance)["n"])


def test_a_subset_of_everything_is_unchanged_and_of_nothing_refused():
    rows = Dataset.from_dict({"label": ["a", "b"]})
    assert subset(rows, 2, 0, "label") is subset(rows, 9, 0, "") is rows
    with pytest.raises(UserError):
        subset(rows, 0, 0, "label")


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("folder", "fields", "sizes"),
    [
        ("banking77", {"target": "category"}, (9003, 1000, 3080)),
        ("sst2", {"inputs": ("sentence",)}, (60616, 872, 6733)),
        ("sst2", {"inputs": ("sentence",), "test_file": "dev.tsv"}, (60616, 6733, 872)),
        (
            "unfair_tos",
            {"group": "doc", "train_file": "train_balanced.jsonl", "test_file": "test_balanced.jsonl"},
            (2157, 248, 686),
        ),
    ],
)
def test_real_folders_keep_every_row(folder, fields, sizes):
    if not (REAL / folder).is_dir():
        pytest.skip(f"{REAL / folder} is not there")
    splits = load(*request(REAL / folder, **fields))
    assert tuple(part.num_rows for part in parts(splits)) == pytest.approx(sizes, rel=0.05)
    assert sum(part.num_rows for part in parts(splits)) == sum(sizes)
    assert not set(splits.train["group"]) & set(splits.validation["group"])


@pytest.mark.parametrize("rare", [1, 2, 3])
@pytest.mark.parametrize("seed", [4, 8])  # whose plain draws leave train without some class
def test_train_keeps_every_class_so_that_nobodys_own_cut_is_refused(tmp_path, rare, seed):
    labels = [f"c{i % 3}" for i in range(300)] + [f"rare {i // rare}" for i in range(20 * rare)]
    save(tmp_path / "train.jsonl", [{"text": f"t{i}", "label": label} for i, label in enumerate(labels)])
    splits = load(*request(tmp_path, split_seed=seed))
    assert set(splits.train["label"]) == set(labels)
    assert sum(part.num_rows for part in parts(splits)) == len(labels)
    if rare == 1:
        assert not any(label.startswith("rare") for part in parts(splits)[1:] for label in part["label"])
        assert any("stay in train alone (20): 'rare 0', 'rare 1'" in note for note in splits.notes)


def test_a_class_within_one_group_stays_in_train(tmp_path):
    save(
        tmp_path / "train.jsonl",
        [{"text": f"t{i}", "label": "b" if i < 7 else "a", "doc": f"d{i // 7}"} for i in range(70)],
    )
    for seed in (10, 38):  # which draw that group
        assert set(load(*request(tmp_path, group="doc", split_seed=seed)).train["label"]) == {"a", "b"}


def test_a_column_of_ids_as_label_is_refused_with_a_way_out(tmp_path):
    save(tmp_path / "train.jsonl", [{"text": f"t{i}", "label": f"id {i}"} for i in range(50)])
    said = refusal(request(tmp_path))
    assert "0 rows with distinct inputs beside those of the rarest values of 'label'" in said
    assert "another column" in said


@pytest.mark.parametrize("dataset", ["data/gone.csv", "~nobody-of-this-name/x", "x" * 5000, "a\0b", "data/gone.csv\n"])
def test_a_path_that_is_not_there_is_told_with_where_it_was_looked_for(dataset):
    said = refusal(request(dataset))
    if dataset == "data/gone.csv":
        assert str(Path.cwd() / dataset) in said


@pytest.mark.parametrize(("sign", "shown"), [(";", "';'"), ("\t", r"'\t'"), ("|", "'|'")])
def test_a_file_with_other_signs_between_fields_is_told_from_one_without_the_column(tmp_path, sign, shown):
    (tmp_path / "train.csv").write_text(f"text{sign}label\na{sign}b\n")
    said = refusal(request(tmp_path))
    assert f"its header has {shown} between names: save it with commas" in said
    assert "did you mean" not in said


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (
            {"text_column": "txt"},
            "input column 'txt' (text_column) is not in train.jsonl, which has clause, label, more",
        ),
        ({"text_column": "clauses"}, "did you mean text_column=clause?"),
        (
            {"label_column": "stars", "text_column": "clause", "text_pair_column": "more"},
            "did you mean label_column=label?",
        ),
        ({"label_column": "stars", "text_column": "clause"}, "name another by label_column"),
    ],
)
def test_a_column_that_is_not_there_is_told_with_its_option_and_what_it_may_be(tmp_path, columns, said):
    save(tmp_path / "train.jsonl", [{"clause": f"t{i}", "label": "ab"[i % 2], "more": "x"} for i in range(20)])
    task = Classification.from_options(given := ClassificationOptions(**columns))
    wanted = RowOptions(dataset=str(tmp_path), task_options=given)
    assert said in refusal((wanted, task.inputs, task.target, task.holds))
