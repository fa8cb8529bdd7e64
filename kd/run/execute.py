"""Carry out a plan, whether of a teacher, a student or a distilled student: train with checkpoints, evaluate, log."""

import gc
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

from filelock import FileLock, Timeout

from kd import tracking
from kd.base.budgets import budgets_of
from kd.base.console import say
from kd.base.files import home
from kd.base.hashing import fingerprint
from kd.base.ranks import from_main, is_main
from kd.base.types import ResumeName, SplitName, UserError
from kd.config import FitOptions, as_params
from kd.models.precision import resolve_precision
from kd.run.data import Rows, short_name
from kd.run.fit import learn, log_model, score_test
from kd.run.identity import code_digest, drawn
from kd.run.plan import Plan
from kd.serving.measure import is_profiled, measure_apart

REQUESTS_KEPT = 256


@dataclass(frozen=True)
class Outcome:
    """The result of a training: its run, its model, and whether it had been done before."""

    run_id: str
    model: str
    reused: bool


@dataclass(frozen=True)
class Where:
    """Where runs are logged.

    Attributes:
        experiment: its name.
        parent: run they are nested in.
        reuse: whether a finished run of the same plan is used instead of training again.
        profile: whether each model is profiled.
        tags: in addition to those of every training.
    """

    experiment: str
    parent: tracking.Run | None = None
    reuse: bool = False
    profile: bool = True
    tags: Mapping[str, str] = field(default_factory=dict)


def train(plan: Plan, config: FitOptions, where: Where) -> Outcome:
    """Carry out a plan: fit, evaluate, log, profile.

    Raises:
        UserError: the training diverged, or another process runs the same training.
        Stopped: a signal arrived; a checkpoint is kept.
    """
    data = {"rows": plan.rows.train_digest, "test": plan.rows.test_digest, "kept": config.slice_columns}
    if plan.explained:
        data["explained"] = str(plan.explained)
    if plan.control is not None and plan.teacher is not None:
        # the arm may identify a teacher that is itself a student by its arm alone
        data["teacher"] = plan.teacher.located.digest
    key = fingerprint({**plan.identity, **data, "seed": config.seed, "code": code_digest(plan.rows.task)})
    found = tracking.runs([where.experiment], f"tags.`kd.cache_key` = '{key}'") if where.reuse else []
    if found:
        outcome = Outcome(found[-1].run_id, tracking.model_of(found[-1].run_id), reused=True)
        if where.profile and (budgets_of(config) or not is_profiled(found[-1].metrics)):  # budgets may differ
            measure_apart(outcome.model, outcome.run_id, config)
    else:
        with started(plan, config, where.parent, key, where.tags) as (run, folder):
            for name in get_args(SplitName):
                plan.features(name)  # features that cannot be made are refused before anything is trained
            scores = {f"val/{name}": value for name, value in learn(plan, config, run, folder).items()}
            scores |= {f"test/{name}": value for name, value in score_test(plan, config, run).items()}
            say(f"{plan.title}: {', '.join(f'{name} {value:.3f}' for name, value in scores.items())}")
            outcome = Outcome(run.run_id, log_model(plan, run), reused=False)
            if where.profile:
                measure_apart(outcome.model, outcome.run_id, config)
    log_baselines(plan.rows, config, where)
    return outcome


