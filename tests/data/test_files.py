"""Files: nothing is guessed, dropped or turned into a missing value without a word."""

import csv
import io
import json
import os

import pytest
from datasets import ClassLabel, Dataset

from kd.base.types import UserError
from kd.data import formats
from kd.data.files import read


def write(folder, name, text, encoding="utf-8"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


COLUMNS = ("text", "label", "a", "b")


def read_file(path):
    return formats.read_file(path, COLUMNS).rows


def refusal(path, named=None):
    with pytest.raises(UserError) as caught:
        read(path, named or {}, COLUMNS)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_csv_words_that_look_like_missing_values_stay_text_and_empty_fields_are_missing(tmp_path):
    words = ["NA", "null", "None", "NaN", "n/a", "-", " ", "007"]
    path = write(tmp_path, "a.csv", "text,label\n" + "".join(f"{word},\n" for word in words))
    assert list(read_file(path)["text"]) == words
    assert list(read_file(path)["label"]) == [None] * len(words)


def test_csv_quotes_hold_commas_quotes_and_line_breaks(tmp_path):
    path = write(tmp_path, "a.csv", 'text,label\r\n"a, ""b""\r\nc",1\r\nd,2\r\n')
    assert list(read_file(path)["text"]) == ['a, "b"\r\nc', "d"]


def test_tsv_quotes_are_plain_characters_so_rows_are_not_swallowed(tmp_path):
    path = write(tmp_path, "a.tsv", 'text\tlabel\n"so it begins\t1\nand ends"\t0\n')
    assert list(read_file(path)["text"]) == ['"so it begins', 'and ends"']


def test_unicode_line_separators_within_a_value_do_not_break_rows(tmp_path):
    value = "a\u2028b\u0085c\x0bd"
    line = json.dumps({"text": value}, ensure_ascii=False)
    assert list(read_file(write(tmp_path, "a.jsonl", line + "\n" + line))["text"]) == [value, value]
    assert list(read_file(write(tmp_path, "a.csv", f"text,label\n{value},1\n"))["text"]) == [value]
    assert list(read_file(write(tmp_path, "a.tsv", f"text\tlabel\n{value}\t1\n"))["text"]) == [value]


@pytest.mark.parametrize(
    ("name", "text"), [("a.csv", "text\nx\n"), ("a.tsv", "text\nx\n"), ("a.jsonl", '{"text": "x"}\n')]
)
def test_a_byte_order_mark_is_no_part_of_the_first_column_name(tmp_path, name, text):
    assert read_file(write(tmp_path, name, text, "utf-8-sig")).column_names == ["text"]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_a_wrong_encoding_names_file_byte_and_line(tmp_path, name):
    text = refusal(write(tmp_path, name, "text\nok\ncaf\xe9\n", "latin-1"))
    assert name in text
    assert "byte 11 (line 3)" in text


@pytest.mark.parametrize("count", [1, 4, 6, 7])
def test_no_row_is_lost_or_doubled_where_one_piece_of_a_file_ends(tmp_path, count, monkeypatch):
    monkeypatch.setattr(formats, "CHUNK", 3)
    rows = [[f"t{row}", None if row % 2 else "x\ny"] for row in range(count)]
    text = "a,b\n" + "".join(f'{a},"{b or ""}"\n\n' for a, b in rows)
    data = read_file(write(tmp_path, "d.csv", text))
    assert [[row["a"], row["b"]] for row in data] == rows


def test_a_wrong_byte_far_into_a_file_is_placed_as_exactly_as_at_its_start(tmp_path):
    lines = b"text\n" + b"good film\n" * 30_000
    (tmp_path / "d.csv").write_bytes(lines + b"caf\xe9\n")
    with pytest.raises(UserError, match=rf"byte {len(lines) + 3} \(line 30002\)"):
        read_file(tmp_path / "d.csv")


def test_a_field_longer_than_the_csv_module_allows_by_default_is_read(tmp_path):
    path = write(tmp_path, "a.csv", "text\n" + "x" * 200_000 + "\n")
    assert len(read_file(path)["text"][0]) == 200_000


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.csv", 'text,label\n"a\nb",1\nc,1,2\n', "line 4"),
        ("a.csv", "text,label\na,1\nb\n", "line 3"),
        ("a.csv", 'text,label\na,1\n"b,1\nc,2\n', "line 3"),
        ("a.csv", 'text,label\n"a"b,1\n', "line 2"),
        ("a.tsv", "text\tlabel\na\t1\tb\n", "line 2"),
        ("a.jsonl", '{"text": "a"}\n\n{"text": \n', "line 3"),
        ("a.jsonl", '{"text": "a"}\n["b"]\n', "line 2"),
        ("a.json", '[{"text": "a"}]', "line 1"),
    ],
)
def test_malformed_rows_are_refused_with_file_and_line(tmp_path, name, text, line):
    message = refusal(write(tmp_path, name, text))
    assert name in message
    assert line in message


