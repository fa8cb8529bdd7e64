"""What is paid whatever the size of the data: imports, `--help`, stages beside training, registering, `compare`.

python -m benchmarks.bench --only fixed
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from mlflow import MlflowClient

from benchmarks import store
from benchmarks.results import QUIET, REPOSITORY, Result, Settings, fresh
from kd.config import StudentConfig
from kd.data.splits import subset
from kd.run.data import load_rows
from kd.tasks.classification.options import ClassificationOptions

SECTION = "Fixed costs"
ROWS = {"train": 256, "validation": 128, "test": 128}
RUNS, COMPARED = 1000, 200
PYTHON = [sys.executable]
STARTS = {
    "python, nothing imported": [*PYTHON, "-c", "pass"],
    "import kd": [*PYTHON, "-c", "import kd"],
    "distill --help": [*PYTHON, "-m", "entrypoints.distill", "--help"],
    "distill, a wrong option": [*PYTHON, "-m", "entrypoints.distill", "--dataset", "x", "--temperature", "-1"],
    "import torch": [*PYTHON, "-c", "import torch"],
    "import mlflow": [*PYTHON, "-c", "import mlflow"],
}
REGISTER = """
import json, sys, time
from kd import tracking
first = time.perf_counter()
taken = []
for _ in range(12):
    start = time.perf_counter()
    tracking.register(sys.argv[1], sys.argv[2], "benchmark", {"kd.role": "student"}, ("", ""))
    taken.append(time.perf_counter() - start)
