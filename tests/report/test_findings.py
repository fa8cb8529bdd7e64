"""The comparison reads what runs left behind: slices, tests, curves of the right rows, or a word on what is missing."""

import json
import os

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient

from kd import tracking
from kd.base.judge import Picture
from kd.base.types import UserError
from kd.commands import compare
from kd.config import CompareConfig
from kd.tasks.classification.task import Classification

ROWS = 80
LABELS = ["good", "bad"] * (ROWS // 2)
REGIONS = ["a, b"] * (ROWS // 2) + ['say "x" | y'] * (ROWS // 2)


@pytest.fixture(scope="module")
def store(tmp_path_factory, make_store):
    """One store for this file."""
    folder = tmp_path_factory.mktemp("store")
    uri = make_store(folder)
    for name in ("kd", "warm"):
        MlflowClient(uri).create_experiment(name, artifact_location=str(folder / "artifacts"))
    return uri, folder


@pytest.fixture
def experiment(store, monkeypatch, request):
    """An experiment of the test's own."""
    uri, folder = store
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    mlflow.set_tracking_uri(uri)
    name = request.node.name
    MlflowClient().create_experiment(name, artifact_location=str(folder / "artifacts"))
    mlflow.set_experiment(name)
    yield name
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(None)


def predictions(right):
    """Predictions of which the first `right` are right."""
    said = [label if place < right else "neither" for place, label in enumerate(LABELS)]
    ids = [f"test:{place}" for place in range(ROWS)]
    return pd.DataFrame(
        {
            "example_id": ids,
            "group": ids,
            "label": LABELS,
            "prediction": said,
            "loss": [0.1] * ROWS,
            "score:good": [0.5] * ROWS,
            "words": [place % 40 for place in range(ROWS)],
            "region": REGIONS,
        }
    )


def finished(arm, seed, table, role="student", control="", digest="rows", stage="student"):
    """A finished run with these predictions on test; returns its id."""
    tags = {
        "kd.stage": stage,
        "kd.role": role,
        "kd.task": "classification",
        "kd.dataset": "d",
        "kd.test_digest": digest,
        "kd.seed": str(seed),
        "kd.arm": arm,
        "kd.test_scored": "true",
        **({"kd.control_arm": control} if control else {}),
    }
    with tracking.run(f"{arm} · seed {seed}", tags) as run:
        right = 40 if table is None else int((table["label"] == table["prediction"]).sum())
        run.log_metrics({"test/accuracy": right / ROWS})
        for step in (1, 2):
            run.log_metrics({"val/accuracy": step / 10 + seed / 100}, step=step)
        if table is not None:
            run.log_table(table, "predictions_test.parquet")
    return run.run_id


def trained(seeds=(0, 1, 2)):
    """A control that is right on the first 40 rows, and a distilled arm on a few more."""
    ids = {}
    for seed in seeds:
        ids["control", seed] = finished("c" * 8, seed, predictions(40))
        ids["arm", seed] = finished("d" * 8, seed, predictions(50 + seed), "distilled", "c" * 8)
    return ids


def found(experiment, **asked):
    config = CompareConfig(experiments=experiment, **asked)
    return compare.find(tracking.runs([experiment], asked.get("filter", "")), config)


def only(experiment, **asked):
    ((table, details),), notes = found(experiment, **asked)
    return table, details, notes


def test_slices_are_of_the_rows_they_name_in_the_columns_of_the_task_and_those_kept(experiment):
    trained()
    _, details, notes = only(experiment)
    slices = {(one.column, one.value): one for one in details.slices["d" * 8]}
    assert {column for column, _ in slices} == {"label", "region"}  # a quartile of the words has under 30 rows
    assert slices["region", "a, b"].arm == slices["region", "a, b"].against == 1.0
    second = slices["region", 'say "x" | y']
    assert (second.examples, second.against, second.difference.n) == (40, 0.0, 3)
    assert second.arm == pytest.approx((10 + 11 + 12) / 3 / 40)
    assert notes == []
    assert "c" * 8 not in details.slices  # it is held against nothing


def test_slice_by_takes_the_columns_named_and_no_others(experiment):
    trained()
    _, details, _ = only(experiment, slice_by="region")
    assert {one.column for one in details.slices["d" * 8]} == {"region"}


@pytest.mark.parametrize("name", ["regoin", "prediction", "loss", "example_id"])
def test_a_column_that_cannot_be_sliced_by_is_refused_with_those_that_can(experiment, name):
    trained([0])
    with pytest.raises(UserError, match=f"^slice_by='{name}'") as caught:
        found(experiment, slice_by=name)
    assert "group, label, words, region" in str(caught.value)


def test_an_arm_whose_predictions_lack_a_column_does_not_stop_the_others(experiment):
    trained()
    bare = predictions(30).drop(columns=["words", "region"])
    finished("majority", 0, bare, "trivial")
    table, details, _ = only(experiment, baseline="c" * 8, slice_by="region")
    assert details.slices["majority"] == ()
    assert {one.column for one in details.slices["d" * 8]} == {"region"}
    assert table.against == "c" * 8


def test_the_groups_of_every_arm_are_compared_also_of_one_without_a_control(experiment):
    trained([0])
    _, details, _ = only(experiment)
    assert set(details.fairness) == {"c" * 8, "d" * 8}
    first, second = details.fairness["d" * 8]
    assert (first.column, first.worst, first.best) == ("region", 'say "x" | y', "a, b")
    assert first.ratio == pytest.approx(40 / 10)
    assert (second.column, second.worst) == ("label", "bad")
    control = details.fairness["c" * 8][0]
    assert (control.worst_value, control.best_value, control.ratio) == (0.0, 1.0, None)
    _, details, _ = only(experiment, slice_by="label")
    assert [one.column for one in details.fairness["d" * 8]] == ["label"]


def test_whole_predictions_of_the_first_run_of_an_arm_are_there_for_a_task_that_draws_them(experiment, monkeypatch):
    trained([0])
    finished("majority", 0, predictions(30), "trivial")
    _, details, _ = only(experiment)
    assert details.predictions == {}
    monkeypatch.setattr(Classification, "pictures", (Picture("one", "One", lambda *_: True),))
    table, details, _ = only(experiment)
    assert table.pictures == Classification.pictures
    assert set(details.predictions) == {"c" * 8, "d" * 8, "majority"}
    first = details.predictions["d" * 8]
    assert "score:good" in first
    assert (first["label"] == first["prediction"]).sum() == 50


def test_churn_is_from_the_control_of_the_seed_to_the_arm(experiment):
    trained()
    _, details, _ = only(experiment)
    shares = details.churn["d" * 8]
    assert shares == pytest.approx({"changed": 11 / ROWS, "to right": 11 / ROWS, "to wrong": 0.0})
    assert "c" * 8 not in details.churn


def test_each_seed_has_its_paired_test_and_each_run_its_curve(experiment):
    ids = trained()
    table, details, _ = only(experiment)
    assert [(one.seed, one.test) for one in details.tests["d" * 8]] == [(seed, "McNemar") for seed in range(3)]
    assert [one.p for one in details.tests["d" * 8]] == pytest.approx([2 / 2 ** (10 + seed) for seed in range(3)])
    arm = next(arm for arm in table.arms if arm.key == "d" * 8)
    assert arm.run_ids == tuple(ids["arm", seed] for seed in range(3))
    assert details.curves["d" * 8] == tuple(((1, 0.1 + seed / 100), (2, 0.2 + seed / 100)) for seed in range(3))


def test_predictions_that_are_missing_are_said_and_leave_out_their_seed_alone(experiment, capsys):
    trained([0, 1])
    finished("c" * 8, 2, predictions(40))
    lost = finished("d" * 8, 2, None, "distilled", "c" * 8)
    table, details, notes = only(experiment)
    assert {one.difference.n for one in details.slices["d" * 8]} == {2}
    assert next(arm for arm in table.arms if arm.key == "d" * 8).difference.n == 3
    first, second = notes
    assert lost in first
    assert "for this test set alone" in second
    assert next(arm for arm in table.arms if arm.key == "d" * 8).difference.examples == 0
    compared(capsys, experiments=experiment)
    assert all(f"Note: {note}" in artifacts(experiment)["comparison.md"] for note in notes)


def test_a_metric_that_is_no_mean_is_judged_over_examples_too_and_no_note_says_otherwise(experiment):
    ids = trained()
    for (arm, seed), run_id in ids.items():
        table = predictions(40 if arm == "control" else 50 + seed)
        tracking.Run(run_id).log_metrics({"test/macro_f1": Classification.quality(table)["macro_f1"]})
    table, _, notes = only(experiment, metric="macro_f1")
    arm = next(arm for arm in table.arms if arm.key == "d" * 8)
    assert (arm.difference.examples, arm.difference.groups, arm.difference.n) == (ROWS, ROWS, 3)
    assert arm.difference.mean == pytest.approx(arm.quality.mean - next(iter(table.arms)).quality.mean)
    assert notes == []


@pytest.mark.parametrize("change", [lambda rows: rows.iloc[::-1], lambda rows: rows.iloc[:-1]])
def test_predictions_of_other_examples_or_in_another_order_are_never_laid_side_by_side(experiment, change):
    finished("c" * 8, 0, predictions(40))
    finished("d" * 8, 0, change(predictions(50)), "distilled", "c" * 8)
    with pytest.raises(UserError, match="other examples"):
        found(experiment)


def test_nothing_to_compare_is_said_with_what_was_left_out(experiment):
    finished("c" * 8, 0, predictions(40), digest="")
    with pytest.raises(
        UserError, match=r"no finished run .*; runs left out because they have no tag kd\.test_digest: 1"
    ):
        found(experiment)


def test_how_often_the_rows_were_scored_is_counted_over_the_whole_store(experiment):
    for seed, digest in enumerate((experiment, experiment, "elsewhere")):
        finished("c" * 8, seed, predictions(40), digest=digest)
    mlflow.set_experiment("warm")
    finished("c" * 8, 9, predictions(40), digest=experiment)
    counted = {table.digest: table.times_scored for table, _ in found(experiment)[0]}
    assert counted[experiment] == 3


def compared(capsys, **asked):
    compare.run(CompareConfig(**asked))
    return capsys.readouterr().out


def artifacts(experiment):
    """Text of the artifacts of the newest comparison, by name."""
    client = MlflowClient()
    (run,) = client.search_runs(
        [client.get_experiment_by_name(experiment).experiment_id], "tags.`kd.stage` = 'compare'", max_results=1
    )
    names = [one.path for one in client.list_artifacts(run.info.run_id)]
    return {name: mlflow.artifacts.load_text(f"{run.info.artifact_uri}/{name}") for name in names if "." in name}


def test_what_scripts_read_is_all_that_is_printed_the_same_each_time_and_kept_with_the_run(experiment, capsys):
    trained()
    first = compared(capsys, experiments=experiment, output="json")
    again = compared(capsys, experiments=experiment, output="json")
    assert first == again  # the comparison's own run is not among the runs compared
    whole = json.loads(first)
    assert whole["inputs"]["experiments"] == experiment
    assert [arm["role"] for arm in whole["tables"][0]["arms"]] == ["student", "distilled"]
    kept = artifacts(experiment)
    assert kept["comparison.json"] == first
    assert kept["comparison.csv"] == compared(capsys, experiments=experiment, output="csv")
    assert "### classification on d" in kept["comparison.md"]


def test_named_runs_are_compared_alone_whatever_the_order_of_their_names(experiment, capsys):
    ids = trained()
    newer = finished("d" * 8, 1, predictions(70), "distilled", "c" * 8)
    finished("e" * 8, 1, predictions(70), "distilled", "c" * 8)
    names = [newer, *ids.values()]
    for order in (names, names[::-1]):
        whole = json.loads(compared(capsys, runs=", ".join(order), output="json"))
        arms = {arm["key"]: arm["run_ids"] for arm in whole["tables"][0]["arms"]}
        assert arms == {
            "c" * 8: [ids["control", seed] for seed in range(3)],
            "d" * 8: [ids["arm", 0], newer, ids["arm", 2]],
        }
        assert whole["notes"] == ["runs left out because there are newer ones of the same arm and seed: 1"]


def test_trials_of_a_search_are_shown_only_where_they_are_asked_for(experiment, capsys):
    ids = trained([0])
    trial = finished("e" * 8, 0, predictions(70), "distilled", "c" * 8, stage="trial")

    def arms(**asked):
        return {arm["key"][0] for arm in json.loads(compared(capsys, output="json", **asked))["tables"][0]["arms"]}

    assert arms(experiments=experiment) == {"c", "d"}
    assert arms(experiments=experiment, filter="tags.`kd.stage` != 'compare'") == {"c", "d", "e"}
    assert arms(runs=f"{trial},{ids['control', 0]}") == {"c", "e"}


def test_a_run_or_version_that_is_not_there_is_one_line(experiment):
    with pytest.raises(UserError, match="0" * 32):
        compare.run(CompareConfig(runs="0" * 32))
    with pytest.raises(UserError, match="models='models:/nothing/1'"):
        compare.run(CompareConfig(models="models:/nothing/1"))


@pytest.mark.parametrize(("tagged", "noted"), [((), False), ((0, 1, 2), False), ((1,), True)])
def test_model_ram_that_was_measured_in_two_ways_is_noted(experiment, tagged, noted):
    for seed in range(3):
        run = tracking.Run(finished("c" * 8, seed, None))
        run.log_metrics({"profile/ram_model_mib": 80.0})
        run.set_tags({"kd.ram_means": "without library code"} if seed in tagged else {})
    _, notes = found(experiment)
    assert any("model RAM of 2 of 3 runs" in note for note in notes) == noted
