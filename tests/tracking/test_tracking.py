"""The tracking store: runs end as they deserve, no page is lost, and errors name the mend, not a password."""

import os
import shlex
import signal
import subprocess
import time

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from sqlalchemy import event
from sqlalchemy.engine import Engine

from kd import tracking
from kd.base.types import Refused, Stopped, UserError


@pytest.fixture(scope="module")
def store(tmp_path_factory, make_store):
    """One store for this file."""
    folder = tmp_path_factory.mktemp("store")
    uri = make_store(folder)
    client = MlflowClient(uri)
    for name in ("kd", "other"):
        client.create_experiment(name, artifact_location=str(folder / "artifacts"))
    return uri


@pytest.fixture(autouse=True)
def client(store, monkeypatch):
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    mlflow.set_tracking_uri(store)
    mlflow.set_experiment("kd")
    yield MlflowClient()
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(None)


def runs_made(client, experiment="kd"):
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return {run.info.run_id: run for run in found}


@pytest.fixture
def adopted(client, monkeypatch):
    """A run as `mlflow run` makes it before it starts the entry point."""
    run = client.create_run(client.get_experiment_by_name("kd").experiment_id)
    client.log_batch(run.info.run_id, params=[Param("seed", "'0'"), Param("dataset", "'a.csv'")])
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    return run.info.run_id


# How runs end


@pytest.mark.parametrize("continues", [False, True])
def test_a_signal_while_a_run_starts_does_not_leave_it_running(client, monkeypatch, continues):
    start = mlflow.start_run

    def interrupted(*args, **words):
        made = start(*args, **words)
        signal.raise_signal(signal.SIGTERM)
        return made

    def stop(*_):
        raise Stopped("SIGTERM came")

    experiment = client.get_experiment_by_name("kd").experiment_id
    former = client.create_run(experiment).info.run_id if continues else ""
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    before = runs_made(client)
    monkeypatch.setattr(mlflow, "start_run", interrupted)
    handler = signal.signal(signal.SIGTERM, stop)
    try:
        with pytest.raises(Stopped), tracking.run("begun", {"kd.stage": "teacher"}, continued=former):
            pytest.fail("it was stopped")
    finally:
        signal.signal(signal.SIGTERM, handler)
    (made,) = [former] if continues else runs_made(client).keys() - before.keys()
    assert client.get_run(made).info.status == "KILLED"
    assert client.get_run(made).data.tags["kd.exit_reason"] == "stopped: SIGTERM came"
    assert mlflow.active_run() is None


