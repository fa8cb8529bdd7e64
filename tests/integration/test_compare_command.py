"""`compare` through its command line: scripts get their answer and nothing else, people get a report they can open."""

import csv
import io
import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROLES = ["trivial", "trivial", "teacher", "student", "distilled"]
PICTURES = ("gain", "quality_latency", "quality_size", "curves")
AS_PNG = ("gain", "quality_latency")
"""What `docs/results` shows of each study."""


def printed(project, *words, **env):
    done = project.run("compare", *words, **env)
    assert (done.code, done.err) == (0, "")
    return done.out


def asked(project, *words):
    """The only table of a comparison."""
    (table,) = json.loads(printed(project, *words, "--output", "json"))["tables"]
    return table


def newest(project):
    run = project.runs(stage="compare")[-1]
    assert run.info.status == "FINISHED"
    return run


def test_json_is_all_that_is_printed_and_the_same_each_time(project, compared):
    first, again = (printed(project, "--output", "json") for _ in range(2))
    assert first == again
    (table,) = json.loads(first)["tables"]
    assert [arm["role"] for arm in table["arms"]] == ROLES
    ids = [run_id for arm in table["arms"] for run_id in arm["run_ids"]]
    assert {compared.teacher, compared.student, compared.distilled} < set(ids)
    distilled = table["arms"][-1]
    assert distilled["verdict"] == "too few seeds"
    assert distilled["pairs"] == [{"seed": 0, "run_id": compared.distilled, "against": compared.student}]


def test_csv_is_all_that_is_printed_one_line_an_arm(project, compared):
    lines = list(csv.DictReader(io.StringIO(printed(project, "--output", "csv"))))
    assert [line["role"] for line in lines] == ROLES
    accuracy = project.client.get_run(compared.distilled).data.metrics["test/accuracy"]
    assert float(lines[-1]["mean"]) == pytest.approx(accuracy)
    assert lines[0]["profile/latency_ms_p50"] == ""  # a baseline is not served


def test_html_is_all_that_is_printed_and_is_what_the_run_keeps(project, compared):
    page = printed(project, "--output", "html")
    assert page.startswith("<!doctype html>\n")
    assert page.endswith("</html>\n")
    assert all(run_id in page for run_id in (compared.teacher, compared.student, compared.distilled))
    assert "too few seeds" in page
    report = project.client.download_artifacts(newest(project).info.run_id, "report.html")
    assert Path(report).read_text(encoding="utf-8") == page


def test_the_last_line_says_where_the_report_lies_with_its_pictures(project, compared):
    last = printed(project).splitlines()[-1]
    report = Path(last.removeprefix("Report: "))
    assert report.is_file()
    assert newest(project).info.run_id in report.parts
    digest = project.client.get_run(compared.student).data.tags["kd.test_digest"]
    pictures = report.parent / "plots" / f"classification-{digest[:8]}"
    assert {path.name for path in pictures.iterdir()} == {
        *(f"{name}.svg" for name in PICTURES),
        *(f"{name}.png" for name in AS_PNG),
    }
    assert all("<svg" in (pictures / f"{name}.svg").read_text(encoding="utf-8") for name in PICTURES)
    assert all((pictures / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in AS_PNG)
    assert {path.name for path in report.parent.iterdir()} >= {"comparison.json", "comparison.csv", "comparison.md"}


def test_main_keeps_the_same_report_and_says_where(project, compared):
    assert f"{compared.parent}/artifacts/report.html" in compared.first.out
    kept = {one.path for one in project.client.list_artifacts(compared.parent)}
    assert {"report.html", "plots", "comparison.json"} <= kept


def test_runs_that_are_named_are_compared_alone(project, compared):
    table = asked(project, "--runs", f"{compared.distilled},{compared.student}")
    assert [arm["run_ids"] for arm in table["arms"]] == [[compared.student], [compared.distilled]]


def test_a_baseline_takes_the_place_of_the_controls(project, compared):
    label = next(arm["label"] for arm in asked(project)["arms"] if arm["role"] == "teacher")
    for named in (label, compared.teacher):
        table = asked(project, "--baseline", named)
        assert table["against"] == label
        held = {arm["role"]: arm["difference"] for arm in table["arms"]}
        assert held["teacher"] is None
        metrics = {role: project.client.get_run(getattr(compared, role)).data.metrics["test/accuracy"]
                   for role in ("teacher", "student", "distilled")}  # fmt: skip
        for role in ("student", "distilled"):
            assert held[role]["mean"] == pytest.approx(metrics[role] - metrics["teacher"])


def test_runs_are_grouped_by_what_is_asked(project, compared):
    keys = [arm["key"] for arm in asked(project, "--group_by", "alpha,temperature")["arms"]]
    assert "distilled · alpha=0.5 · temperature=2.0" in keys
    assert len(keys) == len(set(keys))


def test_a_validation_metric_is_read_from_validation(project, compared):
    table = asked(project, "--metric", "val/loss")
    assert (table["split"], table["metric"], table["higher_is_better"]) == ("val", "loss", False)
    tags, metrics = (getattr(project.client.get_run(compared.student).data, part) for part in ("tags", "metrics"))
    assert table["digest"] == tags["kd.validation_digest"]
    mean = {arm["role"]: arm["quality"]["mean"] for arm in table["arms"]}["student"]
    assert mean == pytest.approx(metrics["val/loss"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--filter", "tags.`kd.role` = 'nobody'"), ["filter=", "nobody"]),
        (("--experiments", "nowhere"), ["'nowhere'"]),
        (("--runs", "0" * 32), ["0" * 32]),
        (("--metric", "bleu"), ["metric='bleu'", "accuracy"]),
        (("--baseline", "nobody"), ["baseline='nobody'"]),
        (("--group_by", "temprature"), ["group_by='temprature'", "temperature"]),
        (("--slice_by", "stars"), ["slice_by='stars'", "label"]),
    ],
)
def test_where_nothing_matches_one_line_says_so_and_stdout_stays_empty(project, compared, words, told):
    before = len(project.runs(stage="compare"))
    done = project.run("compare", *words, "--output", "json")
    assert (done.code, done.out, len(done.lines)) == (2, "", 1)
    assert done.err.startswith("error: ")
    assert all(word in done.err for word in told)
    assert project.running() == []
    assert len(project.runs(stage="compare")) == before


@pytest.fixture
def server(project):
    """A tracking server before the project's store."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--backend-store-uri", project.env["MLFLOW_TRACKING_URI"], "--host", "127.0.0.1", "--port", str(port)]
    with (project.folder / "server").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *words, "--workers", "1"],
            cwd=project.folder, env=project.env, stdout=log, stderr=log)  # fmt: skip
        try:
            for _ in range(120):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                    break
                except OSError:
                    time.sleep(0.5)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


@pytest.mark.services
def test_behind_a_server_too_nothing_else_is_on_stdout(project, compared, server):
    """MLflow prints where a run is to be seen."""
    straight = printed(project, "--output", "json")
    done = project.run("compare", "--output", "json", MLFLOW_TRACKING_URI=server)
    assert done.code == 0
    assert done.out == straight
    assert "View run" in done.err
