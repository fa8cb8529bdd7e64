"""How long `compare` takes, and how much memory, on a store of 10,000 runs.

    python -m benchmarks.store --store sqlite:///big.db --folder big
    python -m benchmarks.store --store postgresql+psycopg2://... --folder mlartifacts --through http://localhost:5000

fills the store where it has no experiment `swept` yet, compares that experiment, and prints a Markdown table. MLflow's
own client makes the schema and the experiments; the runs go straight into its tables, because one request a run would
take an hour.
"""

import argparse
import hashlib
import os
import resource
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy
from mlflow import MlflowClient
from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric, SqlParam, SqlRun, SqlTag

COMPARED, OTHER = "swept", "other"
SEEDS = 5
CLASSES = 10
EXAMPLES = 3000
DIGEST = "6f29024dc450b2124abe8b0ceefc3522"
REPOSITORY = Path(__file__).parents[1]
START = 1_700_000_000_000
IMPORTS = """
from kd.base.memory import importing
with importing():
    import kd.commands.compare
"""


@dataclass(frozen=True)
class Run:
    """A run to be stored: its place in time, and what it says of itself."""

    position: int
    name: str
    tags: dict[str, str]
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)


def fill(store: str, root: str, runs: int = 10_000, compared: int = 200, folder: Path | None = None) -> None:
    """Fill a store: `compared` runs in one experiment, the rest in another.

    Args:
        store: database URI, as SQLAlchemy takes it.
        root: URI below which runs keep their artifacts.
        runs: in all.
        compared: in the experiment that is to be compared, at least 10.
        folder: where `root` lies here; the compared runs get predictions of single examples. None gives them none.
    """
    client = MlflowClient(store)
    engine = sqlalchemy.create_engine(store)
    draws = np.random.default_rng(0)
    for name, made in ((COMPARED, list(arms(compared))), (OTHER, list(children(runs - compared)))):
        experiment = client.create_experiment(name, f"{root}/{name}")
        for start in range(0, len(made), 1000):
            _insert(engine, experiment, f"{root}/{name}", made[start : start + 1000], draws)
        if folder is not None and name == COMPARED:
            _predict(folder / name, made, draws)
    engine.dispose()


def arms(count: int) -> Iterator[Run]:
    """Make a study on five seeds, nested in one parent: two baselines, a teacher, a control, and distilled arms."""
    parent = Run(0, "main swept", {"kd.stage": "main"})
    yield parent
    nested = {"mlflow.parentRunId": parent.run_id}
    for role, name in (("trivial", "baseline majority"), ("trivial", "baseline bag of words"), ("teacher", "teacher")):
        yield Run(0, name, {**_tags(role, name, 0), **nested, "kd.label": name})
    for position in range(4, count):
        arm, seed = divmod(position - 4, SEEDS)
        role, name = ("distilled", f"distill soft T={arm}") if arm else ("student", "student")
        tags = {**_tags(role, name, seed), **nested, "kd.label": name}
        if arm:
            tags["kd.control_arm"] = _hash("student")
        yield Run(position, f"{name} · seed {seed}", tags)


def children(count: int) -> Iterator[Run]:
    """Make searches of 50 trials, each trial nested in its search; every tenth trial has scored the same test set."""
    parent = ""
    for position in range(count):
        if position % 50 == 0:
            search = Run(position, f"hpo {position // 50}", {"kd.stage": "hpo"})
            parent = search.run_id
            yield search
            continue
        tags = {**_tags("distilled", f"trial {position}", position % SEEDS), "kd.stage": "trial"}
        if position % 10:
            del tags["kd.test_scored"]
        yield Run(position, f"trial {position}", {**tags, "mlflow.parentRunId": parent})


def _tags(role: str, arm: str, seed: int) -> dict[str, str]:
    return {
        "kd.stage": {"distilled": "distill"}.get(role, role),
        "kd.role": role,
        "kd.task": "classification",
        "kd.metric": "accuracy",
        "kd.dataset": "data/intents.csv",
        "kd.dataset_digest": "be8e1ef44b66b9584055e4624603fc53",
        "kd.validation_digest": "0c1ab9ee1d10b3f9f9a67f5d8ef5a001",
        "kd.test_digest": DIGEST,
        "kd.test_scored": "true",
        "kd.seed": str(seed),
        "kd.arm": _hash(arm),
        "kd.cache_key": uuid.uuid4().hex,
        "kd.exit_reason": "finished",
        "kd.git_commit": "9f0c7a1d52d7b3a86e2d8b2f8d57a0f7f5a3f9be",
        "kd.git_dirty": "false",
        "hw.cpu": "AMD EPYC",
        "lib.torch": "2.13.0",
        "lib.transformers": "5.23.0",
    }


def _hash(words: str) -> str:
    return hashlib.sha256(words.encode()).hexdigest()[:32]