def test_a_signal_that_comes_within_the_store_is_no_error_of_it(client):
    run = client.create_run(client.get_experiment_by_name("kd").experiment_id)

    def come(*_):
        raise Stopped("SIGTERM came")

    event.listen(Engine, "before_cursor_execute", come)
    try:
        with pytest.raises(Stopped):
            client.set_tag(run.info.run_id, "kd.format", "onnx")
    finally:
        event.remove(Engine, "before_cursor_execute", come)
    client.set_tag(run.info.run_id, "kd.format", "onnx")
    assert client.get_run(run.info.run_id).data.tags["kd.format"] == "onnx"


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (UserError("alpha=2 is out of range"), "FAILED", "bad input: alpha=2 is out of range"),
        (Refused("accuracy is 0.5"), "FAILED", "refused: accuracy is 0.5"),
        (Stopped("stopped at step 4"), "KILLED", "stopped: stopped at step 4"),
        (KeyboardInterrupt(), "KILLED", "interrupted: KeyboardInterrupt"),
        (SystemExit(1), "FAILED", "SystemExit: 1"),
        (ValueError("first line\nsecond line"), "FAILED", "ValueError: first line"),
        (ValueError(), "FAILED", "ValueError: ValueError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_a_run_that_fails_is_closed_with_its_reason_and_the_error_goes_on(client, error, status, reason):
    with pytest.raises(type(error)) as caught, tracking.run("a run", {"kd.stage": "student"}) as run:
        raise error
    assert caught.value is error
    found = client.get_run(run.run_id)
    assert found.info.status == status
    assert found.info.end_time is not None
    assert found.data.tags["kd.exit_reason"] == reason
    assert found.data.tags.get("kd.resumable") == ("true" if isinstance(error, Stopped) else None)
    assert mlflow.active_run() is None


def test_a_run_that_succeeds_is_finished_and_says_what_code_made_it(client):
    with tracking.run("a run", {"kd.stage": "student"}) as run:
        assert client.get_run(run.run_id).info.status == "RUNNING"
    found = client.get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "a run"
    assert found.data.tags["kd.exit_reason"] == "finished"
    assert found.data.tags["kd.stage"] == "student"
    code = {tag: found.data.tags[tag] for tag in ("kd.git_commit", "kd.git_dirty") if tag in found.data.tags}
    assert code == tracking.code_version()


def test_installed_into_somebodys_checkout_the_commit_of_that_checkout_is_not_taken_for_this_code(
    tmp_path, monkeypatch
):
    (tmp_path / "installed.py").touch()
    monkeypatch.setitem(tracking.code_version.__globals__, "__file__", str(tmp_path / "installed.py"))
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run([*git, *words], check=True)
    assert tracking.code_version() == {}
    for words in (["add", "."], ["commit", "-q", "-m", "ours"]):
        subprocess.run([*git, *words], check=True)
    assert tracking.code_version()["kd.git_dirty"] == "false"


def test_a_child_is_nested_in_its_parent_and_its_failure_closes_both(client):
    with pytest.raises(UserError), tracking.run("parent", {}) as parent, tracking.run("child", {}, parent) as child:
        raise UserError("no")
    for run in (parent, child):
        assert client.get_run(run.run_id).info.status == "FAILED"
    assert client.get_run(child.run_id).data.tags["mlflow.parentRunId"] == parent.run_id


def test_children_of_an_adopted_run_are_runs_of_their_own(client, adopted):
    with tracking.session("") as experiment, tracking.run("parent", {}) as parent:
        assert experiment == "kd"
        assert parent.run_id == adopted
        assert "MLFLOW_RUN_ID" not in os.environ
        with tracking.run("child", {}, parent) as child:
            assert child.run_id != adopted
    assert client.get_run(child.run_id).data.tags["mlflow.parentRunId"] == adopted
    assert client.get_run(adopted).info.status == "FINISHED"


# Runs that mlflow run made


@pytest.mark.parametrize(
    ("error", "status"), [(UserError("no such file"), "FAILED"), (Stopped("stopped"), "KILLED"), (OSError(), "FAILED")]
)
def test_a_failure_before_the_run_starts_still_closes_the_run_that_mlflow_run_made(client, adopted, error, status):
    with pytest.raises(type(error)), tracking.session(""):
        raise error
    found = client.get_run(adopted)
    assert found.info.status == status
    assert found.data.tags["kd.exit_reason"]


def test_a_failure_after_the_adopted_run_finished_leaves_it_finished(client, adopted):
    def stage():
        with tracking.session(""):
            with tracking.run("a run", {}):
                pass
            raise UserError("later")

    with pytest.raises(UserError):
        stage()
    assert client.get_run(adopted).info.status == "FINISHED"


def test_another_experiment_than_the_adopted_runs_is_refused_and_the_run_closed(client, adopted):
    with pytest.raises(UserError, match="--experiment-name other") as caught, tracking.session("other"):
        pass
    assert "'kd'" in str(caught.value)
    assert client.get_run(adopted).info.status == "FAILED"


def test_the_adopted_runs_own_experiment_may_be_named(adopted):
    with tracking.session("kd") as experiment:
        assert experiment == "kd"


def test_parameters_that_mlflow_run_logged_stay_and_the_others_are_added(client, adopted):
    with tracking.session(""), tracking.run("a run", {}) as run:
        run.log_params({"seed": 0, "dataset": "a.csv", "epochs": 3})
        run.log_params({"epochs": 4, "text": "short"})
    assert client.get_run(adopted).data.params == {
        "seed": "'0'",
        "dataset": "'a.csv'",
        "epochs": "3",
        "text": "short",
    }


# Interrupted trainings


def interrupted(status: str) -> str:
    """Return the id of a run that a process left behind: killed (RUNNING), or stopped by SIGTERM (KILLED)."""
    client = MlflowClient()
    run_id = client.create_run(client.get_experiment_by_name("kd").experiment_id).info.run_id
    if status == "KILLED":
        client.set_tag(run_id, "kd.exit_reason", "stopped: stopped at step 4")
        client.set_tag(run_id, "kd.resumable", "true")
        client.set_terminated(run_id, status)
    return run_id


@pytest.mark.parametrize("status", ["RUNNING", "KILLED"])
def test_python_m_writes_on_into_the_interrupted_run(client, status):
    old = interrupted(status)
    with tracking.run("again", {}, continued=old) as run:
        assert run.run_id == old
        assert client.get_run(old).info.status == "RUNNING"
    found = client.get_run(old)
    assert found.info.status == "FINISHED"
    assert "kd.resumed_from" not in found.data.tags
    assert found.data.tags["kd.resumable"] == "false"
    assert found.data.tags["kd.exit_reason"] == "finished"


@pytest.mark.parametrize("status", ["RUNNING", "KILLED"])
def test_under_mlflow_run_a_new_run_names_the_old_one_which_is_closed(client, adopted, status):
    old = interrupted(status)
    with tracking.session(""), tracking.run("again", {}, continued=old) as run:
        assert run.run_id == adopted
    assert client.get_run(adopted).data.tags["kd.resumed_from"] == old
    assert client.get_run(old).info.status == "KILLED"
    assert client.get_run(old).data.tags["kd.exit_reason"].startswith(("killed", "stopped"))


def test_inside_a_parent_a_new_child_names_the_old_one_which_is_closed(client):
    old = interrupted("RUNNING")
    with tracking.run("parent", {}) as parent, tracking.run("again", {}, parent, continued=old) as run:
        pass
    assert run.run_id not in (old, parent.run_id)
    assert client.get_run(run.run_id).data.tags["kd.resumed_from"] == old
    assert client.get_run(old).info.status == "KILLED"


def test_a_finished_run_is_never_turned_into_a_killed_one(client):
    with tracking.run("a run", {}) as run:
        pass
    tracking.abandon(run.run_id)
    assert client.get_run(run.run_id).info.status == "FINISHED"
    tracking.abandon("0" * 32)


# Stores that cannot be used


@pytest.mark.parametrize("adopting", [False, True], ids=["python -m", "mlflow run"])
def test_an_unreachable_server_is_one_line_within_20_s_and_never_shows_the_password(monkeypatch, adopting):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # as every entry point sets it
    mlflow.set_tracking_uri("http://me:sesame@127.0.0.1:9")
    if adopting:
        monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    start = time.perf_counter()
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI") as caught, tracking.session(""):
        pass
    assert time.perf_counter() - start < 20
    assert "127.0.0.1:9" in str(caught.value)
    assert "sesame" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://me:sesame@host:5000", "http://***@host:5000"),
        ("postgresql+psycopg2://me:sesame@host/db", "postgresql+psycopg2://***@host/db"),
        ("http://host:5000", "http://host:5000"),
        ("sqlite:////a/b@c/mlflow.db", "sqlite:////a/b@c/mlflow.db"),
    ],
)
def test_the_shown_tracking_uri_has_no_password(monkeypatch, uri, shown):
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: uri)
    assert tracking.tracking_uri() == shown


