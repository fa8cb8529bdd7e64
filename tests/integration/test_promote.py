"""Promotion moves the alias on evidence, or refuses and leaves it; there is a way back; measuring fills its own run."""

import json
import re
from pathlib import Path

import pytest

from tests.integration.conftest import main_words

pytestmark = pytest.mark.integration


@pytest.fixture
def aliases(project, compared):
    def read():
        found = project.client.get_registered_model(compared.student_name).aliases
        return {alias: str(version) for alias, version in found.items()}

    yield read
    for alias in {"champion", "previous"} & read().keys():
        project.client.delete_registered_model_alias(compared.student_name, alias)


@pytest.fixture(scope="module")
def second(project, compared):
    """Register the control as another version of the students' model; returns its number."""
    words = main_words(project)
    options = dict(zip(words[::2], words[1::2], strict=True))
    options |= {"--teacher": f"models:/{compared.teacher_name}/1", "--seed": "1"}
    del options["--seeds"]
    done = project.run("student", *(word for pair in options.items() for word in pair))
    assert done.code == 0, done.err
    version = str(max(int(number) for name, number in project.versions() if name == compared.student_name))
    yield version
    run_id = project.client.get_model_version(compared.student_name, version).run_id
    project.client.delete_model_version(compared.student_name, version)
    project.client.delete_run(run_id)


def artifact(project, version, name):
    """Path of an artifact of the run behind a version."""
    run = project.client.get_run(version.run_id)
    return Path(run.info.artifact_uri.removeprefix("file://")) / name


def test_promotion_moves_the_alias_and_logs_why(project, compared, aliases):
    done = project.run("promote", "--model", compared.student_name, "--min_metric", "0.0")
    assert (done.code, done.err) == (0, "")
    assert aliases() == {"challenger": "1", "champion": "1"}
    assert "models serve" in done.out
    assert "min_metric" in done.out
    run = project.runs(stage="promote")[-1]
    assert run.info.status == "FINISHED"
    assert run.data.tags["kd.decision"] == "pass"


def test_a_gate_above_the_figure_refuses_with_code_3_and_leaves_the_alias(project, compared, aliases):
    before = aliases()
    done = project.run("promote", "--model", compared.student_name, "--min_metric", "1.01")
    assert "no gate was given" not in done.out
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


DEVICES = "my board: {ram_mib: 9000, storage_mib: 900}\nwatch: {ram_mib: 64, storage_mib: 16}\n"


def promote(project, compared, *words):
    return project.run("promote", "--model", compared.student_name, *words)


def test_a_second_promotion_is_held_against_the_champion_and_can_be_taken_back(project, compared, aliases, second):
    assert promote(project, compared, "--allowed_drop", "0").code == 0
    assert "no other champion" in project.runs(stage="promote")[-1].data.tags["kd.gate.allowed_drop"]
    dry = promote(project, compared, "--candidate", second, "--allowed_drop", "1", "--dry_run")
    assert (dry.code, aliases()) == (0, {"challenger": "1", "champion": "1"})
    assert "kd.decision" not in project.client.get_model_version(compared.student_name, second).tags
    words = ("--allowed_drop", "1", "--size_budget_mib", "1000", "--latency_budget_ms", "10000")
    done = promote(project, compared, "--candidate", second, *words)
    assert (done.code, done.err) == (0, "")
    assert aliases() == {"challenger": "1", "champion": second, "previous": "1"}
    run = project.runs(stage="promote")[-1]
    measured = [
        one for one in project.runs(stage="measure") if one.data.tags.get("mlflow.parentRunId") == run.info.run_id
    ]
    assert {one.data.tags["kd.measured"] for one in measured} == {
        f"models:/{compared.student_name}/1",
        f"models:/{compared.student_name}/{second}",
    }
    version = project.client.get_model_version(compared.student_name, second)
    assert version.tags["kd.decision"] == "pass"
    assert version.tags["kd.decision_run"] == run.info.run_id
    assert version.tags["kd.gate.allowed_drop"].startswith("pass: allowed_drop")
    assert run.data.tags["kd.gate.size_budget_mib"].startswith("pass")
    assert "## Limits" in version.description
    assert "champion before, version 1" in version.description
    assert "Test answers against champion version 1: changed " in version.description
    assert promote(project, compared, "--rollback", "true").code == 0
    assert aliases() == {"challenger": "1", "champion": "1"}
    again = promote(project, compared, "--rollback")
    assert again.code == 2
    assert "no former champion" in again.err


def test_a_drop_that_is_not_excluded_refuses_and_names_the_gate(project, compared, aliases, second):
    assert promote(project, compared).code == 0
    done = promote(project, compared, "--candidate", second, "--min_metric", "0", "--max_ece", "0")
    assert done.code == 3
    assert "max_ece" in done.lines[-1]
    assert aliases() == {"challenger": "1", "champion": "1"}
    assert project.client.get_model_version(compared.student_name, second).tags["kd.decision"] == "fail"


