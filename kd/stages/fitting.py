"""What teacher, student and distill have in common: train, evaluate, log, profile, register."""

import gc
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kd import packaging, tracking
from kd.config import FitOptions
from kd.evaluation import logits
from kd.precision import autocast_dtype, resolve_precision
from kd.signals import TeacherSignal
from kd.stages.baselines import log_baselines
from kd.stages.checkpoints import checkpoints
from kd.stages.console import say
from kd.stages.identity import code_digest, fingerprint
from kd.stages.rows import Rows, predictions, short_name
from kd.stages.serving import log_served, measure_apart
from kd.stages.weights import Located
from kd.training import Fitted, Job, Recipe, fit
from kd.types import ObjectiveTerm, Role

REQUESTS_KEPT = 256


@dataclass(frozen=True)
class Plan:
    """One training, decided.

    Attributes:
        stage: entry point's name.
        role: teacher, student or distilled.
        title: run name.
        model: as initialised.
        tokenizer: the model's.
        rows: what it learns and is scored on.
        identity: what makes the learned weights what they are, seed left out; hashed to the arm.
        control: the same for the arm's control; None where the arm is a control or a teacher.
        terms: comparisons with the teacher.
        alpha: their weight.
        teacher: the teacher's files and URI; None for a teacher.
        signal: gives the teacher's outputs for "train", "validation" or "test"; None for a teacher.
    """

    stage: str
    role: Role
    title: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    rows: Rows
    identity: Mapping[str, Any]
    control: Mapping[str, Any] | None
    terms: tuple[ObjectiveTerm, ...]
    alpha: float
    teacher: Located | None
    signal: Callable[[str], TeacherSignal] | None


@dataclass(frozen=True)
class Outcome:
    """What a training left behind: its run, its model, and whether it had been done before."""

    run_id: str
    model: str
    reused: bool


@dataclass(frozen=True)
class Where:
    """Where runs go: the experiment, the parent run, and whether a finished run of the same plan will do."""

    experiment: str
    parent: tracking.Run | None = None
    reuse: bool = False


def train(plan: Plan, config: FitOptions, where: Where) -> Outcome:
    """Carry out a plan: fit, evaluate, log, profile.

    Raises:
        UserError: the training diverged, or another process is at the same training.
        Stopped: a signal came; a checkpoint is kept.
    """
    data = {"rows": plan.rows.train_digest, "test": plan.rows.test_digest, "kept": config.slice_columns}
    key = fingerprint({**plan.identity, **data, "seed": config.seed, "code": code_digest()})
    found = tracking.runs([where.experiment], f"tags.`kd.cache_key` = '{key}'") if where.reuse else []
    if found:
        outcome = Outcome(found[-1].run_id, tracking.model_of(found[-1].run_id), reused=True)
        if config.latency_budget_ms or config.ram_budget_mib or config.size_budget_mib:
            measure_apart(outcome.model, outcome.run_id, config)  # its budgets may have been others
    else:
        outcome = _carry_out(plan, config, where.parent, key)
    log_baselines(plan.rows, config, where)
    return outcome


def _carry_out(plan: Plan, config: FitOptions, parent: tracking.Run | None, key: str) -> Outcome:
    with (
        checkpoints(key, config.resume) as kept,
        tracking.run(plan.title, _tags(plan, config, key), parent, kept.run_id) as run,
    ):
        kept.belong_to(run.run_id)
        run.log_params({**asdict(config), "precision": resolve_precision(config.precision), **_layers(plan)})
        _log_inputs(run, plan, config)
        fitted = _fit(plan, config, run, kept.folder)
        _evaluate(plan, config, run, fitted)
        model = _log_model(plan, config, run)
        measure_apart(model, run.run_id, config)
        kept.discard()
    gc.collect()  # a Trainer is a circle of references, which would keep its model and optimiser
    return Outcome(run.run_id, model, reused=False)


def _layers(plan: Plan) -> dict[str, str]:
    """Return the source layers (0-based) the student started from, as a parameter."""
    layers = plan.identity.get("layers")
    return {} if layers is None else {"layers": ",".join(map(str, layers)) if isinstance(layers, list) else str(layers)}


def _tags(plan: Plan, config: FitOptions, key: str) -> dict[str, str]:
    tags = {
        "kd.stage": plan.stage,
        "kd.role": plan.role,
        "kd.task": config.task,
        "kd.metric": next(iter(plan.rows.task.directions)),
        "kd.dataset": config.dataset,
        "kd.dataset_digest": plan.rows.train_digest,
        "kd.validation_digest": plan.rows.validation_digest,
        "kd.test_digest": plan.rows.test_digest,
        "kd.seed": str(config.seed),
        "kd.arm": fingerprint(plan.identity),
        "kd.cache_key": key,
    }
    if plan.teacher is not None:
        tags["kd.teacher"] = plan.teacher.uri
    if plan.control is not None:
        tags["kd.control_arm"] = fingerprint(plan.control)
    return tags