def test_a_store_in_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/file/mlflow.db")
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI") as caught, tracking.session(""):
        pass
    assert "\n" not in str(caught.value)


# Reading runs


def finished(client, experiment="other", status="FINISHED", **tags):
    run = client.create_run(client.get_experiment_by_name(experiment).experiment_id, tags=tags)
    client.set_terminated(run.info.run_id, status)
    return run.info.run_id


def test_runs_are_read_over_all_pages_oldest_first_and_only_finished_ones(client, monkeypatch):
    made = [finished(client, **{"kd.page": "yes"}) for _ in range(5)]
    finished(client, status="FAILED", **{"kd.page": "yes"})
    finished(client, **{"kd.page": "no"})
    whole = MlflowClient.search_runs
    pages = []

    def two_a_page(self, experiments, query, view, most, order, page):
        pages.append(page)
        return whole(self, experiments, query, view, 2, order, page)

    monkeypatch.setattr(MlflowClient, "search_runs", two_a_page)
    assert [run.run_id for run in tracking.runs(["other"], "tags.`kd.page` = 'yes'")] == made
    assert len(pages) >= 3


def test_runs_of_several_experiments_come_together_and_each_once(client):
    mine = [finished(client, experiment, **{"kd.both": "yes"}) for experiment in ("other", "kd", "other")]
    query = "tags.`kd.both` = 'yes'"
    assert {run.run_id for run in tracking.runs(["other"], query)} == {mine[0], mine[2]}
    found = [run.run_id for run in tracking.runs(["kd", "other", "kd"], query)]
    assert sorted(found) == sorted(mine)
    starts = [run.started for run in tracking.runs(["kd", "other"], query)]
    assert starts == sorted(starts)
    assert starts[0] > 1e12  # milliseconds


