"""The rows behind a finished run, read again, and a registered model scored on them the way it is served."""

import pandas as pd

from kd import tracking
from kd.base.types import RunRecord, UserError
from kd.config import RowOptions, options_from
from kd.run.data import Rows, load_rows, predictions
from kd.tasks import options_of


def rows_behind(record: RunRecord, named: str) -> tuple[RowOptions, Rows]:
    """Read the rows again that a run was trained and scored on, by the options it logged.

    Args:
        record: the run.
        named: the user's option and its value, for errors.

    Raises:
        UserError: the data is not to be had, or is no longer the same.
    """
    try:
        options = options_from(RowOptions, options_of(record.params.get("task", "classification")), record.params)
        rows = load_rows(options, int(record.tags["kd.seed"]))
    except (UserError, KeyError) as error:
        raise UserError(f"{named}: the rows it was scored on cannot be read again: {error}") from error
    found = {"kd.validation_digest": rows.validation_digest, "kd.test_digest": rows.test_digest}
    for tag, digest in found.items():
        if record.tags.get(tag, digest) != digest:
            raise UserError(
                f"{named}: {tag.split('.')[1].split('_')[0]} rows of dataset={options.dataset!r} are not those it was "
                f"scored on (digest {digest[:8]}, then {record.tags[tag][:8]}); put the same data back"
            )
    return options, rows


def score_test(uri: str, config: RowOptions, rows: Rows) -> pd.DataFrame:
    """Return a registered model's predictions on the test rows, in the way it is served."""
    answers = tracking.load_served(uri).predict(rows.task.requests(rows.splits.test))
    return predictions(config, rows.task, rows.splits.test, rows.task.from_served(pd.DataFrame(answers)))
