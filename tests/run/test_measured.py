"""Runs of one architecture share one measurement, of this machine and this code, also when it is renewed."""

import mlflow
import pytest
from mlflow import MlflowClient

from kd import tracking
from kd.base.judge import MEASURED
from kd.run import measured
from kd.serving.profile import machine
from kd.serving.seat import Measured

P50 = "profile/latency_ms_p50"


@pytest.fixture(scope="module")
def store(tmp_path_factory, make_store):
    return make_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(autouse=True)
def client(store, monkeypatch, request):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    mlflow.set_tracking_uri(store)
    experiment = MlflowClient(store).create_experiment(request.node.name)
    mlflow.set_experiment(experiment_id=experiment)
    yield MlflowClient(store)
    mlflow.set_tracking_uri(None)


@pytest.fixture
def sat(monkeypatch):
    """What was measured, by model; each measurement finds one ms more than the one before."""
    found = []

    def in_turn(models):
        for model in models:
            found.append(model)
            figures = {P50: float(len(found)), "profile/latency_ms_p95": 2.0, "model/size_mib": 3.0}
            yield Measured(figures, {**machine(), MEASURED: model, "kd.quiet": "true"}, "")

    monkeypatch.setattr(measured, "in_turn", in_turn)
    monkeypatch.setattr(tracking, "model_of", lambda run_id: f"models:/m-{run_id}")
    return found


def trained(client, architecture="small", validation="rows", metrics=(), **tags):
    """Return the id of a finished training."""
    shape = {"kd.architecture": architecture, "kd.validation_digest": validation, "kd.task": "classification"}
    run = client.create_run(mlflow.tracking.fluent._get_experiment_id(), tags={**shape, **tags})
    for name, value in metrics:
        client.log_metric(run.info.run_id, name, value)
    client.set_terminated(run.info.run_id)
    return run.info.run_id


def p50(run_id):
    return tracking.record(run_id).metrics.get(P50)


def test_runs_of_one_architecture_have_the_figures_of_one_measurement_which_is_named(client, sat):
    first, second, large = trained(client), trained(client), trained(client, "large")
    measured.measure([first, large, second], None)
    assert sat == [f"models:/m-{first}", f"models:/m-{large}"]
    assert [p50(one) for one in (first, second, large)] == [1.0, 1.0, 2.0]
    assert tracking.record(second).tags[MEASURED] == f"models:/m-{first}"


@pytest.mark.parametrize("changed", [{"validation": "others"}, {"architecture": ""}, {"validation": ""}])
def test_runs_that_differ_in_requests_or_say_nothing_of_their_shape_are_measured_by_themselves(client, sat, changed):
    one, other, like_other = trained(client), trained(client, **changed), trained(client, **changed)
    measured.measure([one, other, like_other], None)
    assert p50(one) != p50(other)
    assert (p50(other) == p50(like_other)) == all(changed.values())


def test_a_quiet_measurement_of_this_machine_and_code_is_used_again_by_a_later_command(client, sat, capsys):
    first, later = trained(client), trained(client)
    measured.measure([first], None)
    measured.measure([later], None)
    assert (len(sat), p50(later)) == (1, 1.0)
    taken = (MEASURED, "kd.quiet", measured.MEASURED_BY, *machine())
    before, after = (tracking.record(one).tags for one in (first, later))
    assert {name: after[name] for name in taken} == {name: before[name] for name in taken}
    assert f"measured before, on models:/m-{first}" in capsys.readouterr().out


@pytest.mark.parametrize("tag", ["kd.quiet", measured.MEASURED_BY, "hw.cpu", "hw.threads", "lib.mlflow"])
def test_a_measurement_is_not_used_where_the_machine_was_busy_or_it_is_of_another_machine_or_code(client, sat, tag):
    first, later = trained(client), trained(client)
    measured.measure([first], None)
    client.set_tag(first, tag, "another")
    measured.measure([later], None)
    assert p50(later) == 2.0


def test_figures_that_a_run_has_stay(client, sat):
    known = trained(client, metrics=[(P50, 7.0)])
    measured.measure([known, trained(client)], None)
    assert (len(sat), p50(known)) == (1, 7.0)


def test_measuring_a_model_again_renews_all_figures_that_were_of_its_measurement(client, sat):
    first, second, other = trained(client), trained(client), trained(client, "large")
    measured.measure([first, second, other], None)
    measured.measure_again([second], None)
    assert sat[2:] == [f"models:/m-{second}"]
    assert (p50(first), p50(second), p50(other)) == (3.0, 3.0, 2.0)
    assert tracking.record(first).tags[MEASURED] == f"models:/m-{second}"