def test_an_experiment_with_a_comma_in_its_name_is_one_experiment(client):
    name = "soft, hard"
    client.create_experiment(name)
    run_id = finished(client, name)
    assert [run.run_id for run in tracking.runs([name])] == [run_id]


def test_an_experiment_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(tracking.Gone, match=r"'nowhere'.*other") as caught:
        tracking.runs(["nowhere"])
    assert "\n" not in str(caught.value)


def test_parameters_are_read_as_they_were_given_without_the_quotes_of_mlflow_run(client):
    run_id = finished(client)
    given = {"dataset": "my reviews.csv", "filter": "tags.a = 'b'", "alpha": "0.5", "none": "", "word": "it's"}
    logged = {name: shlex.quote(value) for name, value in given.items()}  # as mlflow run does
    logged |= {"open": "it's", "inner": "'a' or 'b'", "unset": "None"}
    client.log_batch(run_id, params=[Param(name, value) for name, value in logged.items()])
    del given["none"]
    assert tracking.record(run_id).params == {**given, "open": "it's", "inner": "'a' or 'b'"}


def test_how_often_test_rows_were_scored_counts_every_experiment_and_failed_runs_but_no_trivial_or_deleted_one(
    client, through_a_server
):
    rows = {"kd.test_digest": "rows-7", "kd.test_scored": "true"}
    finished(client, "kd", **rows, **{"kd.role": "student"})
    finished(client, "other", **rows, **{"kd.role": "distilled"})
    finished(client, "other", "FAILED", **rows, **{"kd.role": "teacher"})
    finished(client, "other", **rows, **{"kd.role": "trivial"})
    finished(client, "other", **{"kd.test_digest": "rows-7", "kd.test_scored": "false", "kd.role": "student"})
    finished(client, "other", **{**rows, "kd.test_digest": "rows-8"}, **{"kd.role": "student"})
    client.delete_run(finished(client, "other", **rows, **{"kd.role": "student"}))
    away = client.create_experiment("away")
    finished(client, "away", **rows, **{"kd.role": "student"})
    client.delete_experiment(away)
    assert [tracking.times_scored(digest) for digest in ("rows-7", "rows-9")] == [3, 0]
    through_a_server()
    assert [tracking.times_scored(digest) for digest in ("rows-7", "rows-9")] == [3, 0]


def test_a_curve_is_in_the_order_of_its_steps_and_of_two_points_at_one_step_the_newest_counts(client, through_a_server):
    run_id, other, without = (finished(client) for _ in range(3))
    client.log_metric(other, "val/accuracy", 0.7, step=2)
    points = [(6, 0.6, 100), (2, 0.2, 110), (4, 0.9, 120), (4, 0.4, 130), (2, 0.25, 105)]
    for step, value, moment in points:
        client.log_metric(run_id, "val/accuracy", value, timestamp=moment, step=step)
    expected = {run_id: ((2, 0.2), (4, 0.4), (6, 0.6)), other: ((2, 0.7),), without: ()}
    assert tracking.curves([*expected], "val/accuracy") == expected
    assert tracking.curves([run_id], "val/absent") == {run_id: ()}
    assert tracking.curves([], "val/accuracy") == {}
    through_a_server()
    assert tracking.curves([*expected], "val/accuracy") == expected


def test_a_version_that_no_run_made_has_no_run_to_read_instead_of_a_stack_trace():
    assert tracking.status(None) == ""
    with pytest.raises(tracking.Gone):
        tracking.record(None)


