"""Each mistake a user can mend: one line that says so, exit code 2, and nothing left behind."""

import os

import pytest

from tests import tiny
from tests.integration.conftest import RECIPE, write_rows

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def rows(project):
    """Folders of damaged data, by name."""
    folder = project.folder / "damaged"

    def write(name, train, **others):
        for split in ("validation", "test"):
            write_rows(folder / name / f"{split}.csv", 12, 5)
        for split, text in {"train": train, **others}.items():
            (folder / name / f"{split}.csv").write_text(text, encoding="utf-8")

    good = (project.folder / "rows" / "train.csv").read_text()
    write("empty", "")
    write("header", "text,label\n")
    write("one_class", good.replace(",bad", ",good"))
    write("unseen", good, test="text,label\nfilm,good\nbook,splendid\nstory,bad\n")
    write("missing", good + ",good\n")
    write_rows(folder / "other_labels" / "train.csv", 48, 9, ("red", "green", "blue"))
    tiny.saved_bert(folder / "other_architecture" / "weights", labels=("red", "green", "blue"))
    (folder / "shape.json").write_text('{"num_hidden_layers": 2, "hidden_size": 8, "vocab_size": 7}')
    (folder / "txt.csv").write_text("txt\nfilm\n")
    (folder / "txt0.csv").write_text("text\n")
    (folder / "file").touch()
    return folder


def assert_refused(done, told):
    assert done.code == 2, done.err[-2000:]
    assert len(done.lines) == 1, done.err[-2000:]
    assert done.lines[0].startswith("error: ")
    for word in told:
        assert word in done.err


CASES = {
    "unknown dataset": (["--dataset", "{rows}/nowhere.csv"], ["nowhere.csv", "builtin:NAME", "hub id"]),
    "unknown builtin": (["--dataset", "builtin:apidoc"], ["builtin:apidoc", "apidocs"]),
    "unknown column": (
        ["--text_column", "txt"],
        ["'txt' (text_column)", "did you mean text_column=text?", "text, label"],
    ),
    "unknown label column": (["--label_column", "stars"], ["'stars' (label_column)", "text, label"]),
    "empty file": (["--dataset", "{rows}/empty"], ["train.csv", "empty"]),
    "no rows": (["--dataset", "{rows}/header"], ["train.csv", "no rows"]),
    "one class": (["--dataset", "{rows}/one_class"], ["label", "'good'"]),
    "label unseen in train": (["--dataset", "{rows}/unseen"], ["test", "'splendid'", "'bad', 'good'"]),
    "missing text": (["--dataset", "{rows}/missing"], ["'text'", "row 48"]),
    "absent teacher folder": (["--teacher", "{rows}/no-teacher"], ["teacher=", "no such folder", "models:/"]),
    "absent teacher model": (["--teacher", "models:/kd-nothing/1"], ["teacher=", "no registered model", "kd-class"]),
    "absent teacher version": (["--teacher", "models:/{teacher}/7"], ["teacher=", "versions 1"]),
    "absent teacher run": (
        ["--teacher", "runs:/0123456789abcdef0123456789abcdef/model"],
        ["teacher=", "no such model"],
    ),
    "unknown alias": (["--teacher", "models:/{teacher}@champion"], ["teacher=", "aliases none"]),
    "teacher of other labels": (
        ["--teacher", "{rows}/other_architecture/weights"],
        ["teacher=", "'red', 'green', 'blue'", "'bad', 'good'"],
    ),
    "data of other labels": (["--dataset", "{rows}/other_labels"], ["'blue', 'green', 'red'", "'bad', 'good'"]),
    "initialisation beside indices": (["--student_layers", "0,3", "--initialisation", "last"], ["'last'", "'0,3'"]),
    "importance of too many layers": (
        ["--student_layers", "9", "--initialisation", "importance"],
        ["student_layers=9", "4 layers"],
    ),
    "configuration that is not there": (
        ["--student_config", "{rows}/nowhere.json"],
        ["student_config=", "nowhere.json"],
    ),
    "configuration of other words": (["--student_config", "{rows}/shape.json"], ["student_config", "vocab_size=7"]),
    "configuration beside layers": (
        ["--student_config", "{rows}/shape.json", "--student_layers", "2"],
        ["student_layers='2'", "shape.json"],
    ),
    "fewer than no examples": (["--attribution_examples", "-1"], ["attribution_examples=-1", ">= 0"]),
    "more layers than the teacher": (["--student_layers", "9"], ["student_layers=9", "4 layers"]),
    "index beyond the teacher": (["--student_layers", "0,4"], ["student_layers=0,4", "0 to 3"]),
    "layers that are no number": (["--student_layers", "two"], ["student_layers='two'", "such as 2"]),
    "alpha above 1": (["--alpha", "1.5"], ["alpha=1.5", "0 to 1"]),
    "alpha below 0": (["--alpha", "-0.1"], ["alpha=-0.1", "0 to 1"]),
    "temperature 0": (["--temperature", "0"], ["temperature=0.0", "> 0"]),
    "temperature below 0": (["--temperature=-2"], ["temperature=-2.0", "> 0"]),
    "fp16 without a GPU": (["--precision", "fp16"], ["precision='fp16'", "bf16"]),
    "unknown objective": (["--objective", "softer"], ["objective='softer'", "soft", "mixed"]),
    "objective without weight": (["--objective", "soft:0,hard"], ["objective='soft:0,hard'", "'0'", "> 0"]),
    "beta above 1": (["--beta", "1.5"], ["beta=1.5", "0 to 1"]),
    "map that is none": (["--match", "first"], ["match='first'", "spaced, last, skip"]),
    "map beyond the teacher": (
        ["--objective", "hidden", "--match", "0:4"],
        ["match='0:4'", "student has 2 layers", "teacher 4"],
    ),
    "map of one layer without the last": (
        ["--objective", "patient", "--student_layers", "1"],
        ["objective='patient'", "student of 1", "teacher of 4"],
    ),
    "rest without labelled": (["--transfer", "rest"], ["transfer='rest'", "labelled=0"]),
    "more labels than rows": (["--labelled", "49"], ["labelled=49", "48 training rows"]),
    "fewer labels than classes": (["--labelled", "1"], ["labelled=1", "too few", "label_column='label'"]),
    "text that is not there": (["--transfer", "{rows}/nowhere.csv"], ["transfer=", "nowhere.csv", "not found"]),
    "text in another column": (["--transfer", "{rows}/txt.csv"], ["txt.csv", "'text'", "did you mean txt?"]),
    "no text": (["--transfer", "{rows}/txt0.csv"], ["txt0.csv", "no rows"]),
    "text of the test": (["--transfer", "{project}/rows/test.csv"], ["test.csv", "all 24 rows", "other text"]),
    "confidence without text": (["--transfer_confidence", "0.5"], ["transfer_confidence=0.5", "give transfer"]),
    "unknown option": (["--temprature", "2"], ["--temprature", "--temperature"]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(project, compared, rows, case):
    registered = project.versions()
    words, told = CASES[case]
    teacher = compared.teacher_name
    base = ["--dataset", project.data, "--teacher", f"models:/{teacher}/1", *RECIPE]
    done = project.run(
        "distill", *base, *(word.format(rows=rows, teacher=teacher, project=project.folder) for word in words)
    )
    assert_refused(done, told)
    assert project.running() == []
    assert project.versions() == registered


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({"KD_HOME": "{rows}/file/home"}, ["KD_HOME="]),
        ({"MLFLOW_TRACKING_URI": "sqlite:///{rows}/file/mlflow.db"}, ["MLFLOW_TRACKING_URI", "/file/mlflow.db"]),
        ({"MLFLOW_TRACKING_URI": "http://me:sesame@127.0.0.1:9"}, ["MLFLOW_TRACKING_URI", "127.0.0.1:9"]),
    ],
    ids=["KD_HOME cannot be written", "store cannot be written", "tracking server cannot be reached"],
)
def test_a_place_that_cannot_be_used_is_one_line(project, rows, env, told):
    """The user may be root here, so what cannot be written lies below a regular file."""
    registered = project.versions()
    env = {name: value.format(rows=rows) for name, value in env.items()}
    done = project.run("teacher", "--dataset", project.data, "--teacher", project.weights, *RECIPE, **env)
    assert_refused(done, told)
    assert "sesame" not in done.err
    assert project.running() == []
    assert project.versions() == registered