def _insert(engine: sqlalchemy.Engine, experiment: str, root: str, made: list[Run], draws: np.random.Generator) -> None:
    rows: dict[type, list[dict[str, Any]]] = {
        kind: [] for kind in (SqlRun, SqlTag, SqlParam, SqlLatestMetric, SqlMetric)
    }
    for run in made:
        at = START + 60_000 * run.position
        own = {"run_uuid": run.run_id}
        rows[SqlRun].append(
            {
                **own,
                "name": run.name,
                "source_type": "LOCAL",
                "source_name": "",
                "entry_point_name": "",
                "user_id": "user",
                "status": "FINISHED",
                "start_time": at,
                "end_time": at + 50_000,
                "source_version": "",
                "lifecycle_stage": "active",
                "artifact_uri": f"{root}/{run.run_id}/artifacts",
                "experiment_id": int(experiment),
            }
        )
        tags = {**run.tags, "mlflow.runName": run.name, "mlflow.user": "user", "mlflow.source.type": "LOCAL"}
        rows[SqlTag] += [{**own, "key": key, "value": value} for key, value in tags.items()]
        if "kd.role" not in run.tags:
            continue
        rows[SqlParam] += [{**own, "key": key, "value": value} for key, value in _params(run).items()]
        curve, last = _figures(draws)
        for name, value in last.items():
            point = {**own, "key": name, "value": value, "timestamp": at, "step": 0, "is_nan": False}
            rows[SqlLatestMetric].append(point)
            if name != "val/accuracy":
                rows[SqlMetric].append(point)
        points = [{**own, "key": "val/accuracy", "value": value, "is_nan": False} for value in curve]
        rows[SqlMetric] += [{**point, "timestamp": at + step, "step": 10 * step} for step, point in enumerate(points)]
    with engine.begin() as connection:
        for kind, values in rows.items():
            connection.execute(sqlalchemy.insert(kind), values)


def _params(run: Run) -> dict[str, str]:
    own = {"seed": run.tags["kd.seed"], "temperature": run.name.partition("T=")[2] or "2.0"}
    names = ("epochs", "batch_size", "learning_rate", "warmup_ratio", "weight_decay", "patience", "alpha", "dataset")
    return own | dict.fromkeys(names, "1")


def _figures(draws: np.random.Generator) -> tuple[list[float], dict[str, float]]:
    """Return a validation curve of eight points, and ten metrics."""
    curve = [float(value) for value in np.sort(draws.uniform(0.5, 0.9, 8))]
    accuracy = float(draws.normal(0.88, 0.01))
    return curve, {
        "val/accuracy": curve[-1],
        "test/accuracy": accuracy,
        "test/macro_f1": accuracy - 0.01,
        "test/loss": 1 - accuracy,
        "calibration/ece": 0.05,
        "fidelity/agreement": 0.93,
        "profile/latency_ms_p50": float(draws.normal(10, 1)),
        "profile/latency_ms_p95": float(draws.normal(15, 1)),
        "model/size_mib": 60.4,
        "cost/train_s": float(draws.normal(300, 10)),
    }


def _predict(root: Path, made: list[Run], draws: np.random.Generator) -> None:
    """Write predictions of the same examples for every run."""
    names = np.array([f"class {i}" for i in range(CLASSES)])
    labels = draws.integers(CLASSES, size=EXAMPLES)
    ids = [f"row:{i}" for i in range(EXAMPLES)]
    words = draws.integers(3, 40, size=EXAMPLES)
    for run in made:
        if "kd.role" in run.tags:
            given = np.where(draws.random(EXAMPLES) < 0.88, labels, draws.integers(CLASSES, size=EXAMPLES))
            table = {"example_id": ids, "group": ids, "label": names[labels], "prediction": names[given]}
            scores = {f"score:{name}": draws.random(EXAMPLES) for name in names}
            folder = root / run.run_id / "artifacts"
            folder.mkdir(parents=True)
            frame = pd.DataFrame({**table, "loss": draws.exponential(size=EXAMPLES), **scores, "words": words})
            frame.to_parquet(folder / "predictions_test.parquet", index=False)


def measured(tracking: str, *words: str) -> tuple[float, float, float]:
    """Run `compare` on the experiment in a process of its own; returns seconds, its CPU seconds and peak resident MiB.

    The peak is the highest of all processes this one has started.
    """
    return _timed(["-m", "entrypoints.compare", "--experiments", COMPARED, *words], MLFLOW_TRACKING_URI=tracking)


def _timed(words: list[str], **settings: str) -> tuple[float, float, float]:
    """Run Python with these words; returns what `measured` does."""
    env = {**os.environ, **settings, "PYTHONPATH": str(REPOSITORY)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], env=env, stdout=subprocess.DEVNULL, check=True)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu, after.ru_maxrss / 1024


def main() -> None:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True, help="database to fill")
    parser.add_argument("--folder", required=True, type=Path, help="where artifacts lie, or are to lie")
    parser.add_argument("--through", default="", help="server on that database and folder; default none")
    parser.add_argument("--runs", type=int, default=10_000, help="how many runs a new store gets; default 10000")
    parser.add_argument(
        "--compared", type=int, default=200, help="how many of them are compared; default 200, least 10"
    )
    parser.add_argument("--times", type=int, default=3, help="how often compare is measured")
    options = parser.parse_args()
    if MlflowClient(options.store).get_experiment_by_name(COMPARED) is None:
        start = time.perf_counter()
        root = "mlflow-artifacts:" if options.through else str(options.folder)
        fill(options.store, root, options.runs, options.compared, options.folder)
        print(f"filled in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    kind = options.store.partition(":")[0] + (", through a server" if options.through else "")
    print("| store | seconds | CPU seconds | of them imports | peak MiB |\n| --- | ---: | ---: | ---: | ---: |")
    for _ in range(options.times):
        _, imports, _ = _timed(["-c", IMPORTS])
        seconds, cpu, peak = measured(options.through or options.store)
        print(f"| {kind} | {seconds:.1f} | {cpu:.1f} | {imports:.1f} | {peak:.0f} |")


if __name__ == "__main__":
    main()
