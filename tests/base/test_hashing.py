"""Digests differ where what they are made of differs, and in no other case."""

import hashlib

import pytest

from kd.base.hashing import bytes_digest, digest_of_files, file_digest, fingerprint, lines_digest, text_digest


def test_parts_count_by_name_and_value_and_not_by_their_order():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    made = [{"a": "bc", "b": ""}, {"a": "b", "b": "c"}, {"a": "bc"}, {"a": 1}, {"a": "1"}, {"a": [1]}, {"a": None}, {}]
    assert len({fingerprint(parts) for parts in made}) == len(made)


def test_what_has_no_one_text_is_refused_rather_than_hashed_by_its_address():
    with pytest.raises(TypeError):
        fingerprint({"a": object()})


def test_the_end_of_a_line_counts():
    assert len({lines_digest(lines) for lines in (["ab"], ["a", "b"], ["a", "", "b"], ["a", "b", ""])}) == 4
    assert lines_digest(iter(["a", "é"])) == text_digest("a\né")[:32]


def test_bytes_count_and_not_how_they_come_in_pieces(tmp_path):
    (tmp_path / "file").write_bytes(b"content" * 100_000)
    plain = hashlib.sha256(b"content" * 100_000).hexdigest()
    assert bytes_digest([b"content"] * 100_000) == file_digest(tmp_path / "file") == plain
    assert file_digest(tmp_path / "file", b"before") != plain


def test_names_and_bytes_of_files_count_and_the_folder_does_not(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for name, content in (("a", "1"), ("b", "2")):
            (tmp_path / folder / name).write_text(content)

    def found(folder):
        return digest_of_files(sorted((tmp_path / folder).iterdir()))

    assert found("one") == found("two")
    (tmp_path / "two" / "b").write_text("3")
    changed = found("two")
    assert changed != found("one")
    (tmp_path / "two" / "b").rename(tmp_path / "two" / "c")
    assert found("two") != changed