print(json.dumps({"wall_s": sorted(taken[2:])[5]}))
"""


@dataclass(frozen=True)
class Made:
    """A store with the models that are asked, and what making them took.

    Attributes:
        folder: of the store; the processes that read it run in it.
        data: the options that name the rows.
        models: URI of the registered version, by name: teacher, student, int8.
        spent: figures of every stage that was run.
    """

    folder: Path
    data: list[str]
    models: dict[str, str] = field(default_factory=dict)
    spent: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find the store and this repository."""
        places = {"KD_HOME": str(self.folder / "home"), "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db"}
        return {**os.environ, **QUIET, **places, "PYTHONPATH": str(REPOSITORY)}

    def client(self) -> MlflowClient:
        """Return MLflow's client for the store."""
        return MlflowClient(self.environment["MLFLOW_TRACKING_URI"])

    def stage(self, name: str, *words: str) -> dict[str, float]:
        """Run an entry point; returns its wall time, the training in it, and the rest, in seconds.

        Raises:
            RuntimeError: it failed.
        """
        start = time.perf_counter()
        done = subprocess.run(
            [*PYTHON, "-m", f"entrypoints.{name}", *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        wall = time.perf_counter() - start
        print(f"{name}: {wall:.1f} s", file=sys.stderr, flush=True)
        if done.returncode:
            raise RuntimeError(f"{name} ended with {done.returncode}: {done.stderr[-2000:]}")
        client = self.client()
        ids = [one.experiment_id for one in client.search_experiments()]
        newest = client.search_runs(ids, f"tags.`kd.stage` = '{name}'", max_results=1)[0]
        if (trained := newest.data.metrics.get("cost/train_s")) is None:
            return {"wall_s": wall}
        return {"wall_s": wall, "train_s": trained, "rest_s": wall - trained}

    def newest(self, teacher: bool) -> str:
        """Return the URI of the newest version of a teacher, or of a student."""
        found = [one for one in self.client().search_model_versions() if one.name.endswith("-teacher") == teacher]
        last = max(found, key=lambda one: one.creation_timestamp)
        return f"models:/{last.name}/{last.version}"


def few(settings: Settings, folder: Path) -> list[str]:
    """Write so few rows of the data that what a stage takes besides is fixed; returns the options that name them."""
    columns = {"text_column": settings.text_column, "label_column": settings.label_column}
    rows = load_rows(StudentConfig(dataset=settings.dataset, task_options=ClassificationOptions(**columns)))
    folder.mkdir()
    for name, count in ROWS.items():
        part = subset(rows.split(name), count, 0, settings.label_column)  # type: ignore[arg-type]
        part.select_columns(list(columns.values())).to_csv(folder / f"{name}.csv")
    return ["--dataset", str(folder), *(word for name, value in columns.items() for word in (f"--{name}", value))]


@cache
def made(settings: Settings) -> Made:
    """Make teacher, student of its layers 0 and 5, and the student as int8 ONNX, through the entry points."""
    folder = Path(tempfile.mkdtemp())
    here = Made(folder, few(settings, folder / "rows"))
    (here.folder / "home").mkdir()
    here.spent["teacher"] = here.stage("teacher", *here.data, "--epochs", "1")
    here.models["teacher"] = here.newest(teacher=True)
    here.spent["student"] = here.stage("student", *here.data, "--epochs", "1", "--student_layers", "0,5")
    here.models["student"] = here.newest(teacher=False)
    here.spent["export"] = here.stage("export", "--model", here.models["student"], "--format", "onnx-int8")
    here.models["int8"] = here.newest(teacher=False)
    return here


def measure(settings: Settings) -> list[Result]:
    """Measure them all."""
    return [*_starts(settings.repeats), *_stages(settings), *_registry(settings), _compare(settings.repeats)]


def _starts(repeats: int) -> list[Result]:
    taken: dict[str, list[Mapping[str, float]]] = {name: [] for name in STARTS}
    for _ in range(repeats):
        for name, command in STARTS.items():
            start = time.perf_counter()
            done = subprocess.run(command, cwd=REPOSITORY, env={**os.environ, **QUIET}, capture_output=True)
            taken[name].append({"wall_s": time.perf_counter() - start})
            if done.returncode != (2 if "wrong" in name else 0):
                raise RuntimeError(f"{name} ended with {done.returncode}: {done.stderr.decode()[-500:]}")
    return [Result.of(SECTION, name, found) for name, found in taken.items()]


def _stages(settings: Settings) -> list[Result]:
    here = made(settings)
    job = [*here.data, "--epochs", "1", "--student_layers", "0,5"]
    found = {name: [figures] for name, figures in here.spent.items()}
    seeds = [str(seed) for seed in range(settings.repeats)]
    found["distill"] = [here.stage("distill", *job, "--seed", seed) for seed in seeds]
    found["measure"] = [here.stage("measure", "--model", here.models["student"])]
    notes = {
        "measure": "in a process of its own; is part of each stage that trains, and most of it is timing requests",
        "export": "ONNX int8, held against what it was exported from, and profiled",
    }
    job_is = f"{ROWS['train']} rows, 1 epoch; rest_s is all but training: imports, data, scoring, logging, profiling"
    return [Result.of(SECTION, name, runs, notes.get(name, job_is)) for name, runs in found.items()]


def _registry(settings: Settings) -> list[Result]:
    here = made(settings)
    version = here.client().get_model_version(*here.models["student"].removeprefix("models:/").split("/"))
    command = [*PYTHON, "-c", REGISTER, version.source, version.run_id]
    taken = [fresh(command, here.environment) for _ in range(settings.repeats)]
    return [Result.of(SECTION, "register a logged model", taken, "a new version of a model, SQLite; median of 10")]


def _compare(repeats: int) -> Result:
    folder = Path(tempfile.mkdtemp())
    uri = f"sqlite:///{folder}/mlflow.db"
    store.fill(uri, str(folder / "artifacts"), RUNS, COMPARED, folder / "artifacts")
    names = ("wall_s", "cpu_s", "ram_peak_mib")
    taken = [dict(zip(names, store.measured(uri), strict=True)) for _ in range(repeats)]
    return Result.of(
        SECTION, f"compare, {RUNS} runs, {COMPARED} of them compared", taken, "SQLite; with report and pictures"
    )