def _log_inputs(run: tracking.Run, plan: Plan, config: FitOptions) -> None:
    rows = plan.rows
    run.log_dataset(short_name(config.dataset), rows.train_digest, "training")
    run.log_dataset(short_name(config.dataset), rows.validation_digest, "validation")
    run.log_dataset(short_name(config.dataset), rows.test_digest, "test")
    sample = rows.splits.validation.select(range(min(REQUESTS_KEPT, len(rows.splits.validation))))
    run.log_table(rows.task.requests(sample), tracking.REQUESTS)


def _encoded(plan: Plan, split: Dataset, config: FitOptions) -> Dataset:
    return plan.rows.task.encode(split, plan.tokenizer, config.max_length)


def _fit(plan: Plan, config: FitOptions, run: tracking.Run, folder: Path) -> Fitted:
    task = plan.rows.task
    metric, higher = next(iter(task.directions.items()))
    precision = resolve_precision(config.precision)
    collate = task.collate(plan.tokenizer)
    validation = _encoded(plan, plan.rows.splits.validation, config)

    def validate(model: Any) -> dict[str, float]:
        scores = logits(model, validation, collate, 2 * config.batch_size, autocast_dtype(precision))
        return task.quality(task.predictions(plan.rows.splits.validation, scores))

    teacher = None
    if plan.terms and plan.signal is not None:
        start = time.perf_counter()
        teacher = plan.signal("train")
        if not teacher.from_cache:
            run.log_metrics({"cost/teacher_s": time.perf_counter() - start})
    job = Job(
        model=plan.model,
        rows=_encoded(plan, plan.rows.train, config),
        collate=collate,
        masks=task.masks,
        loss=task.loss,
        terms=plan.terms,
        alpha=plan.alpha,
        teacher=teacher,
        validate=validate,
        report=run.log_metrics,
        folder=folder,
        title=plan.title,
    )
    recipe = Recipe(
        epochs=config.epochs,
        batch_size=config.batch_size,
        accumulation=config.gradient_accumulation,
        learning_rate=config.learning_rate,
        warmup_ratio=config.warmup_ratio,
        weight_decay=config.weight_decay,
        patience=config.patience,
        precision=precision,
        seed=config.seed,
        metric=metric,
        higher_is_better=higher,
    )
    fitted = fit(job, recipe)
    for warning in fitted.warnings:
        say(f"Warning: {warning}")
    return fitted


def _evaluate(plan: Plan, config: FitOptions, run: tracking.Run, fitted: Fitted) -> None:
    """Score validation and test once with the best checkpoint, in float32 as it is served."""
    task, splits = plan.rows.task, plan.rows.splits
    collate = task.collate(plan.tokenizer)
    metrics = {}
    if fitted.examples_per_s is not None:
        metrics["cost/examples_per_s"] = fitted.examples_per_s
    if not fitted.resumed_step:  # what an interrupted process had spent was not measured
        metrics["cost/train_s"] = fitted.seconds
    curves = {}
    for prefix, name, split in (("val", "validation", splits.validation), ("test", "test", splits.test)):
        scores = logits(plan.model, _encoded(plan, split, config), collate, 2 * config.batch_size)
        table = predictions(config, task, split, scores)
        quality = {f"{prefix}/{metric}": value for metric, value in task.quality(table).items()}
        if name == "validation":
            curves = quality
        else:
            metrics |= quality
            metrics |= task.calibration(table)
            if plan.signal is not None:
                teachers = task.predictions(split, np.asarray(plan.signal("test").logits))
                metrics |= task.fidelity(table, teachers)
        run.log_table(table, f"predictions_{name}.parquet")
    run.log_metrics(curves, step=fitted.steps)  # the curve's last point is the checkpoint that was kept
    run.log_metrics(metrics)
    run.set_tags({"kd.test_scored": "true"})
    shown = {name: value for name, value in (curves | metrics).items() if name.startswith(("val/", "test/"))}
    say(f"{plan.title}: " + ", ".join(f"{name} {value:.3f}" for name, value in shown.items()))


def _log_model(plan: Plan, config: FitOptions, run: tracking.Run) -> str:
    task = plan.rows.task
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "weights"
        plan.model.to("cpu")
        packaging.save(folder, plan.model, plan.tokenizer, {**task.serving(), "max_length": config.max_length})
        return log_served(run, task, plan.rows.splits.validation, folder)
