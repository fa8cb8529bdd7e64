"""Several processes of one training: they divide the teacher's work, and learn what one process alone learns."""

import json
import multiprocessing
import os
import socket
from dataclasses import replace

import pytest
import torch

from kd.teacher.cache import index
from kd.teacher.run import TeacherPass
from kd.teacher.signal import Wanted, teacher_signal
from kd.training.loop import fit
from tests.tiny import bert
from tests.training.test_loop import RECIPE, ROWS, TASK, Reports, collate, encoded, job, weights


def train(folder, environment, transfer):
    """Train as a rank, the global batch being 8 rows; what came of it goes into a file."""
    os.environ |= environment
    index.SHARD_ROWS = 2
    torch.set_num_threads(1)
    rank, ranks = (int(environment.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1)))
    rows, reports = encoded(), Reports()
    work = TeacherPass(bert(seed=1, dropout=0), rows, collate, TASK, tokens=1)
    signal = teacher_signal(Wanted("key", len(rows)), lambda: work, "on")
    model = bert(layers=2, seed=7, dropout=0)
    made = job(folder / "checkpoints", teacher=signal, report=reports, model=model, transfer=transfer)
    fit(made, replace(RECIPE, batch_size=8 // ranks))
    losses = {step: metrics for step, metrics in sorted(reports.training.items())}
    told = {
        "computed": signal.computed,
        "losses": losses,
        "weights": [float(x.double().sum()) for x in weights(made.model).values()],
    }
    (folder / f"told.{rank}").write_text(json.dumps(told))


@pytest.mark.parametrize("transfer", [False, True], ids=["labels", "transfer"])
def test_two_ranks_divide_the_teachers_work_and_learn_what_one_process_learns(tmp_path, transfer):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["test_ranks"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    both, alone = tmp_path / "both", tmp_path / "alone"
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "KD_HOME": str(both)}
    given = [(both, {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(2)]
    given.append((alone, {"KD_HOME": str(alone)}))
    processes = [context.Process(target=train, args=(*one, transfer)) for one in given]
    for folder in (both, alone):
        folder.mkdir()
    for each in processes:
        each.start()
    for each in processes:
        each.join(120)
    assert [each.exitcode for each in processes] == [0, 0, 0]
    first, second, one = (json.loads(path.read_text()) for path in (both / "told.0", both / "told.1", alone / "told.0"))
    assert first["computed"] + second["computed"] == one["computed"] == ROWS
    assert first["weights"] == second["weights"] == pytest.approx(one["weights"], rel=1e-4, abs=1e-5)
    assert len(one["losses"]) == 6
    for step, metrics in one["losses"].items():
        for name, value in metrics.items():
            if name.startswith("train/loss"):
                assert first["losses"][step][name] == pytest.approx(value, rel=1e-4, abs=1e-5)
