"""The rows of a stage: read, checked by the task, selected, and named by their digests."""

import re
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from datasets import Dataset

from kd.config import RowOptions, listed
from kd.data.digests import digest
from kd.data.sources import DataRequest, load
from kd.data.splits import Splits, subset
from kd.stages.console import say
from kd.tasks import TASKS
from kd.tasks.base import Task
from kd.types import STANDARD_COLUMNS, SplitName, UserError


@dataclass(frozen=True)
class Rows:
    """What a training stage works on.

    Attributes:
        task: knows the data's outcomes.
        splits: whole splits.
        train: training rows after selection.
        full_digest: of the training rows before selection.
        train_digest: of the training rows after selection; tag `kd.dataset_digest`.
        validation_digest: of the validation rows.
        test_digest: of the test rows and ids; tables are keyed by it.
    """

    task: Task
    splits: Splits
    train: Dataset
    full_digest: str
    train_digest: str
    validation_digest: str
    test_digest: str

    def split(self, name: SplitName) -> Dataset:
        """Return the rows of a split, of train those selected."""
        return self.train if name == "train" else getattr(self.splits, name)


def load_rows(config: RowOptions, seed: int) -> Rows:
    """Read and check the rows; `seed` chooses the subset where `max_train` asks for one.

    Raises:
        UserError: whatever is wrong with the data, before anything is trained.
    """
    columns = {
        "text_column": config.text_column,
        "text_pair_column": config.text_pair_column,
        "label_column": config.label_column,
    }
    task = TASKS[config.task].from_columns(columns)
    splits = load(
        DataRequest(
            dataset=config.dataset,
            inputs=task.inputs,
            target=task.target,
            group=config.group_column,
            train_file=config.train_file,
            validation_file=config.validation_file,
            test_file=config.test_file,
            split_seed=config.split_seed,
        )
    )
    task = task.fitted(splits)
    _require_columns(config.slice_columns, splits, task.slices)
    train = splits.train
    if config.max_train:
        train = subset(splits.train, config.max_train, seed, task.target)
        task.fitted(replace(splits, train=train))  # a subset too small to learn from is refused here
    used = [*task.inputs, task.target] if task.target else list(task.inputs)
    full_digest = digest(splits.train, used)
    return Rows(
        task=task,
        splits=splits,
        train=train,
        full_digest=full_digest,
        train_digest=full_digest if train is splits.train else digest(train, used),
        validation_digest=digest(splits.validation, used),
        test_digest=digest(splits.test, used),
    )


def _require_columns(names: str, splits: Splits, own: tuple[str, ...]) -> None:
    for name in listed(names):
        if name in (*STANDARD_COLUMNS, *own) or name.startswith("score:"):
            raise UserError(
                f"slice_columns={names!r}: predictions have a column {name!r} of their own; "
                "leave it out, or give the column of your data another name"
            )
        for split in (splits.validation, splits.test):
            if name not in split.column_names:
                known = ", ".join(column for column in split.column_names if column not in ("example_id", "group"))
                raise UserError(f"slice_columns={names!r}: there is no column {name!r}; give some of {known}")


def predictions(config: RowOptions, task: Task, rows: Dataset, logits: np.ndarray) -> pd.DataFrame:
    """Return the task's predictions with the columns of `slice_columns` beside them."""
    table = task.predictions(rows, logits)
    return table.assign(**{name: list(map(str, rows[name])) for name in listed(config.slice_columns)})


def describe(config: RowOptions, rows: Rows) -> None:
    """Tell the user how many rows there are, and what was done to get them."""
    for note in rows.splits.notes:
        say(note)
    counts = (len(rows.train), len(rows.splits.validation), len(rows.splits.test))
    say(f"{config.dataset}: {counts[0]} training, {counts[1]} validation, {counts[2]} test rows")


def model_name(config: RowOptions, test_digest: str) -> str:
    """Return the registered model's name, `kd-<task>-<dataset>`; the digest keeps two data sets of one name apart."""
    return f"kd-{config.task.replace('_', '-')}-{short_name(config.dataset)}-{test_digest[:6]}"


def short_name(dataset: str) -> str:
    """Return a data set's name in [a-z0-9-]: of a path or hub id its last part, without an extension."""
    last = dataset.removeprefix("builtin:").rstrip("/").rpartition("/")[2].lower()
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\.\w+$", "", last)).strip("-") or "data"
