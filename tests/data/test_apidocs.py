"""The embedded data set: balanced splits that share nothing, the same rows every time, a cache whole or absent."""

import os
import random
import re
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from datasets import DatasetDict

from kd.base.files import SEAL, is_whole
from kd.base.types import UserError
from kd.data.builtin import apidocs, apidocs_harvest
from kd.data.builtin.apidocs_harvest import PLACEHOLDERS, Row, near_copies, plain_words

SYLLABLES = ("bra", "clo", "dre", "fli", "gru", "pla")
WORDS = [first + last for first in SYLLABLES for last in ("nd", "st", "mp", "rk", "ll", "ft")]


def sentence(generator: random.Random) -> str:
    return " ".join(generator.choices(WORDS, k=9)).capitalize() + "."


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, source in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(source, encoding="utf-8")
    return folder


def packages(folder: Path, names: tuple[str, ...] = ("torch", "numpy"), files: int = 30) -> dict[str, Path]:
    generator = random.Random(3)
    found = {}
    for name in names:
        sources = {
            f"part{index % 4}/module{index}.py": "".join(
                f'def call_{index}_{row}():\n    """{sentence(generator)}"""\n' for row in range(4)
            )
            for index in range(files)
        }
        found[name] = write(folder / name, sources)
    return found


def rows(label: str, files: int, each: int) -> list[Row]:
    generator = random.Random(label)
    return [Row(f"{label}/{file}.py", sentence(generator), label) for file in range(files) for _ in range(each)]


def contents(data: DatasetDict) -> dict[str, list[dict[str, str]]]:
    return {split: rows.to_list() for split, rows in data.items()}


def test_splits_are_balanced_and_share_no_file_and_no_text() -> None:
    data = apidocs.build(rows("a", 60, 3) + rows("b", 40, 9), {"test": 30, "validation": 15, "train": 45})
    for split, size in {"test": 30, "validation": 15, "train": 45}.items():
        assert Counter(data[split]["label"]) == {"a": size, "b": size}
    for column in ("group", "text"):
        assert sum(len(set(data[split][column])) for split in data) == len(
            {value for split in data for value in data[split][column]}
        )


def test_splits_do_not_depend_on_the_order_of_the_rows() -> None:
    harvested = rows("a", 60, 3) + rows("b", 40, 9)
    shuffled = random.Random(5).sample(harvested, len(harvested))
    sizes = {"test": 30, "validation": 15, "train": 45}
    assert contents(apidocs.build(harvested, sizes)) == contents(apidocs.build(shuffled, sizes))


def test_one_large_file_does_not_make_up_a_test_split() -> None:
    large = [Row("a/large.py", row.text, "a") for row in rows("z", 1, 200)]
    data = apidocs.build(rows("a", 90, 2) + large, {"test": 30, "validation": 30, "train": 60})
    for split in ("test", "validation"):
        assert max(Counter(data[split]["group"]).values()) <= 30 // apidocs.MIN_FILES


def test_a_short_class_shrinks_every_class_alike() -> None:
    data = apidocs.build(rows("a", 300, 2) + rows("b", 70, 1), {"test": 30, "validation": 30, "train": 60})
    for split in data.values():
        counts = Counter(split["label"])
        assert counts["a"] == counts["b"]
    assert data["train"].num_rows < 120


def test_too_few_rows_are_refused_and_the_class_is_named() -> None:
    with pytest.raises(UserError, match=r"pandas \(12\)") as error:
        apidocs.build(rows("torch", 300, 2) + rows("pandas", 12, 1), {"test": 30, "validation": 30, "train": 60})
    assert "\n" not in str(error.value)