def test_an_unknown_experiment_and_a_filter_that_mlflow_does_not_understand_are_the_users_to_mend():
    with pytest.raises(UserError, match="'nowhere'"):
        tracking.runs(["other", "nowhere"])
    with pytest.raises(UserError, match="filter=") as caught:
        tracking.runs(["other"], "tags.a == = 1")
    assert "\n" not in str(caught.value)


def test_reading_an_experiment_that_does_not_exist_does_not_make_it(client):
    with pytest.raises(UserError, match="'nowhere'"), tracking.reading("nowhere"):
        pass
    assert client.get_experiment_by_name("nowhere") is None


def test_metrics_and_tables_come_back_as_they_were_logged(client):
    frame = pd.DataFrame({"example_id": ["a:0", "a:1"], "loss": [0.1, 0.25]})
    with tracking.run("a run", {}) as run:
        run.log_metrics({"val/accuracy": 0.5}, step=1)
        run.log_metrics({"val/accuracy": 0.75, "val/loss": 0.2}, step=2)
        run.log_table(frame, "predictions_test.parquet")
    record = tracking.record(run.run_id)
    assert record.metrics == {"val/accuracy": 0.75, "val/loss": 0.2}
    assert [(one.step, one.value) for one in client.get_metric_history(run.run_id, "val/accuracy")] == [
        (1, 0.5),
        (2, 0.75),
    ]
    pd.testing.assert_frame_equal(tracking.table(run.run_id, "predictions_test.parquet"), frame)
    with pytest.raises(tracking.Gone, match=r"absent\.parquet"):
        tracking.table(run.run_id, "absent.parquet")


def test_a_run_that_is_gone_is_told_so():
    assert tracking.status("0" * 32) == ""
    with pytest.raises(tracking.Gone, match="0" * 32):
        tracking.record("0" * 32)


def test_data_sets_are_inputs_with_our_digest_over_all_rows(client):
    with tracking.run("a run", {}) as run:
        run.log_dataset("a.csv", "0123456789abcdef" * 2, "training")
        run.log_dataset("a.csv", "fedcba9876543210" * 2, "test")
    inputs = client.get_run(run.run_id).inputs.dataset_inputs
    assert {(one.dataset.name, one.dataset.digest, one.tags[0].value) for one in inputs} == {
        ("a.csv", "0123456789abcdef" * 2, "training"),
        ("a.csv", "fedcba9876543210" * 2, "test"),
    }


# The registry


@pytest.fixture(scope="module")
def registered(store):
    """A registered model with two versions, the second one with an alias."""
    client = MlflowClient(store)
    client.create_registered_model("kd-tiny")
    for _ in range(2):
        client.create_model_version("kd-tiny", source="mlflow-artifacts:/nowhere")
    client.set_registered_model_alias("kd-tiny", "challenger", "2")
    return "kd-tiny"


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("models:/kd-tiny@champion", ["1", "2", "@challenger (version 2)"]),
        ("models:/kd-tiny/9", ["1", "2", "@challenger (version 2)"]),
        ("models:/kd-tiny/latest-and-greatest", ["1", "2", "@challenger"]),
        ("models:/kd-tiny", ["1", "2", "@challenger"]),
        ("models:/kd-tinny/1", ["no registered model 'kd-tinny'", "kd-tiny"]),
        ("models:/kd-tinny@champion", ["no registered model 'kd-tinny'", "kd-tiny"]),
    ],
)
def test_a_model_version_or_alias_that_is_not_there_says_what_there_is(registered, uri, told):
    with pytest.raises(tracking.Gone) as caught:
        tracking.model_version(uri, "teacher")
    text = str(caught.value)
    assert f"teacher={uri!r}" in text
    assert "\n" not in text
    assert all(word in text for word in told)


def test_an_alias_is_resolved_to_its_version(registered):
    assert str(tracking.model_version(f"models:/{registered}@challenger", "model").version) == "2"
    assert str(tracking.model_version(f"models:/{registered}/1", "model").version) == "1"


