"""The teacher's cache through the command line: filled once, shown, pruned, and done without."""

from dataclasses import replace

import pytest

pytestmark = pytest.mark.integration
WORDS = ("--student_layers", "1", "--epochs", "1", "--precision", "fp32")


@pytest.fixture(scope="module")
def apart(project, tmp_path_factory):
    """The project with an empty store and cache: other tests count their runs."""
    folder = tmp_path_factory.mktemp("apart")
    own = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "KD_HOME": str(folder / "home")}
    return replace(project, env=project.env | own)


@pytest.fixture(scope="module")
def said(apart):
    """Three seeds of `distill`, the last without a cache."""
    given = ("--dataset", apart.data, "--teacher", apart.weights, *WORDS)
    return [
        apart.run("distill", *given, "--seed", seed, *more) for seed, *more in (("7",), ("8",), ("9", "--cache", "off"))
    ]


def test_the_teacher_reads_once_and_not_at_all_where_there_is_no_cache(apart, said):
    assert [done.code for done in said] == [0, 0, 0], said[-1].err[-2000:]
    assert ["cache=off" in done.err for done in said] == [False, False, True]
    spent = [run.data.metrics.get("cost/teacher_s") for run in apart.runs(stage="distill")]
    assert [seconds is not None for seconds in spent] == [True, False, False]


def test_the_cache_is_shown_and_pruned_under_mlflow_run_too(apart, said):
    shown = apart.mlflow_run("cache")
    assert shown.code == 0, shown.err[-2000:]
    assert "whole" in shown.out
    pruned = apart.run("cache", "--action", "prune", "--all")
    assert "Removed" in pruned.out
    assert "No teacher's outputs" in apart.run("cache").out
    assert not apart.running()
    refused = apart.run("cache", "--action", "prune")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
