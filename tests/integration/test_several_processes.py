"""Several processes of one training: one run, one version, the losses of one process, and an orderly end of all.

They are started by torchrun on this machine's CPU, as a user would, on two tiny models without dropout.
"""

import signal
import time

import psutil
import pytest

from tests import tiny
from tests.integration.conftest import write_rows

pytestmark = pytest.mark.integration

ROWS = 49
"""The last step of an epoch has one row, so that one of two processes has none."""
LAUNCH = ("torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m")
STARTED = "train/loss"


@pytest.fixture(scope="module")
def words(project):
    """Options that all trainings here share: dropout would differ between processes."""
    folder = project.folder / "steady"
    tiny.bert(dropout=0.0).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    for seed, (split, count) in enumerate((("train", ROWS), ("validation", 25), ("test", 24))):
        write_rows(project.folder / "shared" / f"{split}.csv", count, 40 + seed)
    data = str(project.folder / "shared")
    return ("--dataset", data, "--teacher", str(folder), "--learning_rate", "0.001", "--precision", "fp32",
            "--max_length", "32", "--checkpoint_every_s", "0")  # fmt: skip


def launched(project, tmp_path, name, *words):
    """Start an entry point in two processes; its output goes into a file."""
    with (tmp_path / "out").open("w") as out:
        return project.start(*LAUNCH, "kd", name, *words, out=out)


def ended(process, tmp_path, within=240):
    """Wait for the end; returns exit code and output."""
    return process.wait(within), (tmp_path / "out").read_text()


def ours(text):
    """Lines that this project has written about an end, before the launcher's block."""
    head = text.split("ChildFailedError")[0].split("SignalException")[0]
    return [line for line in head.splitlines() if line.startswith(("error:", "stopped:", "refused:"))]


def curves(project, run):
    names = [name for name in run.data.metrics if name.startswith("train/loss")]
    return {
        name: {point.step: point.value for point in project.client.get_metric_history(run.info.run_id, name)}
        for name in names
    }


def await_steps(project, experiment, timeout=180):
    """Wait until a training of this experiment has logged a loss; returns its run's id."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        found = project.client.get_experiment_by_name(experiment)
        runs = project.client.search_runs([found.experiment_id]) if found else []
        if steps := [run for run in runs if STARTED in run.data.metrics]:
            return steps[0].info.run_id
        time.sleep(0.1)
    raise AssertionError("no step was logged in time")


def ranks(process):
    """The processes that train, by rank."""
    found = {}
    for child in psutil.Process(process.pid).children(recursive=True):
        number = child.environ().get("RANK")
        if number is not None and "-m kd " in " ".join(child.cmdline()):
            found[int(number)] = child
    return found


@pytest.mark.parametrize("accumulation", [1, 2])
def test_two_processes_give_the_losses_of_one_and_make_one_run_and_one_version(project, words, tmp_path, accumulation):
    given = (*words, "--objective", "soft,hidden", "--epochs", "2", "--gradient_accumulation", str(accumulation))
    alone, both = f"alone-{accumulation}", f"both-{accumulation}"
    done = project.run("distill", *given, "--batch_size", "8", "--experiment", alone)
    assert done.code == 0, done.err[-2000:]
    before = project.versions()
    process = launched(project, tmp_path, "distill", *given, "--batch_size", "4", "--experiment", both)
    code, text = ended(process, tmp_path)
    assert code == 0, text[-3000:]
    one, two = (
        project.client.search_runs(
            [project.client.get_experiment_by_name(name).experiment_id], "tags.`kd.role` = 'distilled'"
        )
        for name in (alone, both)
    )
    assert len(one) == len(two) == 1
    assert len(project.versions()) == len(before) + 1
    assert project.running() == []
    expected, found = curves(project, one[0]), curves(project, two[0])
    assert expected.keys() == found.keys() >= {"train/loss", "train/loss_soft", "train/loss_hidden"}
    for name, points in expected.items():
        assert found[name] == pytest.approx(points, abs=1e-5), name
    for name, value in one[0].data.metrics.items():
        if name.startswith(("val/", "test/")):
            assert two[0].data.metrics[name] == pytest.approx(value, abs=1e-5), name


def test_a_stopped_training_keeps_its_checkpoint_and_the_same_command_continues_it(project, words, tmp_path):
    given = (*words, "--epochs", "400", "--patience", "0", "--batch_size", "4", "--experiment", "stopped")
    process = launched(project, tmp_path, "teacher", *given)
    run_id = await_steps(project, "stopped")
    process.send_signal(signal.SIGTERM)
    started = time.monotonic()
    code, text = ended(process, tmp_path, within=60)
    assert time.monotonic() - started < 30
    assert code != 0
    assert len(ours(text)) == 1, text[-3000:]
    assert "checkpoint kept" in ours(text)[0]
    run = project.client.get_run(run_id)
    assert run.info.status == "KILLED"
    assert run.data.tags["kd.resumable"] == "true"
    again = launched(project, tmp_path, "teacher", *given)
    until = time.monotonic() + 120
    while "Continuing" not in (tmp_path / "out").read_text() and time.monotonic() < until:
        time.sleep(0.2)
    assert "Continuing an interrupted training" in (tmp_path / "out").read_text()
    again.send_signal(signal.SIGTERM)
    ended(again, tmp_path, within=60)
    assert project.running() == []


@pytest.mark.parametrize("dead", [0, 1])
def test_where_a_process_dies_all_end_within_half_a_minute_and_say_so(project, words, tmp_path, dead):
    experiment = f"dead-{dead}"
    given = (*words, "--epochs", "400", "--patience", "0", "--batch_size", "4", "--experiment", experiment)
    process = launched(project, tmp_path, "teacher", *given, "--seed", str(10 + dead))
    await_steps(project, experiment)
    processes = ranks(process)
    assert sorted(processes) == [0, 1]
    processes[dead].kill()
    started = time.monotonic()
    code, text = ended(process, tmp_path, within=60)
    assert time.monotonic() - started < 30
    assert code != 0
    assert len(ours(text)) == 1, text[-3000:]
    assert "the same command continues" in ours(text)[0]
    assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes.values())


def test_a_diverged_loss_ends_all_with_one_line_that_names_the_learning_rate(project, words, tmp_path):
    given = (*words, "--learning_rate", "1e30", "--epochs", "2", "--batch_size", "4", "--experiment", "diverged")
    before = project.running()  # of the process that was killed outright
    code, text = ended(launched(project, tmp_path, "teacher", *given), tmp_path, within=120)
    assert code != 0
    assert len(ours(text)) == 1, text[-3000:]
    assert "learning_rate" in ours(text)[0]
    assert project.running() == before


def test_a_mistake_is_reported_once_by_the_main_process(project, words, tmp_path):
    code, text = ended(launched(project, tmp_path, "student", "--dataset", "nowhere.csv"), tmp_path, within=120)
    assert code != 0
    assert len(ours(text)) == 1, text[-3000:]


def test_a_command_that_is_no_training_is_refused_in_several_processes(project, tmp_path):
    code, text = ended(launched(project, tmp_path, "compare"), tmp_path, within=120)
    assert code != 0
    assert len(ours(text)) == 1, text[-3000:]
    assert "torchrun" in ours(text)[0]