@pytest.mark.parametrize("uri", ["runs:/" + "0" * 32 + "/model", "models:/m-" + "0" * 32, "runs:/", "models:/"])
def test_a_model_uri_that_leads_nowhere_is_the_users_to_mend(uri):
    with pytest.raises(UserError) as caught:
        tracking.stored_model(uri, "teacher")
    assert uri in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_run_behind_a_model_is_found_also_where_the_model_was_never_registered(client):
    run_id = finished(client)
    model = mlflow.initialize_logged_model(name="model", source_run_id=run_id, experiment_id=None)
    number = tracking.register(model.model_uri, run_id, "kd-maker", {}, ("a model", "a version"))
    for uri in (model.model_uri, f"models:/kd-maker/{number}", f"runs:/{run_id}/model"):
        assert tracking.maker(uri, "teacher") == run_id
    for uri in ("models:/m-" + "0" * 32, "models:/kd-maker/9"):
        with pytest.raises(tracking.Gone, match="teacher="):
            tracking.maker(uri, "teacher")


def test_a_version_is_found_by_its_run_and_a_model_is_registered_once_under_a_name(client):
    run_id = finished(client)
    assert tracking.version_of(run_id, "kd-once") == ""
    model = mlflow.initialize_logged_model(name="model", source_run_id=run_id, experiment_id=None)
    about = ("what the model is", "what the version is")
    first = tracking.register(model.model_uri, run_id, "kd-once", {"kd.role": "student"}, about)
    assert tracking.version_of(run_id, "kd-once") == first
    assert tracking.register(model.model_uri, finished(client), "kd-once", {}, about) != first
    assert client.get_model_version("kd-once", first).tags == {"kd.role": "student"}
    assert client.get_registered_model("kd-once").description == "what the model is"


def made(client, name, count=1):
    """Versions of a registered model, each with a run and a logged model; returns the runs' ids."""
    ids = []
    for _ in range(count):
        run_id = finished(client)
        model = mlflow.initialize_logged_model(name="model", source_run_id=run_id, experiment_id=None)
        tracking.register(model.model_uri, run_id, name, {"kd.role": "student"}, ("a model", "a version"))
        ids.append(run_id)
    return ids


def test_versions_are_read_over_all_pages_in_the_order_of_their_numbers(client, monkeypatch):
    runs = made(client, "kd-pages", 11)  # 10 stands before 2 as text
    whole = MlflowClient.search_model_versions
    pages = []

    def three_a_page(self, *args, **kwargs):
        pages.append(kwargs.get("page_token"))
        return whole(self, *args, **{**kwargs, "max_results": 3})

    monkeypatch.setattr(MlflowClient, "search_model_versions", three_a_page)
    found = tracking.versions("kd-pages")
    assert [int(one.version) for one in found] == list(range(1, 12))
    assert [one.run_id for one in found] == runs
    assert len(pages) >= 4


@pytest.mark.parametrize("name", ["kd-nothing", "no/name"])
def test_of_a_model_that_is_not_there_there_is_nothing_and_no_stack_trace(name):
    assert tracking.versions(name) == []
    assert tracking.aliased(name, "champion") == ""


def test_an_alias_is_set_moved_read_and_taken_away(client):
    made(client, "kd-aliases", 2)
    assert tracking.aliased("kd-aliases", "champion") == ""
    for version in ("1", "2"):
        tracking.set_alias("kd-aliases", "champion", version)
        assert tracking.aliased("kd-aliases", "champion") == version
    assert tracking.aliased("kd-aliases", "previous") == ""
    for _ in range(2):  # what is gone already stays gone
        tracking.set_alias("kd-aliases", "champion", "")
        assert tracking.aliased("kd-aliases", "champion") == ""
    client.set_registered_model_alias("kd-aliases", "champion", "2")
    client.delete_model_version("kd-aliases", "2")  # which drops its alias silently
    assert tracking.aliased("kd-aliases", "champion") == ""


def test_notes_on_a_version_are_added_to_those_it_has_and_an_empty_description_changes_none(client):
    made(client, "kd-notes")
    tracking.annotate("kd-notes", "1", {"kd.decision": "pass", "kd.reason": "x" * 6000})
    found = client.get_model_version("kd-notes", "1")
    assert found.tags == {"kd.role": "student", "kd.decision": "pass", "kd.reason": "x" * 5000}
    assert found.description == "a version"
    tracking.annotate("kd-notes", "1", {"kd.decision": "fail"}, "another")
    found = client.get_model_version("kd-notes", "1")
    assert (found.tags["kd.decision"], found.description) == ("fail", "another")


