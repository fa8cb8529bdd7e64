"""Promotion moves the alias or refuses; measuring a registered model fills a run of its own."""

import pytest

pytestmark = pytest.mark.integration


@pytest.fixture
def aliases(project, compared):
    def read():
        found = project.client.get_registered_model(compared.student_name).aliases
        return {alias: str(version) for alias, version in found.items()}

    yield read
    if "champion" in read():
        project.client.delete_registered_model_alias(compared.student_name, "champion")


def test_promotion_moves_the_alias_and_logs_why(project, compared, aliases):
    done = project.run("promote", "--model", compared.student_name, "--min_metric", "0.0")
    assert (done.code, done.err) == (0, "")
    assert aliases() == {"challenger": "1", "champion": "1"}
    assert "models serve" in done.out
    run = project.runs(stage="promote")[-1]
    assert run.info.status == "FINISHED"
    assert run.data.tags["kd.decision"] == "pass"


def test_a_gate_above_the_figure_refuses_with_code_3_and_leaves_the_alias(project, compared, aliases):
    before = aliases()
    done = project.run("promote", "--model", compared.student_name, "--min_metric", "1.01")
    assert done.code == 3
    assert len(done.lines) == 1
    assert done.lines[0].startswith("refused: ")
    assert "1.01" in done.err
    assert aliases() == before
    run = project.runs(stage="promote")[-1]
    assert run.info.status == "FAILED"
    assert run.data.tags["kd.exit_reason"].startswith("refused")
    assert run.data.tags["kd.decision"] == "fail"


def test_a_falling_metric_is_gated_from_above(project, compared, aliases):
    words = ("--model", compared.student_name, "--metric", "loss")
    assert project.run("promote", *words, "--min_metric", "0.0001").code == 3
    assert project.run("promote", *words, "--min_metric", "1000").code == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--candidate", "99"), ["candidate=", "versions 1"]),
        (("--candidate", "@nobody"), ["candidate=", "@challenger (version 1)"]),
        (("--metric", "bleu"), ["metric='bleu'", "accuracy"]),
    ],
)
def test_what_is_not_there_is_the_users_to_mend(project, compared, aliases, words, told):
    done = project.run("promote", "--model", compared.student_name, *words)
    assert done.code == 2
    assert len(done.lines) == 1
    assert done.err.startswith("error: ")
    assert all(word in done.err for word in told)
    assert "champion" not in aliases()
    assert project.running() == []


def test_an_unknown_registered_model_lists_those_that_there_are(project, compared):
    done = project.run("promote", "--model", "kd-nothing")
    assert done.code == 2
    assert compared.student_name in done.err


def test_a_version_whose_run_did_not_finish_is_never_promoted(project, compared, aliases):
    client = project.client
    run = client.create_run(client.get_experiment_by_name("kd").experiment_id)
    client.set_terminated(run.info.run_id, "FAILED")
    client.create_registered_model("kd-broken")
    made = client.create_model_version("kd-broken", source="mlflow-artifacts:/nowhere", run_id=run.info.run_id)
    done = project.run("promote", "--model", "kd-broken", "--candidate", str(made.version))
    client.delete_registered_model("kd-broken")
    assert done.code == 2
    assert "FAILED, not FINISHED" in done.err
    assert len(done.lines) == 1


def test_measuring_by_alias_logs_into_a_run_of_its_own(project, compared):
    uri = f"models:/{compared.student_name}@challenger"
    before = project.client.get_run(compared.distilled).data.metrics
    done = project.run("measure", "--model", uri, "--latency_budget_ms", "10000", "--size_budget_mib", "0.001")
    assert done.code == 0
    run = project.runs(stage="measure")[-1]
    assert run.info.status == "FINISHED"
    assert run.info.run_id not in (compared.student, compared.distilled)
    assert {"profile/latency_ms_p50", "profile/latency_ms_p95", "profile/ram_peak_mib", "model/size_mib"} <= set(
        run.data.metrics
    )
    assert run.data.tags["kd.measured"] == f"models:/{compared.student_name}/1"
    assert run.data.tags["kd.fits_latency_ms"] == "true"
    assert run.data.tags["kd.fits_size_mib"] == "false"
    assert project.client.get_run(compared.distilled).data.metrics == before
