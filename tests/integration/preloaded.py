"""Runs entry points in forks of one process that has imported everything, which saves 10 s an entry point.

Reads one JSON object a line. To a job (stage, words, env, folder) it answers with the number of the process, which runs
on meanwhile, its stdout and stderr into files of the folder; to `{"wait": NUMBER}` with the exit code. A job with
`KD_UNTIMED` in its environment measures no model.
"""

import importlib
import json
import os
import sys
import tempfile
import traceback

import tests.toys.register  # noqa: F401
from kd import __main__ as program
from kd.commands import QUIET
from tests.integration import killing


def measure_nothing() -> None:
    """Have each model answer in a second, for tests of all but that: a fresh process for each takes long."""
    from kd.base.judge import MEASURED
    from kd.run import measured  # with it comes mlflow, which must be told first to be quiet
    from kd.serving.seat import Measured

    latency = {f"profile/latency_ms_{name}": 1000.0 for name in ("p50", "p95")}
    measured.in_turn = lambda uris: [Measured(latency, {MEASURED: uri, "kd.quiet": "false"}, "") for uri in uris]


def child(stage: str, words: list[str], env: dict[str, str], folder: str) -> int:
    """Be the process that `kd STAGE` would be; returns its exit code."""
    for number, file in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(os.path.join(folder, file), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.update(env)
    tempfile.tempdir = None  # the job's own TMPDIR, not the one that this process has looked up
    killing.arm()
    if os.environ.get("KD_UNTIMED"):
        measure_nothing()
    sys.argv = ["kd", stage, *words]
    try:
        program.main()
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__mp_main__":
    killing.arm(spawned=True)
if __name__ == "__main__":  # processes that a command spawns import this file again
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for stage in ("main", "measure", "promote", "export", "hpo"):
        importlib.import_module(f"kd.commands.{stage}")
    for line in sys.stdin:
        job = json.loads(line)
        if "wait" in job:
            _, status = os.waitpid(job["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        if (pid := os.fork()) == 0:
            code = child(**job)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        print(pid, flush=True)