def test_a_store_folder_without_write_permission_is_one_line(project):
    if os.getuid() == 0:
        pytest.skip("root may write everywhere")
    folder = project.folder / "read only"
    folder.mkdir(mode=0o500)
    done = project.run(
        "teacher",
        "--dataset",
        project.data,
        "--teacher",
        project.weights,
        MLFLOW_TRACKING_URI=f"sqlite:///{folder}/a.db",
    )
    assert_refused(done, ["MLFLOW_TRACKING_URI"])


def test_the_command_itself_answers_in_the_same_way(project, compared):
    """Not in a fork: what `python -m entrypoints.distill` prints and returns."""
    with (project.folder / "real").open("w+") as out:
        words = ("--dataset", project.data, "--teacher", f"models:/{compared.teacher_name}@nobody")
        code = project.start("entrypoints.distill", *words, out=out).wait(timeout=300)
        out.seek(0)
        lines = out.read().splitlines()
    assert code == 2
    assert len(lines) == 2  # on stdout what the rows are, on stderr what is wrong
    assert "training" in lines[0]
    assert lines[1].startswith("error: teacher=")


def test_under_mlflow_run_a_mistake_closes_the_run_that_mlflow_run_made(project, compared):
    done = project.mlflow_run("distill", "--dataset", project.data, "--teacher", "models:/kd-nothing/1")
    assert done.code != 0
    assert len([line for line in done.err.splitlines() if line.startswith("error: ")]) == 1
    assert project.running() == []
    last = project.client.search_runs(
        [project.client.get_experiment_by_name("kd").experiment_id], order_by=["attributes.start_time DESC"]
    )[0]
    assert last.info.status == "FAILED"
    assert last.data.tags["mlflow.project.entryPoint"] == "distill"
    assert last.data.tags["kd.exit_reason"].startswith("bad input: teacher='models:/kd-nothing/1'")
