"""A sitting that is killed is resumed by the same command, which trains nothing again and measures what is missing."""

from dataclasses import replace

import pytest
from mlflow import MlflowClient

from kd.base.judge import MEASURED
from tests.integration.conftest import Project, main_words

pytestmark = pytest.mark.integration

TIMED = "profile/latency_ms_p50"


@pytest.fixture(scope="module")
def own(project) -> Project:
    """The same weights and data, and an empty store, for other tests count the runs of theirs."""
    folder = project.folder / "sitting"
    folder.mkdir()
    store = f"sqlite:///{folder}/mlflow.db"
    MlflowClient(store).create_experiment("kd", artifact_location=str(folder / "artifacts"))
    return replace(project, env=project.env | {"MLFLOW_TRACKING_URI": store, "KD_HOME": str(folder / "home")})


@pytest.fixture(scope="module")
def resumed(own):
    """What there was when `main` was killed after two of three models were measured; then `main` ran to its end."""
    killed = own.run("main", *main_words(own), KD_KILL="before kd.serving.sitting:log 3")
    assert killed.code == -9, killed.err[-3000:]
    before = trained(own)
    done = own.run("main", *main_words(own))
    assert done.code == 0, done.err[-3000:]
    return before, done.out


def trained(own):
    return {run.info.run_id: run for role in ("teacher", "student", "distilled") for run in own.runs(role=role)}


def test_nothing_is_trained_again_and_only_what_is_missing_is_measured(own, resumed):
    before, out = resumed
    assert [run.info.status for run in before.values()] == ["FINISHED"] * 3
    assert sum(TIMED in run.data.metrics for run in before.values()) == 2
    assert ("Measuring 1 model in turn" in out) != ("measured before" in out)  # again only what a busy machine spoilt
    after = trained(own)
    assert after.keys() == before.keys()
    for run_id, run in after.items():
        assert run.data.metrics.keys() >= {TIMED, "model/gflops"}
        assert run.data.tags["kd.quiet"] in ("true", "false")
        if TIMED in before[run_id].data.metrics:
            assert run.data.metrics == before[run_id].data.metrics


def test_versions_registered_before_they_were_measured_are_described_with_their_figures(own, resumed):
    described = [own.client.get_model_version(*one).description for one in own.versions()]
    assert len(described) == 2
    assert all(TIMED in text and "an unnamed processor" not in text for text in described)


def test_measure_puts_newer_figures_into_the_runs_that_made_the_models(own, resumed):
    before = trained(own)
    ids = list(before)[:2]
    models = {before[run_id].data.tags[MEASURED] for run_id in ids}
    renewed = {run_id for run_id, run in before.items() if run.data.tags[MEASURED] in models}
    done = own.run("measure", "--model", ",".join(f"runs:/{run_id}/model" for run_id in ids), "--in_place", "true")
    assert done.code == 0, done.err[-3000:]
    after = trained(own)
    assert after.keys() == before.keys()
    for run_id, run in before.items():
        assert after[run_id].data.metrics["model/size_mib"] == run.data.metrics["model/size_mib"]
        assert (after[run_id].data.metrics[TIMED] != run.data.metrics[TIMED]) == (run_id in renewed)
        assert len(own.client.get_metric_history(run_id, TIMED)) == 1 + (run_id in renewed)
    assert done.out.count("p95") == 2
