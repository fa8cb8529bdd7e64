"""What a search costs: against a teacher that is run anew at each step, and when its processes are killed.

    python -m benchmarks.search cost --dataset DIR/banking77 --label_column category --max_train 3000 --epochs 2 \
        --student_layers 0,5 --n_trials 20 --study_name bench --teacher models:/NAME/1
    python -m benchmarks.search kill --dataset builtin:apidocs --max_train 200 --n_trials 12 --workers 2 \
        --study_name killed --teacher models:/NAME/1

Options are those of `hpo`. `cost` runs the search, unless it is finished, then trains the distilled trials again, each
twice in turn: with the cached teacher, and with the teacher run on every batch, as in a training loop written by hand;
pruned trials for as many epochs as they had. `kill` kills processes of the search with SIGKILL after random times and
gives the command again until it is done, and counts. Both print a Markdown table.
"""

import contextlib
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, cast
from unittest.mock import create_autospec

import psutil
import torch
from mlflow import MlflowClient

from kd import tracking
from kd.base.console import hushed
from kd.base.types import Pruned
from kd.commands import read
from kd.config import HpoConfig
from kd.run.data import rows_of
from kd.run.distill import planned
from kd.run.fit import learn
from kd.search.prepare import SearchPlan, options, prepare
from kd.search.retries import Attempt, counting

KILLS = 8
TRIED, WAIT_S = 20, (8.0, 40.0)


def seconds(setting: SearchPlan, params: Mapping[str, Any], epochs: int, *, cached: bool) -> float:
    """Train one distilled trial for its number of epochs, validation included; returns seconds, set-up included."""
    config = setting.config
    given = replace(options(config, "distill", params, config.seed), cache="auto" if cached else "off")
    run = create_autospec(tracking.Run, instance=True)

    def watch(quality: Mapping[str, float], epoch: int) -> None:
        if epoch >= epochs:
            raise Pruned

    start = time.perf_counter()
    with hushed(), tempfile.TemporaryDirectory() as folder:
        plan = planned(given, rows_of(config))
        with contextlib.suppress(Pruned):
            learn(plan, given, run, Path(folder), watch)
    return time.perf_counter() - start


def cost(config: HpoConfig, words: list[str]) -> dict[str, str]:
    """Run the search and return its figures."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "entrypoints.hpo", *words], check=True)
    searched = time.perf_counter() - start
    with tracking.session(config.experiment) as experiment:
        setting = prepare(config, experiment)
        search = next(one for one in setting.arms() if one.name == "distill").search
        ended = [one for one in search.attempts() if one.state in ("complete", "pruned")]
        steps = {one.number: one.last_step or config.epochs for one in search.inner.get_trials(deepcopy=False)}
        pairs = []
        for place, trial in enumerate(ended):
            number, params = trial.number, trial.params
            orders = (True, False) if place % 2 else (False, True)
            took = {way: seconds(setting, params, steps[number], cached=way) for way in orders}
            pairs.append((took[True], took[False]))
            print(f"trial {number}: cached {took[True]:.1f} s, online {took[False]:.1f} s", flush=True)
        runs = children(experiment, setting.name)
    parent = next(run for run in runs if run.data.tags["kd.stage"] == "hpo" and "hpo/teacher_rows" in run.data.metrics)
    trials = sorted((run for run in runs if "kd.trial" in run.data.tags), key=lambda run: run.info.start_time)
    outside = [
        (after.info.start_time - run.info.start_time) / 1000 - run.data.metrics["cost/train_s"]
        for run, after in pairwise(trials)
        if "cost/train_s" in run.data.metrics
    ]
    cached_s, online_s = (sum(column) for column in zip(*pairs, strict=True))
    states = Counter(one.state for one in ended)
    passes, read = (parent.data.metrics[f"hpo/teacher_{name}"] for name in ("passes", "rows"))
    return {
        "this command, finished before or not": f"{searched:.0f} s",
        "distilled trials": f"{states['complete']} complete, {states['pruned']} pruned",
        "teacher passes (all trials and seeds share one)": f"{passes:.0f}, {read:.0f} rows",
        "the same anew, cached and online": f"{cached_s:.0f} s, {online_s:.0f} s: {online_s / cached_s:.2f} times",
        "from one trial to the next, without its training and validation within": f"{median(outside):.1f} s, "
        f"at most {max(outside):.1f} s",
    }


def children(experiment: str, study: str) -> list[Any]:
    """Return the runs of a search, whatever became of them; the control's too."""
    client = MlflowClient()
    found = client.get_experiment_by_name(experiment)
    query = f"tags.`kd.study` LIKE '{study}%'"
    return list(client.search_runs([found.experiment_id], query, max_results=5000))


def kill(config: HpoConfig, words: list[str]) -> dict[str, str]:
    """Kill processes of the search at random until it is done, and count what there is."""
    draw = random.Random(config.seed)  # noqa: S311
    kills = commands = 0
    while True:
        commands += 1
        process = subprocess.Popen([sys.executable, "-m", "entrypoints.hpo", *words])
        while kills < KILLS and process.poll() is None:
            time.sleep(draw.uniform(*WAIT_S))
            family = [psutil.Process(process.pid)] if process.poll() is None else []
            family += [one for each in family for one in each.children() if "spawn" in " ".join(one.cmdline())]
            if family:
                victim = draw.choice(family)
                print(f"kill {kills}: {'leader' if victim.pid == process.pid else 'worker'}", flush=True)
                victim.kill()
                kills += 1
        if process.wait() == 0:
            break
        if commands > TRIED:
            raise RuntimeError(f"not finished after {TRIED} commands")
    with tracking.session(config.experiment) as experiment:
        setting = prepare(config, experiment)
        attempts: list[Attempt] = [one for arm in setting.arms() for one in arm.search.attempts()]
        runs = children(experiment, setting.name)
    states = Counter(one.state for one in attempts)
    per_slot = Counter(one.slot for one in attempts if one.state in ("complete", "pruned"))
    return {
        "processes killed, commands given": f"{kills}, {commands}",
        "trials asked for": str(config.n_trials),
        "complete, pruned": f"{states['complete']}, {states['pruned']}",
        "done twice": str(sum(count - 1 for count in per_slot.values())),
        "attempts that failed and were made again": str(states["failed"]),
        "left waiting or running": str(sum(one.state in ("waiting", "running") for one in counting(attempts).values())),
        "runs in MLflow left RUNNING": str(sum(run.info.status == "RUNNING" for run in runs)),
    }


def main() -> None:
    """Print a table of figures."""
    kind, words = sys.argv[1], sys.argv[2:]
    config = cast("HpoConfig", read("hpo", words))
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    figures = {"cost": cost, "kill": kill}[kind](config, words)
    print("| figure | value |\n| --- | --- |")
    print("\n".join(f"| {name} | {value} |" for name, value in figures.items()))


if __name__ == "__main__":
    main()