def test_a_copy_is_a_version_of_the_other_model_with_the_run_and_tags_of_its_source_and_no_alias(client):
    (run_id,) = made(client, "kd-development")
    tracking.set_alias("kd-development", "champion", "1")
    version = tracking.model_version("models:/kd-development@champion", "model")
    uri = f"models:/{version.name}/{version.version}"
    assert [tracking.copy_version(uri, "kd-production") for _ in range(2)] == ["1", "1"]  # the second would be the same
    copy = tracking.model_version("models:/kd-production/1", "model")
    assert copy.run_id == run_id
    assert copy.tags == {"kd.role": "student"}
    assert tracking.aliased("kd-production", "champion") == ""
    assert tracking.aliased("kd-development", "champion") == "1"


def test_a_run_whose_version_was_copied_is_still_the_maker_of_the_first_else_production_is_registered_into(client):
    (run_id,) = made(client, "kd-first")
    tracking.copy_version("models:/kd-first/1", "kd-second")
    tracking.copy_version("models:/kd-first/1", "kd-second")
    assert tracking.version_of(run_id, "kd-first") == "1"
    assert tracking.version_of(run_id, "kd-third") == ""


def test_a_deleted_run_behind_a_version_is_noticed_for_a_copy_too_because_gc_would_break_both(client):
    (run_id,) = made(client, "kd-fragile")
    version = tracking.model_version("models:/kd-fragile/1", "model")
    tracking.copy_version(f"models:/{version.name}/{version.version}", "kd-fragile-copy")
    copy = tracking.model_version("models:/kd-fragile-copy/1", "model")
    assert [tracking.source_deleted(one) for one in (version, copy)] == [False, False]
    client.delete_run(run_id)
    assert [tracking.source_deleted(one) for one in (version, copy)] == [True, True]
    client.restore_run(run_id)
    assert not tracking.source_deleted(version)


def test_a_version_that_no_run_made_has_no_deleted_run(client):
    client.create_registered_model("kd-foreign")
    version = client.create_model_version("kd-foreign", source="mlflow-artifacts:/nowhere")
    assert tracking.source_deleted(version) is False


def test_metrics_logged_twice_at_a_step_after_a_resume_do_not_break_the_run(client):
    with tracking.run("a run", {}) as run:
        for value in (0.5, 0.6):
            run.log_metrics({"train/loss": value}, step=3)
    history: list[Metric] = client.get_metric_history(run.run_id, "train/loss")
    assert {one.step for one in history} == {3}


# Curves


def test_points_of_a_curve_are_sent_together_and_none_is_lost(client, monkeypatch):
    sent, log_batch = [], MlflowClient.log_batch

    def counted(self, run_id, metrics=(), **others):
        sent.extend([len(metrics)] if metrics else [])
        return log_batch(self, run_id, metrics=metrics, **others)

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    with tracking.run("curve", {}) as run:
        points = tracking.Points(run, every_s=3600)
        for step in range(1100):
            points.add({"train/loss": 1 / (step + 1)}, step)
        assert sent == []
        points.send()
        assert sent == [1000, 100]
        points.send()
        tracking.Points(run, every_s=0).add({"train/loss": 0.0}, 1100)
        assert sent == [1000, 100, 1]
        points.add({"train/loss": 0.0}, 1101)
        points.add({"val/accuracy": 0.5}, 1101)
        assert sent == [1000, 100, 1, 2]
    found = tracking.curves([run.run_id], "train/loss")[run.run_id]
    assert found == (*((step, 1 / (step + 1)) for step in range(1100)), (1100, 0.0), (1101, 0.0))


# The UI


def test_the_page_of_an_experiment_is_named_with_the_store_that_has_it(client, store, monkeypatch):
    number = client.get_experiment_by_name("kd").experiment_id
    page = f"#/experiments/{number}/runs?workflowType=machine_learning"
    assert tracking.look("kd") == (
        f"Look at the runs: mlflow ui --backend-store-uri {store}, then open http://localhost:5000/{page}"
    )
    monkeypatch.setattr("kd.tracking.store.tracking_uri", lambda: "https://host:5000")
    assert tracking.look("kd") == f"Look at the runs: https://host:5000/{page}"
