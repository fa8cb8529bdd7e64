"""The steps of a plan: train the model, score it, and log it."""

import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from kd import tracking
from kd.base.console import say
from kd.base.disk import temporary
from kd.base.ranks import is_main, leave
from kd.base.task import Filters
from kd.base.types import Features, Followed, SplitName, UserError
from kd.config import DistillConfig, FitOptions
from kd.data.encoded import ChosenRows
from kd.evaluation.predict import answers
from kd.models.precision import autocast_dtype, resolve_precision
from kd.run.data import predictions
from kd.run.fidelity import inside
from kd.run.plan import Plan
from kd.serving import package
from kd.serving.log import log_served
from kd.training.loop import Fitted, Job, Watch, fit

VALIDATED = "predictions_validation.parquet"


def learn(
    plan: Plan, config: FitOptions, run: tracking.Run, folder: Path, watch: Watch | None = None
) -> dict[str, float]:
    """Train `plan.model`, and score its best checkpoint on validation in float32, as it is served; returns the metrics.

    `run` receives curves, cost and predictions; `folder` is for checkpoints. `watch` is called with each validation
    during the training, which it ends by raising; there is no progress bar then.

    Raises:
        Followed: this is not the main process, which alone continues after the training.
    """
    fitted = _fit(plan, config, run, folder, watch)
    if not is_main():
        raise Followed
    leave()
    trained = plan.model.num_parameters()
    plan.rows.task.condensed(plan.model)
    metrics = {f"cost/{name}": value for name, value in fitted.peaks.items()}
    if plan.model.num_parameters() < trained:
        metrics["model/parameters_in_training"] = float(trained)
        say(f"{trained / 1e6:.1f} M parameters in training, {plan.model.num_parameters() / 1e6:.1f} M to serve")
    if fitted.examples_per_s is not None:
        metrics["cost/examples_per_s"] = fitted.examples_per_s
    if not fitted.resumed_step:  # the time of an interrupted process is unknown
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
    collate, validation = task.collate(plan.processor), plan.features("validation")
    autocast = autocast_dtype(resolve_precision(config.precision))

    def validate(model: Any) -> dict[str, float]:
        found = answers(model, validation, collate, task.answer, 2 * config.batch_size, autocast)
        return task.quality(task.predictions(plan.rows.splits.validation, found))

    teacher = None
    if plan.objective.terms and plan.signals is not None:
        start = time.perf_counter()
        teacher = plan.signals.train(plan.objective.contents)
        teacher.watched(lambda why: run.set_tags({"kd.teacher_online": why}))
        if teacher.computed:
            run.log_metrics({"cost/teacher_s": time.perf_counter() - start})
    features: Features = plan.features("train")
    used = {"labelled_rows": len(plan.rows.train)}
    if plan.rows.transfer_digest:
        features = ChosenRows(features, trusted_features(plan, cast(DistillConfig, config)))
        used["transfer_rows"] = len(np.unique(features["example"])) - len(plan.rows.train)
    run.log_params(used)
    points = tracking.Points(run)
    job = Job(
        model=plan.model,
        features=features,
        collate=collate,
        task=task,
        objective=plan.objective,
        teacher=teacher,
        validate=validate,
        metric=next(iter(task.directions.items())),
        report=points.add,
        watch=watch,
        folder=folder,
        title="" if watch else plan.title,
        transfer=bool(plan.rows.transfer_digest),
    )
    try:
        fitted = fit(job, config)
    finally:
        points.send()
    if teacher is not None and teacher.online:
        say(
            f"Note: the teacher ran on every batch ({teacher.online}); read from the cache, its outputs differ a little"
        )
    run.log_params({"steps": fitted.steps})
    for warning in fitted.warnings:
        say(f"Warning: {warning}")
    return fitted


def trusted_features(plan: Plan, config: DistillConfig) -> np.ndarray:
    """Return the positions of the features to train on: all with labels, and the others that the filters keep.

    The teacher runs over all of them once, so that other thresholds reuse its outputs.

    Raises:
        UserError: the filters leave no transfer row.
    """
    assert plan.signals is not None
    least, balanced = config.transfer_confidence, config.transfer_balance
    of_example, labelled = plan.features("train")["example"], len(plan.rows.train)
    if not (least or balanced):
        return np.arange(len(of_example))
    first = int(np.count_nonzero(of_example < labelled))
    outputs = {name: values[first:] for name, values in plan.signals.train().all_outputs().items()}
    kept = first + np.flatnonzero(cast(Filters, plan.rows.task).trusted(outputs, least, balanced, config.seed))
    count, rows = len(plan.rows.split("train")) - labelled, len(np.unique(of_example[kept]))
    if not rows:
        raise UserError(
            f"transfer_confidence={least}: the teacher is that sure of none of the {count} transfer rows: lower it"
        )
    say(f"{rows} of {count} transfer rows are kept by the teacher's answers")
    return np.concatenate([np.arange(first), kept])


def score_test(plan: Plan, config: FitOptions, run: tracking.Run) -> dict[str, float]:
    """Score test once with the trained `plan.model`, in float32 as it is served, also against its teacher.

    Diagnostics that need fitting, such as a temperature, are fitted on the predictions on validation that `run` has.
    """
    task = plan.rows.task
    table = _scored(plan, config, "test")
    quality = task.quality(table)
    metrics = {f"test/{name}": value for name, value in quality.items()}
    metrics |= task.diagnostics(tracking.table(run.run_id, VALIDATED), table)
    if plan.signals is not None:
        metrics |= task.fidelity(table, plan.signals.predictions("test"))
    metrics |= inside(plan, config)
    run.log_table(table, "predictions_test.parquet")
    run.log_metrics(metrics)
    run.set_tags({"kd.test_scored": "true"})
    return quality


def _scored(plan: Plan, config: FitOptions, name: SplitName) -> pd.DataFrame:
    task = plan.rows.task
    collate = task.collate(plan.processor)
    found = answers(plan.model, plan.features(name), collate, task.answer, 2 * config.batch_size)
    return predictions(config, task, plan.rows.split(name), found)


def log_model(plan: Plan, run: tracking.Run) -> str:
    """Log the trained model as it is served; returns its URI."""
    with temporary() as scratch:
        folder = scratch / "weights"
        save(plan, folder)
        return log_served(run, plan.rows.task, plan.rows.splits.validation, folder)


def save(plan: Plan, folder: Path) -> None:
    """Write the model into `folder` as it is served."""
    task = plan.rows.task
    package.save(folder, plan.model.to("cpu"), plan.processor, task.serving(), task.shipped)