def test_jsonl_keys_missing_in_the_first_line_are_not_dropped(tmp_path):
    rows = read_file(write(tmp_path, "a.jsonl", '{"text": "a"}\n{"text": "b", "label": 3}\n'))
    assert list(rows["label"]) == [None, 3]


def test_jsonl_text_that_looks_like_a_date_stays_text(tmp_path):
    rows = read_file(write(tmp_path, "a.jsonl", '{"text": "2020-01-01"}\n{"text": "2021-01-01 10:00:00"}\n'))
    assert list(rows["text"]) == ["2020-01-01", "2021-01-01 10:00:00"]


def test_jsonl_column_of_mixed_types_is_refused_by_name(tmp_path):
    assert "'label'" in refusal(write(tmp_path, "a.jsonl", '{"label": 1}\n{"label": "a"}\n'))


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_an_empty_file_is_refused(tmp_path, name):
    assert "empty" in refusal(write(tmp_path, name, ""))


def test_a_column_named_twice_is_refused_rather_than_overwritten(tmp_path):
    assert "'a' twice" in refusal(write(tmp_path, "x.csv", "a,b,a\n1,2,3\n"))


@pytest.mark.parametrize("name", ["a.txt", "a.xlsx", "a"])
def test_an_unknown_extension_lists_those_there_are(tmp_path, name):
    assert ".jsonl" in refusal(write(tmp_path, name, "text\na\n"))


def test_a_file_that_only_claims_to_be_parquet_is_refused(tmp_path):
    assert "a.parquet" in refusal(write(tmp_path, "a.parquet", "text\na\n"))


def test_parquet_keeps_types_and_class_names(tmp_path):
    data = Dataset.from_dict({"text": ["a"], "label": [1]}).cast_column("label", ClassLabel(names=["no", "yes"]))
    data.to_parquet(tmp_path / "a.parquet")
    assert read_file(tmp_path / "a.parquet").features["label"].names == ["no", "yes"]


@pytest.mark.parametrize("name", ["dev", "valid", "val", "eval", "validation", "Dev"])
def test_every_usual_name_of_validation_is_found_so_none_is_cut_by_mistake(tmp_path, name):
    for stem in ("train", name, "test", "categories", "train_old"):
        write(tmp_path, f"{stem}.csv", f"text\n{stem}\n")
    sources = read(tmp_path, {}, COLUMNS)
    assert {split: source.name for split, source in sources.items()} == {
        "train": "train.csv",
        "validation": f"{name}.csv",
        "test": "test.csv",
    }


def test_two_files_for_one_split_are_refused_rather_than_one_chosen(tmp_path):
    for name in ("train.csv", "dev.csv", "val.csv"):
        write(tmp_path, name, "text\na\n")
    text = refusal(tmp_path)
    assert "dev.csv" in text
    assert "val.csv" in text


def test_a_folder_without_train_lists_what_is_there(tmp_path):
    write(tmp_path, "training.csv", "text\na\n")
    text = refusal(tmp_path)
    assert "training.csv" in text
    assert "--train_file" in text


def test_named_files_win_and_are_no_other_split_at_the_same_time(tmp_path):
    for name in ("train.csv", "dev.csv"):
        write(tmp_path, name, "text\na\n")
    sources = read(tmp_path, {"test": "dev.csv"}, COLUMNS)
    assert {split: source.name for split, source in sources.items()} == {"train": "train.csv", "test": "dev.csv"}


def test_the_same_file_for_two_splits_is_refused(tmp_path):
    write(tmp_path, "train.csv", "text\na\n")
    assert "train.csv" in refusal(tmp_path, {"train": "train.csv", "test": "./train.csv"})


def test_equal_names_in_two_outside_folders_are_refused_for_ids_would_not_be_unique(tmp_path):
    write(tmp_path, "d/train.csv", "text\na\n")
    one, two = write(tmp_path, "x/a.csv", "text\na\n"), write(tmp_path, "y/a.csv", "text\na\n")
    assert "a.csv" in refusal(tmp_path / "d", {"validation": str(one), "test": str(two)})


def test_a_named_file_that_is_not_there_is_refused_by_its_option(tmp_path):
    write(tmp_path, "train.csv", "text\na\n")
    assert "--test_file=gone.csv" in refusal(tmp_path, {"test": "gone.csv"})


