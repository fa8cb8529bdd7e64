"""kd itself, through the very stage that `distill` and `student` run.

python -m benchmarks.peers.ours FOLDER --teacher none|online|cold|warm --precision auto|fp32|bf16 [--trials N]

`none` is the control. `cold` fills the cache within the timed region, `warm` before it. Validation is a number that
rises, for no contender validates; what else the stage does by default stays in, such as a checkpoint an epoch. The
clock stops where the student is trained: scoring it afterwards is the stage's own.
"""

import argparse
import itertools
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import create_autospec, patch

from datasets import Dataset

from benchmarks.peers.common import Trained, Trio, Workload, load_models, measure, seconds
from kd import tracking
from kd.base.console import hushed
from kd.base.types import OUTPUTS, Objective, Splits
from kd.config import DistillConfig, FitOptions
from kd.data.digests import digest
from kd.objectives import Comparison
from kd.objectives.distributions import soft_kl
from kd.run import fit as learning
from kd.run.data import Rows
from kd.run.encode import encoder
from kd.run.locate import Loaded, Located, locate
from kd.run.plan import Plan
from kd.run.signals import TeacherSignals
from kd.tasks.classification.options import ClassificationOptions
from kd.tasks.classification.task import Classification
from kd.teacher.signal import TeacherSignal
from kd.training.loop import Fitted, Job, fit


def config_of(workload: Workload, teacher: str, precision: str) -> DistillConfig:
    """Return the options of `distill` for a workload."""
    return DistillConfig(
        dataset="bench",
        teacher=str(workload.folder / "teacher"),
        student_layers="0,5",
        epochs=workload.epochs,
        batch_size=workload.batch_size,
        learning_rate=workload.learning_rate,
        warmup_ratio=workload.warmup_ratio,
        weight_decay=workload.weight_decay,
        task_options=ClassificationOptions(max_length=workload.max_length),
        temperature=workload.temperature,
        alpha=workload.alpha,
        seed=workload.seed,
        precision=precision,  # type: ignore[arg-type]
        cache="off" if teacher == "online" else "auto",
    )


def plan_of(config: DistillConfig, workload: Workload, trio: Trio, located: Located, *, guided: bool) -> Plan:
    """Return the training as `distill` or `student` would decide it, from texts and models that are in memory."""
    names = tuple(trio.teacher.config.id2label[i] for i in range(trio.teacher.config.num_labels))
    numbers = list(map(str, range(len(workload.texts))))
    columns = {"text": workload.texts, "label": [names[i] for i in workload.labels]}
    train = Dataset.from_dict({**columns, "example_id": numbers, "group": numbers})
    few = train.select(range(2))
    task = Classification("text", "", "label", workload.max_length, names)
    all_of, few_of = (digest(part, ("text", "label")) for part in (train, few))
    rows = Rows(
        task,
        Splits(train, few, few, ()),
        train,
        all_of,
        all_of,
        few_of,
        few_of,
        dict.fromkeys(("validation", "test"), few_of),
    )
    teacher = Loaded(located, trio.teacher, trio.tokenizer)
    return Plan(
        stage="distill",
        role="distilled",
        method="bench",
        start="student",
        seed=config.seed,
        model=trio.student,
        processor=trio.tokenizer,
        rows=rows,
        features=encoder(config, rows, trio.tokenizer),
        identity={},
        objective=Objective((Comparison("soft", soft_kl, (config.temperature,)),) if guided else (), {}, config.alpha),
        teacher=teacher,
        signals=TeacherSignals(config, rows, teacher),
    )


@dataclass(frozen=True)
class Counted(TeacherSignals):
    """What a teacher says, and how many training features it ran over each time, to fill the cache."""

    computed: list[int] = field(default_factory=list)

    def train(self, contents: tuple[str, ...] = (OUTPUTS,)) -> TeacherSignal:
        """Return its outputs over the training features."""
        found = super().train(contents)
        self.computed.append(found.computed)
        return found


@contextmanager
def watched() -> Iterator[list[tuple[Fitted, int, float]]]:
    """Let the stage fit without validation; yields what was fitted, rows seen, and when it was done."""
    done: list[tuple[Fitted, int, float]] = []

    def unvalidated(job: Job, options: FitOptions) -> Fitted:
        seen = 0

        def collate(features: list[dict[str, Any]]) -> Any:
            nonlocal seen
            seen += len(features)
            return job.collate(features)

        rising = itertools.count()  # the last checkpoint is the best, as the others' last state is
        metric = job.metric[0]
        fitted = fit(replace(job, validate=lambda model: {metric: float(next(rising))}, collate=collate), options)
        done.append((fitted, seen, time.perf_counter()))
        return fitted

    with patch.object(learning, "fit", unvalidated), hushed():
        yield done


def train(workload: Workload, trio: Trio, scratch: str, teacher: str, precision: str, located: Located) -> Trained:
    """Train as the stage does."""
    config = config_of(workload, teacher, precision)
    run = create_autospec(tracking.Run, instance=True)
    started = None
    if teacher == "warm":
        before = plan_of(config, workload, trio, located, guided=True)
        assert before.signals is not None
        before.signals.train()
        started = time.perf_counter()
    plan = plan_of(config, workload, trio, located, guided=teacher != "none")
    assert plan.teacher is not None
    counted = Counted(config, plan.rows, plan.teacher)
    with watched() as done:
        learning.learn(replace(plan, signals=counted), config, run, Path(scratch))
    fitted, seen, ended = done[0]
    rows = {"none": 0, "online": seen}.get(teacher, sum(counted.computed))
    return Trained(fitted.steps, seen, rows, started, ended)


def trials(workload: Workload, trio: Trio, teacher: str, precision: str, located: Located, count: int) -> None:
    """Train `count` times in this process, as a search does, with other seeds, and print the seconds."""
    start = {name: value.clone() for name, value in trio.student.state_dict().items()}
    contender = partial(train, teacher=teacher, precision=precision, located=located)
    seconds(contender, workload.small(), trio)
    taken, rows = [], 0
    for seed in range(count):
        trio.student.load_state_dict(start)
        wall_s, trained = seconds(contender, replace(workload, seed=seed), trio)
        taken.append(wall_s)
        rows += trained.teacher_rows
    print(json.dumps({"first_s": taken[0], "later_s": median(taken[1:]), "all_s": sum(taken), "teacher_rows": rows}))


def main() -> None:
    """Measure, with an empty cache of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--teacher", choices=("none", "online", "cold", "warm"), required=True)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--trials", type=int, default=0)
    options = parser.parse_args()
    workload = Workload.load(options.folder)
    located = locate(str(workload.folder / "teacher"), "teacher")
    with tempfile.TemporaryDirectory() as home:
        os.environ["KD_HOME"] = home
        given = {"teacher": options.teacher, "precision": options.precision, "located": located}
        if options.trials:
            trials(workload, load_models(workload), **given, count=options.trials)
        else:
            measure(partial(train, **given), workload, load_models(workload))


if __name__ == "__main__":
    main()
