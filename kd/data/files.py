"""Which local file is which split."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from datasets import Dataset, DatasetDict, load_from_disk

from kd.base.console import one_line, several
from kd.base.types import SplitName, UserError
from kd.data.formats import READERS, read_file
from kd.data.splits import SPLIT_ALIASES, Source


def read(path: Path, named: dict[SplitName, str], columns: Collection[str]) -> dict[SplitName, Source]:
    """Read a file (all train) or a folder of files; `named` are absolute, or relative to the folder (of the file).

    Raises:
        UserError: No train file, two files for one split, or a file that cannot be read.
    """
    folder = path if path.is_dir() else path.parent
    chosen: dict[SplitName, Path] = _files_by_name(path) if path.is_dir() else {"train": path}
    if path.is_file() and "train" in named:
        raise UserError(
            f"--train_file={named['train']}: --dataset={path} is a file already: give its folder as --dataset"
        )
    by_user: dict[SplitName, Path] = {split: folder / Path(name).expanduser() for split, name in named.items()}
    taken = {file.resolve() for file in by_user.values()}  # `--test_file dev.tsv` makes dev the test, and it alone
    chosen = {split: file for split, file in chosen.items() if file.resolve() not in taken} | by_user
    if "train" not in chosen:
        raise _no_train(path, by_user)
    names: dict[str, SplitName] = {}
    for split, file in chosen.items():
        if split in named and not file.is_file():
            raise UserError(
                f"--{split}_file={named[split]}: no file {file.absolute()}: give a path that is absolute or within the "
                "folder"
            )
        name = _source_name(file, folder)
        if name in names:  # ids would not be unique; the same file twice would be scored on what it was trained on
            raise UserError(
                f"--{split}_file={file}: {names[name]} is a file '{name}' too: give another file or rename it"
            )
        names[name] = split
    return {split: replace(read_file(chosen[split], columns), name=name) for name, split in names.items()}


def _no_train(path: Path, by_user: dict[SplitName, Path]) -> UserError:
    """Say why no file is that of the training rows."""
    own = path if path.is_file() else _files_by_name(path).get("train")
    for split, file in by_user.items():
        if own and file.resolve() == own.resolve():
            return UserError(
                f"--{split}_file={file}: these are the training rows (--dataset={path}): give other rows, or leave it "
                "out, and rows are cut from train"
            )
    there = several(sorted(file.name for file in path.iterdir()), 10)
    return UserError(
        f"--dataset={path}: has no train file ({', '.join('train' + suffix for suffix in READERS)}); there: "
        f"{there or 'nothing'}: name the file with --train_file"
    )


def is_saved(path: Path) -> bool:
    """Whether this is a folder that `datasets.save_to_disk` made."""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def read_saved(path: Path) -> DatasetDict:
    """Read such a folder; one without splits is all train. Raises UserError where it is damaged."""
    try:
        data = load_from_disk(str(path))
        for rows in data.values() if isinstance(data, DatasetDict) else [data]:
            rows.data.table.validate(full=True)  # Arrow reads torn offsets as addresses
    except Exception as error:  # `datasets` trusts what it wrote: a torn file may raise anything
        raise UserError(
            f"--dataset={path}: not readable as saved by save_to_disk ({one_line(error)}): save it again"
        ) from error
    return DatasetDict(train=data) if isinstance(data, Dataset) else data


def _files_by_name(folder: Path) -> dict[SplitName, Path]:
    found: dict[SplitName, Path] = {}
    for file in sorted(folder.iterdir()):
        split = SPLIT_ALIASES.get(file.stem.lower())
        if split is None or file.suffix.lower() not in READERS or not file.is_file():
            continue
        if split in found:
            raise UserError(
                f"--dataset={folder}: {found[split].name} and {file.name} both mean {split}: keep one of them there"
            )
        found[split] = file
    return found


def _source_name(file: Path, folder: Path) -> str:
    """Name a file within the folder by its path there, so that ids do not depend on where the folder lies."""
    file, folder = file.resolve(), folder.resolve()
    return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else file.name
