"""The data of a training: rows read, checked by the task, selected, and identified by their digests."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar

import pandas as pd
from datasets import Dataset

from kd.base.console import hushed, say, say_once, shown
from kd.base.task import Record, Task
from kd.base.types import REST, STANDARD_COLUMNS, SplitName, Splits, UserError
from kd.config import DistillConfig, RowOptions, listed, narrowed
from kd.data.columns import names_of
from kd.data.digests import digest
from kd.data.splits import subset
from kd.data.unlabelled import joined, without_shared
from kd.tasks import options_of, task_named

Kind = TypeVar("Kind", bound=RowOptions)
LONGEST = 60
"""Letters of a data set, or of a part of it, in a registered model's name, of which stores keep 256."""
SHIFTED = 0.05
"""Change of a class's share, 0 to 1, from which a draw of rows is spoken of."""


@dataclass(frozen=True)
class Rows:
    """The data of a training.

    Attributes:
        task: fitted to the data.
        splits: whole splits, as the task's examples.
        train: training examples after selection; all have a target.
        full_digest: of the training examples before selection.
        train_digest: of the training examples after selection; tag `kd.dataset_digest`.
        validation_digest: of what is scored in the validation examples.
        test_digest: of what is scored in the test examples, and of their ids; tables are keyed by it.
        seen: digests of all that models see and are scored on, of validation and test.
        rest: inputs of the training examples whose targets `labelled` leaves out; None where it leaves out none.
        whole: `train` and, behind it, transfer rows: examples without a target, on which a student learns from its
            teacher alone; None where there are none.
        whole_digest: of `whole`.
        transfer_digest: of the transfer rows; empty where there are none.
    """

    task: Task
    splits: Splits
    train: Dataset
    full_digest: str
    train_digest: str
    validation_digest: str
    test_digest: str
    seen: Mapping[str, str]
    rest: Dataset | None = None
    whole: Dataset | None = None
    whole_digest: str = ""
    transfer_digest: str = ""

    def split(self, name: SplitName) -> Dataset:
        """Return the examples of a split; of train those that are trained on, transfer rows last."""
        if name == "train":
            return self.train if self.whole is None else self.whole
        return getattr(self.splits, name)

    def digest(self, name: SplitName) -> str:
        """Return the digest of `split(name)`: of all that models see of it and are scored on."""
        return self.whole_digest or self.train_digest if name == "train" else self.seen[name]


def load_rows(config: RowOptions) -> Rows:
    """Read and check the data; `split_seed` chooses the rows of `max_train` and `labelled`.

    So teacher, control and students of all seeds have the same rows.

    Raises:
        UserError: the data cannot be used; nothing has been trained then.
    """
    parts = _task(config).parts(config)
    if len(parts) > 1:
        raise UserError(
            f"these options ask for {len(parts)} models, of {parts[0].part}, {parts[1].part} and so on, and this makes "
            "one at a time: name one of them, or give options that make one model of all"
        )
    task = _task(replace(config, task_options=parts[0]))
    _require_free(config.slice_columns, task)
    splits = task.read(config)
    task = task.fitted(splits)
    splits = task.examples(splits)
    train, rest = splits.train, None
    if config.labelled:
        train, rest = _with_labels(config, task, splits)
    elif config.max_train:
        train = subset(splits.train, config.max_train, config.split_seed, task.balance)
        try:
            task.fitted(replace(splits, train=train))
        except UserError as error:
            raise UserError(f"max_train={config.max_train} is too few to learn from: {error}") from error
    full_digest = digest(splits.train, task.content)
    seen = {name: digest(getattr(splits, name), task.content) for name in ("validation", "test")}
    alike = tuple(task.scored) == tuple(task.content)
    scored = seen if alike else {name: digest(getattr(splits, name), task.scored) for name in seen}
    return Rows(
        task=task,
        splits=replace(splits, notes=(*splits.notes, *_evened(config, splits.train, train, task.balance))),
        train=train,
        full_digest=full_digest,
        train_digest=full_digest if train is splits.train else digest(train, task.content),
        validation_digest=scored["validation"],
        test_digest=scored["test"],
        seen=seen,
        rest=rest,
    )


