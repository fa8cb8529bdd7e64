"""Carry out a plan, whether of a teacher, a student or a distilled student: train with checkpoints, evaluate, log."""

import gc
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

import pandas as pd

from kd import tracking
from kd.base.console import say
from kd.base.files import home, locked
from kd.base.hashing import fingerprint
from kd.base.ranks import is_main, leave
from kd.base.types import Followed, RunRecord, SplitName
from kd.config import FitOptions, as_params
from kd.models.precision import resolve_precision
from kd.run.checkpoints import checkpoints, discard_finished, note
from kd.run.code import code_digest
from kd.run.data import Rows, short_name
from kd.run.fit import learn, log_model, score_test
from kd.run.identity import drawn
from kd.run.measured import ARCHITECTURE, measure
from kd.run.pace import Pace
from kd.run.plan import Plan

REQUESTS_KEPT = 256
COUNT = "kd.baselines"
"""Tag of a trivial baseline: how many there are on the same rows."""


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
        profile: whether each model is profiled, by itself; commands with several measure them later, in turn.
        pace: of a command that trains several models, which says of each where it stands.
        tags: in addition to those of every training.
    """

    experiment: str
    parent: tracking.Run | None = None
    reuse: bool = False
    profile: bool = True
    pace: Pace | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


def train(plan: Plan, config: FitOptions, where: Where) -> Outcome:
    """Carry out a plan: fit, evaluate, log, profile.

    Raises:
        UserError: the training diverged, or another process runs the same training.
        Stopped: a signal arrived; a checkpoint is kept.
    """
    data = {"rows": plan.rows.train_digest, "test": plan.rows.digest("test"), "kept": config.slice_columns}
    if plan.explained:
        data["explained"] = str(plan.explained)
    if plan.control is not None and plan.teacher is not None:
        # the arm may identify a teacher that is itself a student by its arm alone
        data["teacher"] = plan.teacher.located.digest
    key = fingerprint({**plan.identity, **data, "seed": config.seed, "code": code_digest(plan.rows.task)})
    began = None
    if found := _finished(plan, config, where, key):
        outcome = Outcome(found.run_id, tracking.model_of(found.run_id), reused=True)
        if where.profile:
            measure([outcome.run_id], config)
    else:
        began = where.pace.begin(plan.title) if where.pace else None
        with started(plan, config, where.parent, key, where.tags) as (run, folder):
            for name in get_args(SplitName):
                plan.features(name)  # features that cannot be made are refused before anything is trained
            scores = {f"val/{name}": value for name, value in learn(plan, config, run, folder).items()}
            scores |= {f"test/{name}": value for name, value in score_test(plan, config, run).items()}
            metric = next(iter(plan.rows.task.directions))
            shown = (f"{part} {metric} {scores[f'{part}/{metric}']:.3f}" for part in ("val", "test"))
            say(f"{plan.title}: {', '.join(shown)}")
            outcome = Outcome(run.run_id, log_model(plan, run), reused=False)
            if where.profile:
                measure([outcome.run_id], config)
    if where.pace:
        where.pace.end(None if plan.role == "teacher" else began)
    log_baselines(plan.rows, config, where)
    return outcome


def _finished(plan: Plan, config: FitOptions, where: Where, key: str) -> RunRecord | None:
    """Return the run of the same training that is used instead of training again, if there is one.

    Without `where.reuse` that is one of the same command that was killed before it had registered the model.

    Raises:
        Followed: there is one, and this is not the main process, which alone continues.
    """
    if where.reuse:
        found = tracking.runs([where.experiment], f"tags.`kd.cache_key` = '{key}'")
    elif config.resume == "never":
        return None
    else:
        alone = f"tags.`kd.cache_key` = '{key}' and tags.`kd.stage` = '{plan.stage}'"
        made = tracking.runs([where.experiment], alone)
        found = [run for run in made if not {tracking.PARENT, tracking.REGISTERED} & run.tags.keys()]
    if not found:
        return None
    if not is_main():
        raise Followed
    leave()
    discard_finished()
    if not where.reuse:
        say(f"{plan.title} was trained before, in run {found[-1].run_id}, and is registered now.")
        if tracking.under_mlflow_run():
            with tracking.run(f"{plan.title}, registered", {"kd.stage": "register", "kd.registers": found[-1].run_id}):
                pass
    return found[-1]


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
    with checkpoints(key, config.resume) as (folder, interrupted):
        with tracking.run(plan.title, {**_tags(plan, config, key), **tags}, parent, interrupted) as run:
            note(folder, run)
            run.log_params({**as_params(config), **derived})
            _log_inputs(run, plan, config)
            yield run, folder
        shutil.rmtree(folder)  # the run first: without its checkpoint it could not be finished


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
        ARCHITECTURE: fingerprint({"class": type(plan.model).__name__, **shape, "fed": _fed(plan)}),
        "kd.teacher": plan.teacher.located.uri if plan.teacher else "",
        "kd.teacher_labels": plan.teacher_labels,
        "kd.control_arm": fingerprint(plan.control) if plan.control is not None else "",
    }
    return {name: value for name, value in tags.items() if value}


def _fed(plan: Plan) -> list[object]:
    """Return what decides the length of an input beside its text."""
    return [plan.rows.task.serving(), plan.rows.task.processor_digest(plan.processor)]


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
    run.log_dataset(name, rows.digest("validation"), "validation")
    run.log_dataset(name, rows.digest("test"), "test")
    if rows.transfer_digest:
        run.log_dataset("transfer", rows.transfer_digest, "transfer")
    sample = rows.splits.validation.select(range(min(REQUESTS_KEPT, len(rows.splits.validation))))
    run.log_table(rows.task.requests(sample), tracking.REQUESTS)


def log_baselines(rows: Rows, config: FitOptions, where: Where) -> None:
    """Log the task's trivial baselines, which any model must beat, as runs of role `trivial`.

    They are logged once in an experiment for each test set and training data.
    """
    arm = {"data": rows.full_digest, "max_train": config.max_train, "test": rows.digest("test")}
    arm |= drawn(config, rows)
    key = fingerprint({**arm, "rows": rows.train_digest})
    locks = home() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with locked(locks / f"baselines-{key[:16]}.lock"):
        made = tracking.runs([where.experiment], f"tags.`kd.role` = 'trivial' and tags.`kd.cache_key` = '{key}'")
        if made and len(made) >= int(made[0].tags.get(COUNT, 1)):
            return
        known = {run.label for run in made}  # before a kill
        found = list(rows.task.baselines(replace(rows.splits, train=rows.train)))
        for name, tables in found:
            tags = {
                "kd.stage": "baseline",
                "kd.label": f"baseline {name}",
                "kd.role": "trivial",
                **_tags_of_rows(rows, config),
                "kd.arm": fingerprint({**arm, "baseline": name}),
                "kd.cache_key": key,
                "kd.test_scored": "true",
                COUNT: str(len(found)),
            }
            if tags["kd.label"] not in known:
                _log_baseline(rows, config, where, tags, tables)


def _log_baseline(
    rows: Rows, config: FitOptions, where: Where, tags: Mapping[str, str], tables: Mapping[str, pd.DataFrame]
) -> None:
    with tracking.run(tags["kd.label"], tags, where.parent) as run:
        own = as_params(config.task_options)
        run.log_params({**own, "max_train": config.max_train, "labelled": config.labelled})
        metrics = dict(rows.task.diagnostics(None, tables["test"]))
        for prefix, split in (("val", "validation"), ("test", "test")):
            metrics |= {f"{prefix}/{each}": value for each, value in rows.task.quality(tables[split]).items()}
            run.log_table(tables[split], f"predictions_{split}.parquet")
        run.log_metrics(metrics)