@contextmanager
def started(
    plan: Plan, config: FitOptions, parent: tracking.Run | None, key: str, tags: Mapping[str, str]
) -> Iterator[tuple[tracking.Run, Path]]:
    """Open the run of a training, or continue an interrupted one; yields it and the folder for checkpoints.

    `key` identifies the training: a second process with the same key is refused. `tags` come in addition to those of
    every training, or in their place.
    """
    gc.collect()  # the last Trainer is a cycle of references, which would keep its model and optimiser
    layers = plan.identity.get("layers", "")  # source layers (0-based) that the student starts from
    derived = {
        "precision": resolve_precision(config.precision),
        "layers": ",".join(map(str, layers)) if isinstance(layers, list) else layers,
    }
    with (
        _checkpoints(key, config.resume) as (folder, interrupted),
        tracking.run(plan.title, {**_tags(plan, config, key), **tags}, parent, interrupted) as run,
    ):
        if is_main():  # so that a later process can continue the run
            record = {"run_id": run.run_id, "store": tracking.tracking_uri()}
            (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
        run.log_params({**as_params(config), **derived})
        _log_inputs(run, plan, config)
        yield run, folder
        shutil.rmtree(folder)


@contextmanager
def _checkpoints(key: str, resume: ResumeName) -> Iterator[tuple[Path, str]]:
    """Lock the checkpoint folder of a training; yields it and the interrupted run that it continues, or empty.

    Raises:
        UserError: another process runs the same training, or the folder cannot be written.
    """
    folder = home() / "checkpoints" / key
    lock = FileLock(folder.with_suffix(".lock"))

    def begin() -> tuple[Path, str]:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError(
                "the same training is running in another process: wait for it, or give another seed"
            ) from error
        except OSError as error:
            raise UserError(
                f"KD_HOME={str(home())!r} cannot be written ({error.strerror}): set KD_HOME to a folder that can"
            ) from error
        return folder, _interrupted_run(folder, resume)

    try:
        yield from_main(begin)
    finally:
        lock.release()


def _interrupted_run(folder: Path, resume: ResumeName) -> str:
    record: dict[str, str] = {}
    with suppress(OSError, ValueError):
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    here = record.get("store") == tracking.tracking_uri() and tracking.status(record["run_id"])
    run_id = record["run_id"] if here else ""
    if resume == "auto" and list(folder.glob("checkpoint-*")):
        say(f"Continuing an interrupted training from its last checkpoint{'' if run_id else ' (its run is gone)'}.")
        return run_id
    if run_id:
        tracking.abandon(run_id)
    shutil.rmtree(folder)
    folder.mkdir()
    return ""


def _tags(plan: Plan, config: FitOptions, key: str) -> dict[str, str]:
    shape = json.loads(plan.model.config.to_json_string(use_diff=False))
    for origin in ("_name_or_path", "transformers_version"):  # models of one shape cost the same
        shape.pop(origin, None)
    tags = {
        "kd.stage": plan.stage,
        "kd.label": plan.label,
        "kd.role": plan.role,
        **_tags_of_rows(plan.rows, config),
        "kd.arm": fingerprint(plan.identity),
        "kd.cache_key": key,
        "kd.architecture": fingerprint({"class": type(plan.model).__name__, **shape}),
        "kd.teacher": plan.teacher.located.uri if plan.teacher else "",
        "kd.teacher_labels": plan.teacher_labels,
        "kd.control_arm": fingerprint(plan.control) if plan.control is not None else "",
    }
    return {name: value for name, value in tags.items() if value}


def _tags_of_rows(rows: Rows, config: FitOptions) -> dict[str, str]:
    return {
        "kd.task": config.task,
        "kd.metric": next(iter(rows.task.directions)),
        "kd.dataset": config.dataset,
        "kd.dataset_digest": rows.train_digest,
        "kd.validation_digest": rows.validation_digest,
        "kd.test_digest": rows.test_digest,
        "kd.seed": str(config.seed),
    }


def _log_inputs(run: tracking.Run, plan: Plan, config: FitOptions) -> None:
    rows, name = plan.rows, short_name(config.dataset)
    run.log_dataset(name, rows.train_digest, "training")
    run.log_dataset(name, rows.validation_digest, "validation")
    run.log_dataset(name, rows.test_digest, "test")
    if rows.transfer_digest:
        run.log_dataset("transfer", rows.transfer_digest, "transfer")
    sample = rows.splits.validation.select(range(min(REQUESTS_KEPT, len(rows.splits.validation))))
    run.log_table(rows.task.requests(sample), tracking.REQUESTS)


def log_baselines(rows: Rows, config: FitOptions, where: Where) -> None:
    """Log the task's trivial baselines, which any model must beat, as runs of role `trivial`.

    They are logged once in an experiment for each test set and training data.
    """
    arm = {"data": rows.full_digest, "max_train": config.max_train, "test": rows.test_digest}
    arm |= drawn(config, rows)
    key = fingerprint({**arm, "rows": rows.train_digest})
    if tracking.runs([where.experiment], f"tags.`kd.role` = 'trivial' and tags.`kd.cache_key` = '{key}'"):
        return
    task = rows.task
    for name, tables in task.baselines(replace(rows.splits, train=rows.train)):
        tags = {
            "kd.stage": "baseline",
            "kd.label": f"baseline {name}",
            "kd.role": "trivial",
            **_tags_of_rows(rows, config),
            "kd.arm": fingerprint({**arm, "baseline": name}),
            "kd.cache_key": key,
            "kd.test_scored": "true",
        }
        with tracking.run(tags["kd.label"], tags, where.parent) as run:
            run.log_params({"max_train": config.max_train, "labelled": config.labelled})
            metrics = dict(task.diagnostics(None, tables["test"]))
            for prefix, split in (("val", "validation"), ("test", "test")):
                metrics |= {f"{prefix}/{each}": value for each, value in task.quality(tables[split]).items()}
                run.log_table(tables[split], f"predictions_{split}.parquet")
            run.log_metrics(metrics)
