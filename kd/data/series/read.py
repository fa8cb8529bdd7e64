"""From what the user names to recordings: a file of one patient or many, a folder, or a builtin."""

import re
from collections.abc import Mapping
from pathlib import Path

from kd.base.console import did_you_mean, one_line, several, shown
from kd.base.types import SplitName, UserError
from kd.config import listed
from kd.config.series import SeriesOptions
from kd.data.series.builtin import BUILTINS
from kd.data.series.columns import read_table
from kd.data.series.ohio import read_xml
from kd.data.series.recording import PartName, Recording
from kd.data.splits import SPLIT_ALIASES

SUFFIXES = (".csv", ".tsv", ".parquet", ".xml")
PUBLISHED = re.compile(r"(.+)-ws-(training|testing)", re.IGNORECASE)
"""How OhioT1DM calls its files."""
OF_A_FOLDER = "glucose.csv"
"""D1NAMO has a folder a patient, and calls the readings so."""


def recordings(dataset: str, options: SeriesOptions, files: Mapping[SplitName, str]) -> list[Recording]:
    """Read all recordings of a data set, as they are in its files.

    Args:
        dataset: A file, a folder of files, or builtin:NAME.
        options: Names of columns, and which covariates are wanted.
        files: Files of splits, absolute or relative to the folder (of the file), instead of those it has.

    Raises:
        UserError: nothing can be read, or a file is not as it must be; the text names file and line.
    """
    if dataset.startswith("builtin:"):
        reader = BUILTINS.get(dataset.removeprefix("builtin:"))
        if reader is None:
            raise UserError(
                f"--dataset={dataset}: no such builtin of series: there are {several(list(BUILTINS)) or 'none'}"
            )
        if files:
            raise UserError(f"--{next(iter(files))}_file: --dataset={dataset} has its own splits: leave it out")
        return reader(options)
    path = _place(dataset)
    chosen = _chosen(path, dataset, options, files)
    return [one for file, (item, split) in chosen.items() for one in _read(file, item, split, options)]


def _place(dataset: str) -> Path:
    try:
        path = Path(dataset).expanduser()
        there = path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"--dataset={dataset}: cannot be looked for ({one_line(error)}): give another path") from error
    if not there:
        raise UserError(
            f"--dataset={dataset}: not found: there is no {path.absolute()}; it may be a file ({', '.join(SUFFIXES)}), "
            f"a folder, or builtin:NAME ({several(list(BUILTINS)) or 'none'})"
        )
    return path


def _chosen(
    path: Path, dataset: str, options: SeriesOptions, files: Mapping[SplitName, str]
) -> dict[Path, tuple[str, PartName]]:
    """Return each file that is read, whose it is, and what it is for."""
    folder = path if path.is_dir() else path.parent
    if path.is_file() and "train" in files:
        raise UserError(
            f"--train_file={files['train']}: --dataset={dataset} is a file already: give its folder as --dataset"
        )
    named: dict[Path, SplitName] = {}
    for split, name in files.items():
        file = folder / Path(name).expanduser()
        if not file.is_file():
            raise UserError(
                f"--{split}_file={name}: no file {file.absolute()}: give a path that is absolute or within the folder"
            )
        if other := next((known for known in named if known.resolve() == file.resolve()), None):
            raise UserError(f"--{split}_file={name}: is the {named[other]} file too: give another")
        named[file] = split
    if path.is_file():
        if path.resolve() in {file.resolve() for file in named}:
            raise UserError(f"--{next(iter(files))}_file={next(iter(files.values()))}: these are the rows of --dataset")
        whole: dict[Path, tuple[str, PartName]] = {path: _named(path, folder)}
    else:
        whole = _of_folder(path, dataset, options)
    taken = {file.resolve() for file in named}
    rest = {file: one for file, one in whole.items() if file.resolve() not in taken}
    if "train" in files:  # as the folder's own training files are meant to be replaced
        rest = {file: one for file, one in rest.items() if one[1] not in ("train", "")}
    if files and path.is_file():
        rest = {file: (item, "train") for file, (item, _) in rest.items()}
    given: dict[Path, tuple[str, PartName]] = {
        file: (_named(file, folder)[0] if path.is_dir() else _named(path, folder)[0], split)
        for file, split in named.items()
    }
    return rest | given


def _of_folder(folder: Path, dataset: str, options: SeriesOptions) -> dict[Path, tuple[str, PartName]]:
    try:
        patients = Path(options.patients_file).expanduser().resolve() if options.patients_file else None
        found = sorted(
            file
            for file in folder.iterdir()
            if file.is_file() and file.suffix.lower() in SUFFIXES and file.resolve() != patients
        )
        found = found or sorted(folder.glob(f"*/{OF_A_FOLDER}"))
    except OSError as error:
        raise UserError(f"--dataset={dataset}: cannot be read ({error.strerror}): check its permissions") from error
    if not found:
        raise UserError(
            f"--dataset={dataset}: has no file of series ({', '.join(SUFFIXES)}), nor a folder a patient with "
            f"{OF_A_FOLDER}"
        )
    return {file: _named(file, folder) for file in found}


def _named(file: Path, folder: Path) -> tuple[str, PartName]:
    """Return whose a file is by its name, and what it is for."""
    if match := PUBLISHED.fullmatch(file.stem):
        return match[1], "train" if match[2].lower() == "training" else "test"
    if file.name.lower() == OF_A_FOLDER:
        return file.resolve().parent.name, ""
    if split := SPLIT_ALIASES.get(file.stem.lower()):
        return folder.resolve().name, split
    return file.stem, ""


def _read(file: Path, item: str, split: PartName, options: SeriesOptions) -> list[Recording]:
    if file.suffix.lower() == ".xml":
        return [read_xml(file, split, options)]
    if file.suffix.lower() not in SUFFIXES:
        raise UserError(f"{file}: unknown extension {file.suffix!r}: a file of series is one of {', '.join(SUFFIXES)}")
    return read_table(file, item, split, options)


def chosen_items(recordings: list[Recording], options: SeriesOptions) -> tuple[str, ...]:
    """Return the patients that the options name, in the order of the data.

    Raises:
        UserError: one is not in the data; the text lists those that are.
    """
    there = list(dict.fromkeys(one.item for one in recordings))
    if options.patients.strip() == "all":
        return tuple(there)
    named = listed(options.patients)
    for name in named:
        if name not in there:
            raise UserError(
                f"patients={shown(options.patients)}: there is no {name!r}, only {several(there)}; "
                f"{did_you_mean(name, there, 'name some of these, or all')}"
            )
    if not named:
        raise UserError("patients is empty: name some, comma-separated, or all")
    return tuple(item for item in there if item in named)