def test_predictions_that_were_lost_are_made_again_from_the_served_model(project, compared, aliases, second):
    version = project.client.get_model_version(compared.student_name, second)
    table = artifact(project, version, "predictions_test.parquet")
    kept = table.read_bytes()
    assert promote(project, compared).code == 0
    logged = promote(project, compared, "--candidate", second, "--allowed_drop", "1", "--dry_run")
    table.unlink()
    done = promote(project, compared, "--candidate", second, "--allowed_drop", "1", "--dry_run")
    table.write_bytes(kept)
    assert (logged.code, done.code) == (0, 0), done.err
    assert "scored on them now" in done.out
    two = [run.data.tags["kd.gate.allowed_drop"] for run in project.runs(stage="promote")[-2:]]
    assert two[0] == two[1]
    assert project.runs(stage="promote")[-1].data.tags["kd.test_scored"] == "true"


def test_a_model_that_answers_otherwise_than_when_it_was_made_is_refused(project, compared, aliases):
    version = project.client.get_model_version(compared.student_name, "1")
    answers = artifact(project, version, "answers.json")
    kept = answers.read_text()
    changed = json.loads(kept)
    changed[0]["score"] += 0.01
    answers.write_text(json.dumps(changed))
    done = promote(project, compared)
    answers.write_text(kept)
    assert done.code == 3
    assert "answers" in done.lines[-1]
    assert "champion" not in aliases()


def test_a_damaged_model_is_refused_before_the_alias_moves(project, compared, aliases):
    best = project.client.get_model_version(compared.student_name, "1")
    model = best.source.rpartition("/")[2]
    place = Path(project.client.get_logged_model(model).artifact_location.removeprefix("file://"))
    weights = next(place.rglob("model.safetensors"))
    kept = weights.read_bytes()
    weights.write_bytes(kept[: len(kept) // 2])
    done = promote(project, compared)
    weights.write_bytes(kept)
    assert done.code == 3
    assert "does not load" in done.lines[-1]
    assert "champion" not in aliases()


def test_best_is_best_on_validation_and_never_looks_at_test(project, compared, aliases, second):
    runs = {
        number: project.client.get_run(project.client.get_model_version(compared.student_name, number).run_id)
        for number in ("1", second)
    }
    done = promote(project, compared, "--candidate", "best")
    assert done.code == 0
    chosen = aliases()["champion"]
    validation = {number: run.data.metrics["val/accuracy"] for number, run in runs.items()}
    assert validation[chosen] == max(validation.values())
    assert f"version {chosen}" in done.out


def test_a_copy_serves_elsewhere_and_its_source_run_is_marked(project, compared, aliases):
    done = promote(project, compared, "--to_model", "kd-production")
    assert done.code == 0, done.err
    assert aliases() == {"challenger": "1"}
    copied = project.client.get_registered_model("kd-production")
    assert {alias: str(number) for alias, number in copied.aliases.items()} == {"champion": "1"}
    source = project.client.get_model_version(compared.student_name, "1").run_id
    assert project.client.get_run(source).data.tags["kd.protected"] == "models:/kd-production/1"
    again = promote(project, compared, "--to_model", "kd-production")
    assert again.code == 0
    assert "nothing was moved" in again.out
    project.client.delete_registered_model("kd-production")
    project.client.delete_tag(source, "kd.protected")


def test_a_version_whose_files_a_garbage_collection_would_take_is_not_promoted(project, compared, aliases, second):
    run_id = project.client.get_model_version(compared.student_name, second).run_id
    project.client.delete_run(run_id)
    done = promote(project, compared, "--candidate", second)
    project.client.restore_run(run_id)
    assert done.code == 2
    assert "mlflow gc" in done.err
    assert "champion" not in aliases()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("alowed_drop: 0.1\n", "did you mean allowed_drop"),
        ("min_metric: 0.9\nmin_metric: 0.1\n", "line 2, column 1: 'min_metric' is given a second time"),
    ],
)
def test_a_wrong_gates_file_is_told_before_anything_is_done(project, compared, aliases, text, told):
    before = len(project.runs(stage="promote"))
    path = project.folder / "gates.yaml"
    path.write_text(text)
    done = promote(project, compared, "--gates", str(path))
    assert done.code == 2
    assert told in done.err
    assert len(done.lines) == 1
    assert len(project.runs(stage="promote")) == before


def test_a_gates_file_is_obeyed_and_an_option_outranks_it(project, compared, aliases):
    path = project.folder / "gates.yaml"
    path.write_text("min_metric: 1.01\n")
    assert promote(project, compared, "--gates", str(path)).code == 3
    assert promote(project, compared, "--gates", str(path), "--min_metric", "0").code == 0


