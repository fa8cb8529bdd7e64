"""The harvest: no class readable off names, only prose, no copies."""

import random
from collections import Counter
from pathlib import Path

import pytest

from kd.data.builtin import apidocs_harvest
from kd.data.builtin.apidocs_harvest import first_paragraph, harvest, mask, near_copies, plain_words

SYLLABLES = ("bra", "clo", "dre", "fli", "gru", "pla")
WORDS = [first + last for first in SYLLABLES for last in ("nd", "st", "mp", "rk", "ll", "ft")]
PACKAGE_NAMES = """
torch PyTorch pytorch's numpy NumPy np pandas pd scipy sklearn scikit-learn scikit matplotlib plt pyplot mpl sqlalchemy
SQLAlchemy transformers Transformer HuggingFace mlflow MLflow MLFLOW python Python3 CPython pythonic np-like num-numpy
""".split()  # noqa: SIM905


def sentence(generator: random.Random) -> str:
    return " ".join(generator.choices(WORDS, k=9)).capitalize() + "."


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, source in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(source, encoding="utf-8")
    return folder


def masked(text: str, classes: frozenset[str] = frozenset()) -> str:
    return mask(apidocs_harvest.strip_markup(text), classes)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sort the mean values in place.", "Sort the mean values in place."),
        ("Call `fit` then :meth:`~a.B.score` or ``x + 1``.", "Call NAME then NAME or NAME."),
        ("Return max_iter for os.path and run() twice, e.g. here.", "Return NAME for NAME and NAME twice, e.g. here."),
        ("A DataFrame of float32 where n is 3.5 or 10%.", "A NAME of NAME where NAME is NUMBER or NUMBER."),
        ("Since version 1.2.3 see https://example.org/a_b?c=1 for more.", "Since version NUMBER see LINK for more."),
        ("Return the value(s) of *x* and **both** (default).", "Return the values of NAME and both default."),
        ("See the [user guide](../guide.md) of <b>bold</b> words.", "See the user guide of bold words."),
        ("Use low-level and/or 2-dimensional input.", "Use low-level and/or NUMBER-dimensional input."),
        ("Given a, b, n or `c`", "Given a, NAME or NAME"),
    ],
)
def test_code_becomes_a_placeholder_and_english_stays(text: str, expected: str) -> None:
    assert masked(text) == expected


def test_a_class_name_inside_a_sentence_does_not_name_the_package() -> None:
    assert masked("Column of a Column. Column", frozenset({"Column"})) == "Column of a NAME. Column"


@pytest.mark.parametrize("name", PACKAGE_NAMES)
def test_no_spelling_of_a_package_name_survives(name: str) -> None:
    words = plain_words(masked(f"Given {name} and ({name}), or {name}."))
    assert set(words) <= {"given", "and", "or", "like", "NAME"}


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("=====\nTitle\n=====\n\nThe prose\nof it.\n\nMore.", "The prose of it."),
        (".. deprecated:: 1.0\n   Gone.\n\nThe prose.", "The prose."),
        ("The prose.\nArgs:\n    x: a number", "The prose."),
        ("The prose.\n>>> 1 + 1\n2", "The prose."),
        ("The prose.\n:param x: a number", "The prose."),
        ("Args:\n    x (`int`): a number", None),
        ("Parameters\n----------\nx : int\n    A number.\n\nMore.", None),
        ("hidden_size (`int`, *optional*): the size", None),
        ("Copyright 2020 The Authors. All rights reserved.", None),
    ],
)
def test_only_prose_is_taken_from_a_docstring(docstring: str, expected: str | None) -> None:
    assert first_paragraph(docstring) == expected


def test_private_names_test_code_and_unreadable_files_give_no_rows(tmp_path: Path) -> None:
    generator = random.Random(0)
    texts = [sentence(generator) for _ in range(9)]
    folder = write(
        tmp_path / "numpy",
        {
            "a.py": f'"""{texts[0]}"""\nraise SystemExit("imported")\n'
            f'class A:\n    """{texts[1]}"""\n    def b(self):\n        """{texts[2]}"""\n'
            f'    def _c(self):\n        """{texts[3]}"""\n'
            f'class _D:\n    """{texts[4]}"""\n    def e(self):\n        """{texts[5]}"""\n',
            "tests/b.py": f'"""{texts[6]}"""\n',
            "_vendor/c.py": f'"""{texts[7]}"""\n',
            "broken.py": f'"""{texts[8]}"""\ndef (:\n',
            "short.py": '"""Only three words."""\n',
        },
    )
    assert {row.text for row in harvest({"numpy": folder})} == set(texts[:3])


def test_a_text_of_two_classes_has_no_label_and_is_dropped_and_of_one_class_is_kept_once(tmp_path: Path) -> None:
    shared = '"""Return the sum of all values along the given axis."""\n'
    near = '"""Return the sum of all values along the given axes."""\n'
    own = '"""Draw every marker of the figure in the chosen colour."""\n'
    numpy = write(tmp_path / "numpy", {"a.py": shared})
    torch = write(tmp_path / "torch", {"a.py": near, "b.py": own, "c.py": own})
    assert [row.text for row in harvest({"numpy": numpy, "torch": torch})] == [own.strip('"\n')]


def test_near_copies_finds_what_comparing_every_pair_finds() -> None:
    generator = random.Random(1)
    texts = []
    for _ in range(40):
        words = generator.choices(WORDS[:6], k=generator.randint(5, 14))
        for _ in range(3):
            words = [generator.choice(WORDS) if generator.random() < 0.08 else word for word in words]
            texts.append(" ".join(words))
    shingles = [{tuple(text.split()[i : i + 3]) for i in range(len(text.split()) - 2)} for text in texts]
    expected = list(range(len(texts)))
    for left in range(len(texts)):
        for right in range(left):
            if (
                len(shingles[left] & shingles[right]) / len(shingles[left] | shingles[right])
                >= apidocs_harvest.NEAR_COPY
            ):
                old, new = expected[left], expected[right]
                expected = [new if number == old else number for number in expected]
    found = near_copies(texts)
    assert len(set(expected)) < len(texts)
    assert len(set(zip(found, expected, strict=True))) == len(set(found)) == len(set(expected))


def test_a_large_package_is_sampled_from_all_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apidocs_harvest, "FILES_PER_PACKAGE", 40)
    folder = write(tmp_path, {f"{part}/m{index}.py": "" for part in "abcd" for index in range(40)})
    chosen = Counter(group.split("/")[1] for group, _ in apidocs_harvest.source_files("torch", folder))
    assert sum(chosen.values()) == 40
    assert set(chosen) == set("abcd")