def test_files_next_to_a_single_file_are_used_only_when_named(tmp_path):
    path = write(tmp_path, "train.csv", "text\na\n")
    write(tmp_path, "test.csv", "text\nb\n")
    assert set(read(path, {}, COLUMNS)) == {"train"}
    assert set(read(path, {"test": "test.csv"}, COLUMNS)) == {"train", "test"}
    assert "--train_file" in refusal(path, {"train": "test.csv"})


def tsv(folder, rows, **dialect):
    out = io.StringIO()
    csv.writer(out, delimiter="\t", **dialect).writerows([("text", "label"), *rows])
    return write(folder, "a.tsv", out.getvalue())


@pytest.mark.parametrize(
    ("texts", "dialect"),
    [
        (['so "it" is', "plain"], {}),
        (["a\nb", "plain"], {"lineterminator": "\n"}),
        (["plain", "other"], {"quoting": csv.QUOTE_ALL}),
        (['so "it"\tis', ""], {"quoting": csv.QUOTE_ALL}),
    ],
)
def test_a_tsv_that_a_csv_writer_wrote_is_read_as_it_was_meant_and_said(tmp_path, texts, dialect):
    source = formats.read_file(tsv(tmp_path, [(text, "1") for text in texts], **dialect), COLUMNS)
    assert list(source.rows["text"]) == [text or None for text in texts]
    assert "'a.tsv' encloses fields in quotes" in source.notes[0]


def test_a_tsv_of_which_a_csv_writer_wrote_a_part_is_read_as_it_stands_and_said(tmp_path):
    rows = 'text\tlabel\n"so ""it"" is"\t1\nplain "it" is\t1\n'
    source = formats.read_file(write(tmp_path, "a.tsv", rows), COLUMNS)
    assert list(source.rows["text"]) == ['"so ""it"" is"', 'plain "it" is']
    (note,) = source.notes
    assert "1 fields of 'text' in 'a.tsv' are in quotes" in note
    assert "save the file as .csv" in note


@pytest.mark.parametrize("text", ['so "it" is', '"so it is"', '"so" it is', 'so ""it"" is', '""', '"'])
def test_quotes_that_no_csv_writer_would_put_there_are_part_of_the_text(tmp_path, text):
    source = formats.read_file(write(tmp_path, "a.tsv", f"text\tlabel\n{text}\t1\nplain\t1\n"), COLUMNS)
    assert list(source.rows["text"]) == [text, "plain"]
    assert not source.notes


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[" * 100_000, "line 2 is nested too deeply"),
        ('{"text": ' + "1" * 5_000 + "}", "line 2 has a number of more than 4,300 digits"),
        ('{"text": "\\ud800"}', "column 'text', line 2: '\\ud800' has half of a surrogate pair"),
        ('{"label": ' + "9" * 30 + "}", "column 'label', line 2: 999999999999999999999999999999 is beyond 64 bits"),
        ('{"text": "a", "text": "b"}', "line 2 names a column twice"),
        ('{"text": {"a": 1, "a": 2}}', "column 'text' mixes types: text in line 1, an object in line 2"),
        ('{"text": ["b"]}', "column 'text' mixes types: text in line 1, a list in line 2"),
        ('{"label": {"a": [1, "b"]}}', "column 'label', line 2: {'a': [1, 'b']} mixes types"),
    ],
)
def test_what_json_allows_and_no_column_holds_is_refused_by_its_line(tmp_path, line, said):
    assert said in refusal(write(tmp_path, "a.jsonl", f'{{"text": "a"}}\n{line}\n'))


def test_a_key_that_no_terminal_shows_is_listed_as_python_writes_it(tmp_path):
    write(tmp_path, "train.jsonl", '{"\\ud800": 1, "a\\nb": 2}\n')
    assert read(tmp_path, {}, COLUMNS)["train"].names == ("\ud800", "a\nb")


@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_training_rows_are_not_taken_for_others_too(tmp_path, split):
    path = write(tmp_path, "train.csv", "text\na\n")
    for place in (path, tmp_path):
        for name in ("train.csv", str(path)):
            said = refusal(place, {split: name})
            assert f"--{split}_file={path}: these are the training rows" in said


def test_a_pipe_is_refused_rather_than_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.csv")
    assert "no regular file" in refusal(tmp_path / "a.csv")


def test_of_two_columns_of_one_name_that_nobody_asked_for_no_one_speaks(tmp_path):
    assert list(read_file(write(tmp_path, "x.csv", "text,,\na,1,2\n"))["text"]) == ["a"]