def _task(config: RowOptions) -> Task:
    given, kind = config.task_options, options_of(config.task)
    return task_named(config.task).from_options(given if isinstance(given, kind) else kind())


def parts_of(config: Kind) -> list[Kind]:
    """Return options of one model each: the same, or one a patient, say."""
    return [replace(config, task_options=options) for options in _task(config).parts(config)]


def rows_of(config: RowOptions) -> Rows:
    """Return the rows of a training as `load_rows` does; they are read once a process."""
    return _rows(narrowed(RowOptions, config))


_rows = lru_cache(maxsize=8)(load_rows)


def require_data(config: RowOptions) -> None:
    """Read all data of a training, which is kept for it. Raises UserError where some cannot be used."""
    for one in parts_of(config):
        rows = rows_of(one)
        if isinstance(one, DistillConfig):
            with hushed():
                with_transfer(one, rows)


@lru_cache(maxsize=8)
def _inputs_of(task: Task, config: RowOptions) -> Dataset:
    return task.read_inputs(config)


def _evened(config: RowOptions, whole: Dataset, drawn: Dataset, column: str) -> list[str]:
    """Return a note where a draw changes the shares of the values that it draws evenly by more than `SHIFTED`."""
    if not column or len(drawn) == len(whole):
        return []
    before, after = (pd.Series(names_of(rows, column)).value_counts(normalize=True) for rows in (whole, drawn))
    moved = after.reindex(before.index, fill_value=0.0) - before
    value = moved.abs().idxmax()
    if abs(moved[value]) <= SHIFTED:
        return []
    option = "labelled" if config.labelled else "max_train"
    return [
        f"{option}={getattr(config, option)} draws the values of {column!r} evenly: {shown(value)} is "
        f"{before[value]:.0%} of the training rows and {before[value] + moved[value]:.0%} of those drawn, while "
        f"validation and test are as they are; leave {option} out, or give a file of fewer rows, to keep the shares."
    ]


def _with_labels(config: RowOptions, task: Task, splits: Splits) -> tuple[Dataset, Dataset | None]:
    """Return the examples whose labels are used, and the inputs of the others, at most `max_train` in all."""
    named, train = f"labelled={config.labelled}", splits.train
    if not task.target:
        raise UserError(f"{named} means nothing for task={config.task!r}, which has no column of labels: leave it out")
    if config.labelled > len(train):
        raise UserError(f"{named}: there are {len(train)} training rows: give that many at most, or 0 for all")
    if 0 < config.max_train < config.labelled:
        raise UserError(f"{named} is more than max_train={config.max_train}: give that many at most")
    chosen = subset(train, config.labelled, config.split_seed, task.balance)
    try:
        seen = task.fitted(replace(splits, train=chosen))
    except UserError as error:
        raise UserError(f"{named} is too few to learn from: {error}") from error
    if seen.identity() != task.identity():
        raise UserError(f"{named} is too few to learn from: not all that occurs in '{task.target}' is among them")
    having = set(chosen["example_id"][:])
    others = [place for place, name in enumerate(train["example_id"][:]) if name not in having]
    rest = train.select_columns([*task.inputs, "example_id", "group"]).select(others)
    if config.max_train:
        room = config.max_train - len(chosen)
        rest = subset(rest, room, config.split_seed, "") if room else rest.select([])
    return chosen, rest if len(rest) else None