def test_hash_randomisation_changes_no_row(tmp_path: Path) -> None:
    folders = {name: str(folder) for name, folder in packages(tmp_path).items()}
    code = (
        "from pathlib import Path; from kd.data.builtin import apidocs; "
        "from kd.data.builtin.apidocs_harvest import harvest; "
        f"rows = harvest({{k: Path(v) for k, v in {folders!r}.items()}}); "
        "data = apidocs.build(rows, {'test': 20, 'validation': 20, 'train': 30}); "
        "print(len(rows), {split: rows.to_list() for split, rows in data.items()})"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert int(outputs.pop().split()[0]) == 240


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make `load` harvest made-up rows into tmp_path; the list grows by one at each harvest."""
    harvests: list[str] = []

    def fake(folders: dict[str, Path]) -> list[Row]:
        harvests.append("harvest")
        return rows("a", 300, 3) + rows("b", 300, 3)

    monkeypatch.setenv("KD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(apidocs, "harvest", fake)
    return harvests


def only_folder(home: Path) -> Path:
    (folder,) = (path for path in (home / "data").iterdir() if path.is_dir())
    return folder


def test_the_second_load_reads_the_same_rows_without_a_harvest(tmp_path: Path, fakes: list[str]) -> None:
    first = apidocs.load()
    second = apidocs.load()
    assert fakes == ["harvest"]
    assert contents(first) == contents(second)
    assert first["train"].column_names == ["text", "label", "group"]


@pytest.mark.parametrize("damage", ["torn", "missing", "no checksum", "other rows", "not json"])
def test_a_damaged_cache_is_rebuilt(tmp_path: Path, fakes: list[str], damage: str) -> None:
    whole = contents(apidocs.load())
    folder = only_folder(tmp_path / "home")
    arrow = next((folder / "test").glob("*.arrow"))
    if damage == "torn":
        arrow.write_bytes(arrow.read_bytes()[: arrow.stat().st_size // 2])
    elif damage == "missing":
        arrow.unlink()
    elif damage == "no checksum":
        (folder / SEAL).unlink()
    elif damage == "other rows":
        arrow.write_bytes(arrow.read_bytes().replace(b"brand", b"BRAND"))
    else:
        (folder / "dataset_dict.json").write_text("{")
    assert contents(apidocs.load()) == whole
    assert contents(apidocs.load()) == whole
    assert fakes == ["harvest", "harvest"]
    assert only_folder(tmp_path / "home") == folder


def test_two_writers_at_once_leave_one_whole_cache(tmp_path: Path, fakes: list[str]) -> None:
    with ThreadPoolExecutor(3) as pool:
        loaded = [contents(data) for data in pool.map(lambda _: apidocs.load(), range(9))]
    harvests = len(fakes)
    assert all(data == loaded[0] for data in [*loaded, contents(apidocs.load())])
    assert len(fakes) == harvests
    assert is_whole(only_folder(tmp_path / "home"))


def test_another_version_of_a_package_is_harvested_again(fakes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    apidocs.load()
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0.1")
    apidocs.load()
    assert fakes == ["harvest", "harvest"]


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    fakes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = apidocs.importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "sklearn" else find(name))
    with pytest.raises(UserError, match=r"sklearn.*pip install scikit-learn") as error:
        apidocs.load()
    assert "\n" not in str(error.value)
    assert not fakes


def test_a_cache_folder_that_cannot_be_written_is_told_before_the_harvest(
    tmp_path: Path, fakes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KD_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"KD_HOME=.*file") as error:
        apidocs.load()
    assert "\n" not in str(error.value)
    assert not fakes


@pytest.mark.realdata
def test_the_installed_packages_give_rows_that_keep_every_promise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sklearn = pytest.importorskip("sklearn.tree")
    monkeypatch.setenv("KD_HOME", str(tmp_path))
    data = apidocs.load()
    everything = [row for split in data.values() for row in split.to_list()]
    texts = [row["text"] for row in everything]

    assert len(set(data["test"]["label"])) == 10
    for split in data.values():
        assert len(set(Counter(split["label"]).values())) == 1
    assert sum(len(set(split["group"])) for split in data.values()) == len({row["group"] for row in everything})
    assert len(set(near_copies(texts))) == len(texts)

    own = {"np", "pd", "plt", "mpl", "hf", "sp", "sa"}
    parts = re.compile(r"torch|numpy|pandas|scipy|scikit|sklearn|matplotlib|sqlalchemy|transformer|mlflow|python", re.I)
    for text in texts:
        words = plain_words(text)
        assert not own & set(words), text
        assert not parts.search(text), text
        assert sum(word not in PLACEHOLDERS for word in words) >= apidocs_harvest.MIN_WORDS, text

    def counts(split: str) -> list[list[int]]:
        return [[plain_words(text).count(word) for word in sorted(PLACEHOLDERS)] for text in data[split]["text"]]

    tree = sklearn.DecisionTreeClassifier(min_samples_leaf=20, random_state=0)
    tree.fit(counts("train"), data["train"]["label"])
    assert tree.score(counts("test"), data["test"]["label"]) < 0.2  # chance is 0.1
