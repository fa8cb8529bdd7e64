"""`builtin:apidocs`: which of ten Python packages does a sentence of documentation describe?

Real English that is on every machine with this project installed: the first paragraph of public docstrings of nine
packages and the standard library, masked and cleared of copies by `apidocs_harvest` beside it (its docstring says how).
Near-copies are dropped rather than kept together, so a row's only tie to another is its source file, and a file is in
one split only.

Balanced: every class has the same number of rows in each split. Files are ordered by a hash of their path and fill
test, then validation, then train; no seed plays a part. Where other versions of the packages yield too few rows, every
class shrinks alike in steps of 5 %, down to `MIN_PERCENT` of `ROWS`. The rows depend on the installed versions, so
results are comparable only where the data set's digest is the same.
"""

import contextlib
import importlib.metadata
import importlib.util
import logging
import platform
import sysconfig
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from datasets import Dataset, DatasetDict, load_from_disk

from kd.base.files import home, is_whole, publish
from kd.base.hashing import fingerprint, text_digest
from kd.base.types import SplitName, UserError
from kd.data.builtin.apidocs_harvest import Row, harvest

PACKAGES = ("matplotlib", "mlflow", "numpy", "pandas", "scipy", "sklearn", "sqlalchemy", "torch", "transformers")
DISTRIBUTIONS = {name: {"sklearn": "scikit-learn"}.get(name, name) for name in PACKAGES}
"""Package to the name it is installed by."""
STANDARD_LIBRARY = "python"
"""Class name of the standard library."""
ROWS: dict[SplitName, int] = {"test": 130, "validation": 50, "train": 210}
"""Rows a class in each split: a comparison takes minutes on two cores. Test is large, as few rows tell little."""
MIN_PERCENT = 40
"""Least share of `ROWS`, in percent, that is still used."""
MIN_FILES = 15
"""Files a class at least in validation and in test: one file gives at most 1/15 of them."""
FORMAT = 2
"""Raised whenever harvest or splits change, so that an old cache is not used."""

_log = logging.getLogger(__name__)


def load() -> DatasetDict:
    """Return the data set, from the cache under `KD_HOME` or harvested (some twenty seconds, once a set of versions).

    Returns:
        Splits train, validation and test with the columns text (masked English), label (package) and group (source
        file as `<label>/<posix path inside the package>`); rows in an order fixed by a hash.

    Raises:
        UserError: a package is missing, the versions yield too few rows, or the cache folder cannot be written.
    """
    folders, versions = _installed()
    folder = home() / "data" / f"apidocs-{fingerprint({'format': FORMAT, 'versions': versions})[:16]}"
    with _cache_errors():
        if is_whole(folder):
            return load_from_disk(str(folder), keep_in_memory=True)
        if folder.exists():
            _log.warning("builtin:apidocs: the cache %s is damaged and is rebuilt", folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
    _log.info("builtin:apidocs: harvesting docstrings of %d packages, once for these versions", len(folders))
    built = build(harvest(folders))
    with _cache_errors(), publish(folder) as scratch:
        built.save_to_disk(str(scratch))
    return built


@contextlib.contextmanager
def _cache_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"KD_HOME={home()}: the cache of builtin:apidocs cannot be written ({error.strerror or error}); "
            "set KD_HOME to a folder that you may write to and that has space"
        ) from error


def _installed() -> tuple[dict[str, Path], dict[str, str]]:
    """Return the source folder and the version of each class, importing none of them."""
    folders = {STANDARD_LIBRARY: Path(sysconfig.get_path("stdlib"))}
    versions = {STANDARD_LIBRARY: platform.python_version()}
    for package, distribution in DISTRIBUTIONS.items():
        spec = importlib.util.find_spec(package)
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(distribution)
        if spec is None or not spec.submodule_search_locations or package not in versions:
            raise UserError(
                f"builtin:apidocs: {package} is not installed as {distribution}; {', '.join(DISTRIBUTIONS)} are all "
                f"needed; run `pip install {distribution}`"
            )
        folders[package] = Path(spec.submodule_search_locations[0])
    return folders, versions


def build(rows: Sequence[Row], sizes: Mapping[SplitName, int] = ROWS) -> DatasetDict:
    """Split rows without copies by file into balanced splits; `sizes` are rows a class, filled in this order.

    Raises:
        UserError: some class cannot fill `MIN_PERCENT` of the sizes.
    """
    classes: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        classes[row.label].append(row)
    short: list[str] = []
    for percent in range(100, MIN_PERCENT - 1, -5):
        scaled = {split: max(1, size * percent // 100) for split, size in sizes.items()}
        chosen = {label: _split_class(members, scaled) for label, members in sorted(classes.items())}
        short = [label for label, splits in chosen.items() if not splits]
        if not short:
            parts = {split: chain(*(splits[split] for splits in chosen.values())) for split in sorted(sizes)}
            return DatasetDict({split: _dataset(part) for split, part in parts.items()})
    counts = ", ".join(f"{label} ({len(classes[label])})" for label in short)
    least = sum(sizes.values()) * MIN_PERCENT // 100
    raise UserError(
        f"builtin:apidocs: too few usable docstrings in {counts}; at least {least} a class, from many files, are "
        "needed; install the versions this project pins"
    )


def _split_class(rows: Sequence[Row], sizes: Mapping[SplitName, int]) -> dict[SplitName, list[Row]]:
    """Return the rows of each split; nothing where they do not suffice."""
    files: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: text_digest(row.text)):
        files[row.group].append(row)
    order = sorted(files, key=text_digest)
    splits: dict[SplitName, list[Row]] = {}
    for split, size in sizes.items():
        most = size if split == "train" else max(1, size // MIN_FILES)
        pool: list[tuple[int, Row]] = []
        while order and (len(pool) < size or split == "train"):
            pool += enumerate(files[order.pop(0)][:most])
        if len(pool) < size:
            return {}
        # every file's first row, then every file's second: no file dominates
        pool.sort(key=lambda ranked: (ranked[0], text_digest(ranked[1].text)))
        splits[split] = [row for _, row in pool[:size]]
    return splits


def _dataset(rows: Iterable[Row]) -> Dataset:
    ordered = sorted(rows, key=lambda row: text_digest(row.text))
    return Dataset.from_dict({name: [getattr(row, name) for row in ordered] for name in ("text", "label", "group")})
