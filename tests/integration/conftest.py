"""A project on tiny weights and tiny data with a store of its own, and one whole comparison shared by the tests."""

import json
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest
from mlflow import MlflowClient

from tests import tiny

REPOSITORY = Path(__file__).parents[2]
RECIPE = ("--batch_size", "8", "--learning_rate", "0.01", "--epochs", "2", "--max_length", "32")
NEUTRAL = tuple(word for word in tiny.WORDS if word not in ("good", "bad"))


@dataclass(frozen=True)
class Done:
    """An entry point that has ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Lines of stderr."""
        return [line for line in self.err.splitlines() if line.strip()]


@dataclass(frozen=True)
class Project:
    """Folder, environment, the preloaded process, and where all searches of the tests are kept."""

    folder: Path
    env: dict[str, str]
    server: "subprocess.Popen[str]"
    storage: str

    @property
    def client(self) -> MlflowClient:
        """Read the store."""
        return MlflowClient(self.env["MLFLOW_TRACKING_URI"])

    @property
    def weights(self) -> str:
        """Folder of weights that know good and bad."""
        return str(self.folder / "weights")

    @property
    def data(self) -> str:
        """Folder of train, validation and test."""
        return str(self.folder / "rows")

    def run(self, stage: str, *words: str, **env: str) -> Done:
        """Run an entry point to its end, in a fork of the preloaded process."""
        return self.ended(self.begin(stage, *words, **env))

    def begin(self, stage: str, *words: str, **env: str) -> int:
        """Begin an entry point, in a fork of the preloaded process; returns the fork's number."""
        return self._ask({"stage": stage, "words": words, "env": self.env | env, "folder": str(self.folder)})

    def ended(self, process: int) -> Done:
        """Wait for what `begin` began; of two in one folder, texts are the later one's."""
        code = self._ask({"wait": process})
        return Done(code, (self.folder / "stdout").read_text(), (self.folder / "stderr").read_text())

    def _ask(self, job: dict[str, object]) -> int:
        pipe_in, pipe_out = self.server.stdin, self.server.stdout
        assert pipe_in is not None
        assert pipe_out is not None
        print(json.dumps(job), file=pipe_in, flush=True)
        return int(pipe_out.readline())

    def start(self, *words: str, out: IO[str]) -> "subprocess.Popen[str]":
        """Start a command of this Python in a process of its own; stderr goes into stdout."""
        return subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=self.folder,
            env=self.env,
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def mlflow_run(self, entry_point: str, *words: str) -> Done:
        """`mlflow run . -e ENTRY_POINT`, options given as for the entry point itself."""
        last = dict(zip(words[::2], words[1::2], strict=True))  # mlflow refuses an option that comes twice
        options = [option for name, value in last.items() for option in ("-P", f"{name.removeprefix('--')}={value}")]
        command = ["mlflow", "run", str(REPOSITORY), "-e", entry_point, "--env-manager", "local"]
        done = subprocess.run(
            [sys.executable, "-m", *command, "--experiment-name", "kd", *options],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def runs(self, **tags: str):
        """Runs with these kd tags, oldest first."""
        query = " and ".join(f"tags.`kd.{name}` = '{value}'" for name, value in tags.items())
        return self.client.search_runs(self._experiments(), query, order_by=["attributes.start_time ASC"])

    def running(self) -> list[str]:
        """Ids of runs that were left RUNNING."""
        found = self.client.search_runs(self._experiments(), "attributes.status = 'RUNNING'")
        return [run.info.run_id for run in found]

    def versions(self) -> list[tuple[str, str]]:
        """(name, version) of everything registered."""
        return sorted((one.name, str(one.version)) for one in self.client.search_model_versions())

    def _experiments(self) -> list[str]:
        return [one.experiment_id for one in self.client.search_experiments()]


def write_rows(path: Path, count: int, seed: int, labels: tuple[str, ...] = ("bad", "good")) -> Path:
    """Write a CSV file of distinct texts in which one word tells the label."""
    draw = random.Random(seed)
    lines = ["text,label"]
    for row in range(count):
        label = labels[row % len(labels)]
        words = [*draw.choices(NEUTRAL, k=draw.randint(2, 12)), label]
        draw.shuffle(words)
        lines.append(f"{' '.join(words)} {chr(97 + row % 26)}{chr(97 + row // 26)},{label}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """Weights, data, an empty store, and the preloaded process."""
    folder = tmp_path_factory.mktemp("project")
    tiny.saved_bert(folder / "weights")
    for seed, (split, count) in enumerate((("train", 48), ("validation", 24), ("test", 24))):
        write_rows(folder / "rows" / f"{split}.csv", count, seed)
    env = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")} | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "tests" / "toys" / "site"))),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "KD_HOME": str(folder / "home"),
        "HF_HUB_OFFLINE": "1",
        "GOMP_SPINCOUNT": "0",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    for name in ("kd", "again"):
        MlflowClient(env["MLFLOW_TRACKING_URI"]).create_experiment(name, artifact_location=str(folder / "artifacts"))
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("preloaded.py"))],
        cwd=folder,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    made = Project(folder, env, server, str(folder / "searches.journal"))
    yield made
    server.communicate()


@dataclass(frozen=True)
class Compared:
    """The comparison: what `mlflow run .` printed, twice, and the runs it made."""

    first: Done
    second: Done
    parent: str
    teacher: str
    student: str
    distilled: str
    teacher_name: str
    student_name: str


def main_words(project: Project) -> tuple[str, ...]:
    """Options of the shared comparison: one teacher, one control, one distilled student."""
    return ("--dataset", project.data, "--teacher", project.weights, "--seeds", "0", *RECIPE)


@pytest.fixture(scope="session")
def compared(project) -> Compared:
    """`mlflow run .` twice."""
    first = project.mlflow_run("main", *main_words(project))
    assert first.code == 0, first.err[-3000:]
    parent = project.runs(stage="main")[-1].info.run_id
    ids = {role: project.runs(role=role)[-1].info.run_id for role in ("teacher", "student", "distilled")}
    names = sorted({name for name, _ in project.versions()}, key=len)
    second = project.mlflow_run("main", *main_words(project))
    return Compared(first, second, parent, **ids, student_name=names[0], teacher_name=names[-1])