def test_a_gate_on_groups_refuses_what_serves_one_of_them_worse_and_a_column_that_is_not_there(
    project, compared, aliases
):
    before = aliases()
    done = promote(project, compared, "--max_group_ratio", "1")
    assert done.code == 3
    assert "max_group_ratio" in done.err
    done = promote(project, compared, "--max_group_ratio", "2", "--ratio_by", "patient")
    assert (done.code, len(done.lines)) == (2, 1)
    assert "ratio_by='patient' is no column of the predictions" in done.err
    assert aliases()["challenger"] == before["challenger"]


def test_an_unknown_registered_model_lists_those_that_there_are(project, compared):
    for words in ((), ("--candidate", "3"), ("--candidate", "best")):
        done = project.run("promote", "--model", "kd-nothing", *words)
        assert done.code == 2
        assert "error: model='kd-nothing': no registered model" in done.err
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


def test_a_version_that_a_required_device_cannot_take_is_refused_with_its_figure_and_the_budget(
    project, compared, aliases, tmp_path
):
    (tmp_path / "devices.yaml").write_text(DEVICES)
    given = ("--devices", str(tmp_path / "devices.yaml"), "--dry_run")
    done = promote(project, compared, "--fits", "my board,watch", *given)
    assert done.code == 3
    assert re.search(r"fits\.watch\.ram_mib: .* is [\d.]+, at most 64 is required, [\d.]+ over$", done.lines[-1])
    assert "my board" not in done.lines[-1]
    run = project.runs(stage="promote")[-1]
    assert run.data.tags["kd.gate.fits.my board.ram_mib"].startswith("pass: ")
    assert run.data.tags["kd.gate.fits.watch.ram_mib"].startswith("fail: ")
    assert aliases() == {"challenger": "1"}
    done = promote(project, compared, "--fits", "phone", *given)
    assert (done.code, len(done.lines)) == (2, 1)
    assert "has no 'phone'; it has my board, watch" in done.lines[0]


def test_measuring_by_alias_logs_into_a_run_of_its_own(project, compared, tmp_path):
    uri = f"models:/{compared.student_name}@challenger"
    before = project.client.get_run(compared.distilled).data.metrics
    devices = (tmp_path / "devices.yaml").write_text(DEVICES) and str(tmp_path / "devices.yaml")
    budgets = ("--latency_budget_ms", "10000", "--size_budget_mib", "0.001", "--devices", devices)
    done = project.run("measure", "--model", uri, *budgets)
    assert done.code == 0
    assert re.search(r"my board, peak RAM [\d.]+ of 9000 MiB, model [\d.]+ of 900 MiB: fits", done.out)
    assert "MiB: does not fit" in done.out
    run = project.runs(stage="measure")[-1]
    assert run.info.status == "FINISHED"
    assert run.info.run_id not in (compared.student, compared.distilled)
    assert {"profile/latency_ms_p50", "profile/latency_ms_p95", "profile/ram_peak_mib", "model/size_mib"} <= set(
        run.data.metrics
    )
    assert run.data.tags["kd.measured"] == f"models:/{compared.student_name}/1"
    assert run.data.tags["kd.fits_latency_ms"] == "true"
    assert run.data.tags["kd.fits_size_mib"] == "false"
    assert run.data.tags["kd.fits_device.my board"].startswith("true: peak RAM ")
    assert run.data.tags["kd.fits_device.watch"].startswith("false: peak RAM ")
    assert project.client.get_run(compared.distilled).data.metrics == before


def test_a_champion_that_was_deleted_is_not_followed_without_a_word(project, compared, aliases, second):
    client = project.client
    client.set_registered_model_alias(compared.student_name, "previous", second)
    done = promote(project, compared, "--allowed_drop", "0")
    assert done.code == 2
    assert "--rollback" in done.err
    assert aliases() == {"challenger": "1", "previous": second}


def test_a_champion_asked_again_must_still_pass(project, compared, aliases):
    assert promote(project, compared, "--min_metric", "0").code == 0
    assert promote(project, compared, "--min_metric", "1.01").code == 3
    assert aliases() == {"challenger": "1", "champion": "1"}


def test_a_teacher_of_other_words_cannot_follow_a_champion(project, compared, aliases):
    other = project.client.get_model_version(compared.teacher_name, "1")
    place = Path(
        project.client.get_logged_model(other.source.rpartition("/")[2]).artifact_location.removeprefix("file://")
    )
    settings = next(place.rglob("kd.json"))
    kept = settings.read_text()
    settings.write_text(kept.replace('"good"', '"splendid"'))
    assert promote(project, compared).code == 0
    words = ("--model", compared.teacher_name, "--candidate", "1", "--to_model", compared.student_name)
    done = project.run("promote", *words)
    settings.write_text(kept)
    assert done.code == 2
    assert "labels" in done.err
    assert aliases()["champion"] == "1"