def with_transfer(config: DistillConfig, rows: Rows) -> Rows:
    """Return the data with the rows that `transfer` names added; of these only the inputs are read.

    Raises:
        UserError: they cannot be read, or all of them are in validation or test.
    """
    if not config.transfer:
        return rows
    if not rows.task.target:
        raise UserError(
            f"transfer={config.transfer!r} means nothing for task={config.task!r}, which has no column of labels that "
            "could be left out: leave it out"
        )
    if (config.transfer_confidence or config.transfer_balance) and not hasattr(rows.task, "trusted"):
        option = "transfer_confidence" if config.transfer_confidence else "transfer_balance"
        raise UserError(f"{option} means nothing for task={config.task!r}, which has no classes: leave it out")
    named, inputs = f"transfer={config.transfer!r}", rows.task.inputs
    rest = rows.rest if config.transfer == REST else None
    if config.transfer == REST and rest is None:
        raise UserError(f"{named}: labelled={config.labelled} is all training rows, and leaves none")
    try:
        wanted = RowOptions(dataset=config.transfer, group_column=config.group_column)
        found = _inputs_of(rows.task, wanted) if rest is None else rest  # type: ignore[arg-type]  # a task has a hash
        kept = without_shared(found, (rows.splits.validation, rows.splits.test), inputs)
        whole = joined(rows.train, kept, inputs, rows.task.target)
    except UserError as error:
        text = str(error)
        told = text.replace("--dataset=", "transfer=", 1) if text.startswith("--dataset=") else f"{named}: {text}"
        raise UserError(told) from error
    if not len(kept):
        raise UserError(
            f"{named}: all {len(found)} rows have the text or the group of a validation or test row, so no score would "
            "be honest: give other text"
        )
    if config.group_column and rest is None and found["group"][:] == found["example_id"][:]:
        say(
            f"{named} has no column '{config.group_column}': rows with the text of a validation or test row are left "
            "out, but rows of their groups cannot be recognised"
        )
    dropped = len(found) - len(kept)
    said = f"; {dropped} that are in validation or test were left out" if dropped else ""
    say_once(f"{named}: {len(kept)} rows without labels{said}")
    if not config.epoch_rows:
        say_once(
            f"Its control has {len(rows.train)} rows an epoch, this student {len(whole)}: for equally many steps give "
            "both the same epoch_rows"
        )
    whole_digest = digest(whole, [*inputs, rows.task.target])
    return replace(rows, whole=whole, whole_digest=whole_digest, transfer_digest=digest(kept, inputs))


def _require_free(names: str, task: Task) -> None:
    taken = (*STANDARD_COLUMNS, *task.slices, *task.outcomes)
    for name in listed(names):
        if name in taken or (task.wide and name.startswith(task.wide)):
            raise UserError(
                f"slice_columns={names!r}: predictions have a column {name!r} of their own; "
                "leave it out, or give the column of your data another name"
            )


def predictions(config: RowOptions, task: Task, examples: Dataset, records: Sequence[Sequence[Record]]) -> pd.DataFrame:
    """Return the task's predictions together with the columns of `slice_columns`."""
    kept = {name: examples[name][:] for name in listed(config.slice_columns)}
    texts = {name: [None if value is None else str(value) for value in values] for name, values in kept.items()}
    return task.predictions(examples, records).assign(**texts)


def describe(config: RowOptions, rows: Rows) -> None:
    """Print how many rows there are, of which part, and how the splits were made."""
    for note in rows.splits.notes:
        say(note)
    counts = (len(rows.train), len(rows.splits.validation), len(rows.splits.test))
    labels = f" with the labels of {counts[0]}" if config.labelled else ""
    total = counts[0] + (len(rows.rest) if rows.rest else 0)
    part = f", {config.task_options.part}" if config.task_options.part else ""
    say(f"{config.dataset}{part}: {total} training{labels}, {counts[1]} validation, {counts[2]} test rows")


def model_name(config: RowOptions, test_digest: str) -> str:
    """Return the registered model's name, `kd-<task>-<dataset>`; the digest separates two data sets of one name."""
    part = f"-{short_name(config.task_options.part)}" if config.task_options.part else ""
    return f"kd-{config.task.replace('_', '-')}-{short_name(config.dataset)}{part}-{test_digest[:6]}"


def short_name(dataset: str) -> str:
    """Return a data set's name in [a-z0-9-]: of a path or hub id the start of its last part."""
    last = dataset.removeprefix("builtin:").rstrip("/").rpartition("/")[2].lower()
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\.\w+$", "", last))[:LONGEST].strip("-") or "data"
