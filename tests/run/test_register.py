"""The alias challenger, which `promote` takes by default, moves to what is better, and never without a word."""

from types import SimpleNamespace

import mlflow
import pytest

from kd.config import MainConfig
from kd.run import register
from kd.run.execute import Outcome

NAME = "kd-tiny"
ROWS = {"kd.validation_digest": "rows"}


@pytest.fixture
def registry(tmp_path, make_store):
    mlflow.set_tracking_uri(make_store(tmp_path))
    mlflow.set_experiment("kd")  # else that of a test before, which this store does not have
    client = mlflow.MlflowClient()
    client.create_registered_model(NAME)
    yield client
    mlflow.set_tracking_uri(None)


@pytest.fixture
def challenge(registry, monkeypatch, capsys):
    """Return a function that registers a model with a figure; returns what has the alias then, and what was said."""

    def challenged(value, tags=ROWS, how="better", metric="val/accuracy", falls=False):
        with mlflow.start_run(tags=tags) as run:
            mlflow.log_metric(metric, value)
        made = registry.create_model_version(NAME, source="nowhere", run_id=run.info.run_id)
        monkeypatch.setattr(register, "register", lambda *_: (NAME, str(made.version)))
        rows = SimpleNamespace(
            task=SimpleNamespace(directions={metric.removeprefix("val/"): not falls}), validation_digest="rows"
        )
        text = register.challenge(Outcome(run.info.run_id, "", reused=False), MainConfig(challenger=how), rows, [])
        said = capsys.readouterr().out
        assert text in said
        return str(registry.get_model_version_by_alias(NAME, "challenger").version), said

    return challenged


def test_a_worse_model_leaves_the_alias_and_the_sentence_has_both_figures_and_the_way_to_move_it(challenge):
    assert challenge(0.525)[0] == "1"
    for value in (0.186, 0.525):
        holder, said = challenge(value)
        assert holder == "1"
        assert "stays at version 1" in said
        assert f"val accuracy 0.525 there, {value} here, which is not better; challenger=replace moves it" in said


def test_a_better_model_takes_the_alias_and_says_from_which_version_and_figure(challenge):
    challenge(0.407)
    holder, said = challenge(0.525)
    assert holder == "2"
    assert "version 2, alias challenger; the alias was at version 1: val accuracy 0.407 there, 0.525 here" in said


def test_of_a_metric_that_falls_the_lower_figure_is_better(challenge):
    challenge(0.5, metric="val/loss", falls=True)
    assert challenge(0.6, metric="val/loss", falls=True)[0] == "1"
    assert challenge(0.4, metric="val/loss", falls=True)[0] == "3"


def test_replace_moves_the_alias_to_a_worse_model_and_says_how_much_worse(challenge):
    challenge(0.525)
    holder, said = challenge(0.186, how="replace")
    assert holder == "2"
    assert "the alias was at version 1: val accuracy 0.525 there, 0.186 here, which is not better" in said


@pytest.mark.parametrize("tags", [{"kd.validation_digest": "others"}, {}])
def test_figures_of_other_or_unknown_rows_do_not_compare_so_the_alias_stays(challenge, tags):
    challenge(0.1, tags)
    holder, said = challenge(0.9)
    assert holder == "1"
    assert "cannot be compared (val accuracy 0.1 there, 0.9 here); challenger=replace" in said
    assert ("other rows" if tags else "rows that its run does not name") in said


def test_a_challenger_whose_run_is_deleted_or_has_no_figure_is_replaced_and_named(challenge, registry):
    challenge(0.9, metric="val/loss")
    holder, said = challenge(0.1)
    assert holder == "2"
    assert "the alias was at version 1, which has no val accuracy" in said
    registry.delete_run(registry.get_model_version(NAME, "2").run_id)
    holder, said = challenge(0.05)
    assert holder == "3"
    assert "the alias was at version 2, whose run is gone" in said


def test_versions_carry_the_digest_of_their_validation_rows():
    assert "kd.validation_digest" in register.LINEAGE
