"""Transfer rows: rows without labels, on which a student learns from its teacher alone."""

from dataclasses import replace
from typing import cast

import numpy as np
from datasets import Dataset

from kd.base.console import say
from kd.base.task import Filters
from kd.base.types import REST, UserError
from kd.config import DistillConfig
from kd.data.digests import digest
from kd.data.sources import DataRequest, load_inputs
from kd.data.unlabelled import joined, without_shared
from kd.run.data import Rows, Transfer
from kd.run.plan import Plan


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
    named = f"transfer={config.transfer!r}"
    if config.transfer == REST and rows.rest is None:
        raise UserError(f"{named}: labelled={config.labelled} is all training rows, and leaves none")
    found = rows.rest if rows.rest is not None and config.transfer == REST else _read(config, rows, named)
    kept = without_shared(found, (rows.splits.validation, rows.splits.test), rows.task.inputs)
    if not len(kept):
        raise UserError(
            f"{named}: all {len(found)} rows have the text or the group of a validation or test row, so no score would "
            "be honest: give other text"
        )
    if config.group_column and config.transfer != REST and found["group"][:] == found["example_id"][:]:
        say(
            f"{named} has no column '{config.group_column}': rows with the text of a validation or test row are left "
            "out, but rows of their groups cannot be recognised"
        )
    dropped = len(found) - len(kept)
    said = f"; {dropped} that are in validation or test were left out" if dropped else ""
    say(f"{named}: {len(kept)} rows without labels{said}")
    if not config.epoch_rows:
        say(
            f"Its control has {len(rows.train)} rows an epoch, this student {len(rows.train) + len(kept)}: for equally "
            "many steps give both the same epoch_rows"
        )
    try:
        whole = joined(rows.train, kept, rows.task.inputs, rows.task.target)
    except UserError as error:
        raise UserError(f"{named}: {error}") from error
    own = digest(kept, rows.task.inputs)
    return replace(rows, transfer=Transfer(whole, digest(whole, [*rows.task.inputs, rows.task.target]), own))


def _read(config: DistillConfig, rows: Rows, named: str) -> Dataset:
    try:
        return load_inputs(DataRequest(config.transfer, rows.task.inputs, "", group=config.group_column))
    except UserError as error:
        message = str(error)
        if message.startswith("--dataset="):
            raise UserError(message.replace("--dataset=", "transfer=", 1)) from error
        raise UserError(f"{named}: {message}") from error


def trusted_features(plan: Plan, config: DistillConfig) -> np.ndarray:
    """Return the positions of the features to train on: all with labels, and the others that the filters keep.

    The teacher runs over all of them once, so that other thresholds reuse its outputs.

    Raises:
        UserError: the filters leave no transfer row.
    """
    assert plan.signals is not None
    least, balanced = config.transfer_confidence, config.transfer_balance
    of_example, labelled = plan.features("train")["example"], len(plan.rows.train)
    if not (least or balanced):
        return np.arange(len(of_example))
    first = int(np.count_nonzero(of_example < labelled))
    outputs = {name: values[first:] for name, values in plan.signals.train().all_outputs().items()}
    kept = first + np.flatnonzero(cast(Filters, plan.rows.task).trusted(outputs, least, balanced, config.seed))
    count, rows = len(plan.rows.split("train")) - labelled, len(np.unique(of_example[kept]))
    if not rows:
        raise UserError(
            f"transfer_confidence={least}: the teacher is that sure of none of the {count} transfer rows: lower it"
        )
    say(f"{rows} of {count} transfer rows are kept by the teacher's answers")
    return np.concatenate([np.arange(first), kept])
