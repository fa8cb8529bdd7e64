"""What is done with a plan: train it, score it, and log its model."""

import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

from kd import tracking
from kd.base.console import say
from kd.base.types import EncodedRows, SplitName
from kd.config import FitOptions
from kd.data.encoded import ChosenRows
from kd.evaluation.predict import logits
from kd.models.precision import autocast_dtype, resolve_precision
from kd.run.data import predictions
from kd.run.encode import encode
from kd.run.fidelity import inside
from kd.run.plan import Plan
from kd.run.transfer import trusted_rows
from kd.serving import package
from kd.serving.measure import log_served
from kd.training.loop import Fitted, Job, Recipe, Watch, fit

VALIDATED = "predictions_validation.parquet"


def learn(
    plan: Plan, config: FitOptions, run: tracking.Run, folder: Path, watch: Watch | None = None
) -> dict[str, float]:
    """Train `plan.model`, and score its best checkpoint on validation in float32, as it is served.

    Args:
        plan: the training.
        config: its options.
        run: takes curves, cost and predictions.
        folder: for checkpoints.
        watch: is told each validation within the training, and may end it by raising; there is no bar then.

    Returns:
        The task's metrics on validation, by their own names.
    """
    fitted = _fit(plan, config, run, folder, watch)
    metrics = {}
    if fitted.examples_per_s is not None:
        metrics["cost/examples_per_s"] = fitted.examples_per_s
    if not fitted.resumed_step:  # what an interrupted process had spent was not measured
        metrics["cost/train_s"] = fitted.seconds
    table = _scored(plan, config, "validation")
    quality = plan.rows.task.quality(table)
    run.log_table(table, VALIDATED)
    # the curve's last point is the checkpoint that was kept
    run.log_metrics({f"val/{name}": value for name, value in quality.items()}, step=fitted.steps)
    run.log_metrics(metrics)
    return quality


def _fit(plan: Plan, config: FitOptions, run: tracking.Run, folder: Path, watch: Watch | None) -> Fitted:
    task = plan.rows.task
    metric, higher = next(iter(task.directions.items()))
    precision = resolve_precision(config.precision)
    collate = task.collate(plan.tokenizer)
    validation = encode(config, plan.rows, "validation", plan.tokenizer)

    def validate(model: Any) -> dict[str, float]:
        scores = logits(model, validation, collate, 2 * config.batch_size, autocast_dtype(precision))
        return task.quality(task.predictions(plan.rows.splits.validation, scores))

    teacher = None
    if plan.terms and plan.signal is not None:
        start = time.perf_counter()
        teacher = plan.signal("train", plan.contents)
        if teacher.computed:
            run.log_metrics({"cost/teacher_s": time.perf_counter() - start})
    rows: EncodedRows = encode(config, plan.rows, "train", plan.tokenizer)
    used = {"labelled_rows": len(plan.rows.train)}
    if plan.rows.transfer is not None:
        kept = trusted_rows(plan, config.seed)
        rows, used = ChosenRows(rows, kept), {**used, "transfer_rows": len(kept) - len(plan.rows.train)}
    run.log_params(used)
    job = Job(
        model=plan.model,
        rows=rows,
        collate=collate,
        masks=task.masks,
        loss=task.loss,
        terms=plan.terms,
        weights=plan.weights,
        alpha=plan.alpha,
        teacher=teacher,
        validate=validate,
        report=run.log_metrics,
        watch=watch,
        folder=folder,
        title="" if watch else plan.title,
        transfer=plan.rows.transfer is not None,
    )
    fitted = fit(job, _recipe(config, metric, higher))
    run.log_params({"steps": fitted.steps})
    for warning in fitted.warnings:
        say(f"Warning: {warning}")
    return fitted


def _recipe(config: FitOptions, metric: str, higher: bool) -> Recipe:
    return Recipe(
        epochs=config.epochs,
        batch_size=config.batch_size,
        accumulation=config.gradient_accumulation,
        learning_rate=config.learning_rate,
        warmup_ratio=config.warmup_ratio,
        weight_decay=config.weight_decay,
        patience=config.patience,
        precision=resolve_precision(config.precision),
        seed=config.seed,
        metric=metric,
        higher_is_better=higher,
        checkpoint_every_s=config.checkpoint_every_s,
        epoch_rows=config.epoch_rows,
    )


def score_test(plan: Plan, config: FitOptions, run: tracking.Run) -> dict[str, float]:
    """Score test once with the trained `plan.model`, in float32 as it is served, also against its teacher.

    How far its scores should be tempered is fitted on the predictions on validation that `run` has.
    """
    task, test = plan.rows.task, plan.rows.splits.test
    table = _scored(plan, config, "test")
    quality = task.quality(table)
    metrics = {f"test/{name}": value for name, value in quality.items()}
    metrics |= task.diagnostics(tracking.table(run.run_id, VALIDATED), table)
    if plan.signal is not None:
        metrics |= task.fidelity(table, task.predictions(test, plan.signal("test").all_logits()))
    metrics |= inside(plan, config)
    run.log_table(table, "predictions_test.parquet")
    run.log_metrics(metrics)
    run.set_tags({"kd.test_scored": "true"})
    return quality


def _scored(plan: Plan, config: FitOptions, name: SplitName) -> pd.DataFrame:
    task = plan.rows.task
    rows = encode(config, plan.rows, name, plan.tokenizer)
    scores = logits(plan.model, rows, task.collate(plan.tokenizer), 2 * config.batch_size)
    return predictions(config, task, plan.rows.split(name), scores)


def log_model(plan: Plan, config: FitOptions, run: tracking.Run) -> str:
    """Log the trained model as it is served; returns its URI."""
    task = plan.rows.task
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "weights"
        save(plan, config, folder)
        return log_served(run, task, plan.rows.splits.validation, folder)


def save(plan: Plan, config: FitOptions, folder: Path) -> None:
    """Write the model into `folder` as it is served."""
    plan.model.to("cpu")
    settings = {**plan.rows.task.serving(), "max_length": config.max_length}
    package.save(folder, plan.model, plan.tokenizer, settings)
