"""The very rows are read again that a run was scored on, or it is said why they cannot."""

import pytest

from kd.base.types import RunRecord, UserError
from kd.config import RowOptions, options_from
from kd.registry.rescore import rows_behind
from kd.run.data import load_rows
from kd.tasks.classification.options import ClassificationOptions


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "rows.csv"
    lines = [f"text number {row},{'good' if row % 2 else 'bad'}" for row in range(60)]
    path.write_text("\n".join(["review,stars", *lines]) + "\n")
    return path


def scored(path):
    """A run as it is tracked, and the rows it had."""
    options = {"dataset": str(path), "text_column": "review", "label_column": "stars", "split_seed": 3, "max_train": 20}
    params = {name: str(value) for name, value in options.items()}
    rows = load_rows(options_from(RowOptions, ClassificationOptions, params), 5)
    params |= {"epochs": "2", "teacher": "models:/t/1"}
    tags = {"kd.seed": "5", "kd.validation_digest": rows.validation_digest, "kd.test_digest": rows.test_digest}
    return RunRecord("run", "name", params, {}, tags), rows


def test_the_options_of_the_run_give_the_same_rows(data):
    record, before = scored(data)
    options, rows = rows_behind(record, "model='m'")
    assert (options.dataset, options.split_seed) == (str(data), 3)
    assert (rows.test_digest, rows.validation_digest) == (before.test_digest, before.validation_digest)
    assert rows.train_digest == before.train_digest


def test_a_run_that_tells_no_validation_digest_is_still_read_again(data):
    record, before = scored(data)
    del record.tags["kd.validation_digest"]
    assert rows_behind(record, "model='m'")[1].validation_digest == before.validation_digest


def test_other_rows_are_refused_because_their_scores_would_not_compare(data):
    record, _ = scored(data)
    data.write_text(data.read_text().replace("text number", "text numbered"))
    with pytest.raises(UserError, match=r"^model='m': (test|validation) rows of dataset=.* put the same data back"):
        rows_behind(record, "model='m'")


def test_rows_that_are_gone_are_named_with_what_needs_them(data):
    record, _ = scored(data)
    data.unlink()
    with pytest.raises(UserError, match=r"^model='m': the rows .* cannot be read again: .*rows.csv: not found"):
        rows_behind(record, "model='m'")
