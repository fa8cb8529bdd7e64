"""The one training loop: a `transformers.Trainer` in which only loss, order of rows and reporting differ."""

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback, TrainerControl

from kd.types import EncodedRows, MaskName, ObjectiveTerm, PrecisionName, Stopped, TeacherOutputs, Term, UserError

Batch = dict[str, torch.Tensor]
Watch = Callable[[Mapping[str, float], int], None]
SILENT_SHARE = 0.01
"""A term below this share of the total over the whole training is warned about."""


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        epochs: passes over the training rows.
        batch_size: rows a device and micro-step.
        accumulation: micro-steps a weight update.
        learning_rate: peak, reached after the warm-up; then linear decay to 0.
        warmup_ratio: share of the updates spent warming up, from 0 to under 1.
        weight_decay: AdamW's.
        patience: evaluations (one an epoch) without a better validation metric before stopping; 0 never stops early.
        precision: resolved, never `auto`.
        seed: order of rows and dropout.
        metric: validation metric that picks the best checkpoint.
        higher_is_better: its direction.
    """

    epochs: int
    batch_size: int
    accumulation: int
    learning_rate: float
    warmup_ratio: float
    weight_decay: float
    patience: int
    precision: PrecisionName
    seed: int
    metric: str
    higher_is_better: bool


@dataclass(frozen=True)
class Job:
    """What to train, on what, against what.

    Attributes:
        model: trained in place; ends as the best checkpoint.
        rows: encoded training rows with columns `row` and `length`.
        collate: pads a list of rows into a batch.
        masks: where a batch is valid, by mask name.
        loss: the task's own loss.
        terms: ways of comparing with the teacher; empty trains on the task's loss alone.
        alpha: weight of the teacher's terms, 0 to 1; the task's loss has 1 - alpha. Ignored without terms.
        teacher: the teacher's outputs for the rows at given positions (on the CPU), on a device; None without terms.
        validate: metrics of the model on validation.
        report: takes (metrics, step).
        watch: takes (metrics, epochs done) of each validation once reported; what it raises ends the training.
        folder: where checkpoints go; one that is there is continued.
        title: what the progress bar says; empty shows none.
    """

    model: PreTrainedModel
    rows: EncodedRows
    collate: Callable[[list[dict[str, Any]]], Batch]
    masks: Callable[[Batch], Mapping[MaskName, torch.Tensor]]
    loss: Callable[[Any, Batch], Term]
    terms: Sequence[ObjectiveTerm]
    alpha: float
    teacher: Callable[[torch.Tensor, torch.device], TeacherOutputs] | None
    validate: Callable[[torch.nn.Module], dict[str, float]]
    report: Callable[[dict[str, float], int], None]
    watch: Watch | None
    folder: Path
    title: str


@dataclass(frozen=True)
class Fitted:
    """How a training went: best validation metric, updates, seconds (here, with validation), updates before a resume.

    Examples a second leave validation out, and are None where a resumed training had nothing left to do.
    """

    best: float
    steps: int
    seconds: float
    examples_per_s: float | None
    resumed_step: int
    warnings: tuple[str, ...]


class LengthGroups(Sampler[int]):
    """Rows in random order, but rows of like length share a batch.

    The order is a function of (seed, epoch) alone, so a resumed training sees the rows it would have seen.
    Within each stretch of 50 global batches the rows are sorted by length; the batches are then shuffled.
    """

    def __init__(self, lengths: Sequence[int], group: int, seed: int) -> None:
        """Group `lengths` (tokens a row) by the global batch size `group`."""
        self.lengths = np.asarray(lengths)
        self.group = group
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:  # noqa: D105
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:  # noqa: D105
        generator = np.random.default_rng((self.seed, self.epoch))
        order = generator.permutation(len(self.lengths))
        batches: list[np.ndarray] = []
        for start in range(0, len(order), self.group * 50):
            stretch = order[start : start + self.group * 50]
            stretch = stretch[np.argsort(-self.lengths[stretch], kind="stable")]
            batches += [stretch[i : i + self.group] for i in range(0, len(stretch), self.group)]
        whole = [batch for batch in batches if len(batch) == self.group]
        rest = [batch for batch in batches if len(batch) < self.group]
        for place in generator.permutation(len(whole)):
            yield from whole[place].tolist()
        for batch in rest:
            yield from batch.tolist()


class _Trainer(Trainer):
    """The Trainer with our loss, our order and our validation."""

    def __init__(self, job: Job, recipe: Recipe, arguments: TrainingArguments) -> None:
        group = recipe.batch_size * recipe.accumulation * arguments.world_size
        self.job = job
        self.sampler = LengthGroups(job.rows["length"], group, recipe.seed)
        self.masks_of_term: dict[str, MaskName] = {"task": "target", **{term.name: term.mask for term in job.terms}}
        self.alpha = job.alpha if job.terms else 0.0
        self.counts: dict[str, torch.Tensor] = {}
        self.window: dict[str, torch.Tensor] = {}
        self.shares: dict[str, float] = {}
        self.rows_seen = 0
        self.validation_s = 0.0
        self.control: TrainerControl
        # The Trainer insists on an eval_dataset; `evaluate` below never reads it.
        super().__init__(
            model=job.model, args=arguments, data_collator=self._collate, train_dataset=job.rows, eval_dataset=job.rows
        )
        self.loss_is_scaled_for_ga = True  # we divide by the counts of the whole step ourselves

    def _collate(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Keep the rows' numbers off the device: to read them there, the step before would have to be waited for."""
        batch = self.job.collate(rows)
        return {**batch, "row": batch["row"].numpy()}

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthGroups:
        return self.sampler

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list[Any], None]:
        """Fetch the step's micro-batches and count each term's valid positions over all of them and all ranks."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        masks = [self.job.masks(batch) for batch in batches]
        for term, mask in self.masks_of_term.items():
            count = torch.stack([each[mask].sum() for each in masks]).sum().to(device)
            self.counts[term] = self.accelerator.reduce(count, reduction="sum")
        return batches, None

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        """Return alpha x sum of the teacher's terms + (1 - alpha) x task loss, each a mean over the whole step."""
        self.rows_seen += len(inputs["row"]) * self.accelerator.num_processes
        outputs = model(**{key: value for key, value in inputs.items() if key not in ("labels", "row")})
        sums = {"task": self.job.loss(outputs, inputs)[0]}
        if self.job.terms and self.job.teacher is not None:
            teacher = self.job.teacher(torch.from_numpy(inputs["row"]), sums["task"].device)
            masks = self.job.masks(inputs)
            sums |= {term.name: term(outputs, teacher, masks[term.mask])[0] for term in self.job.terms}
        total = torch.zeros((), device=sums["task"].device)
        for name, value in sums.items():
            weight = 1.0 - self.alpha if name == "task" else self.alpha
            mean = value / self.counts[name].clamp(min=1)
            total = total + weight * mean
            self.window[name] = self.window.get(name, 0.0) + mean.detach()
        # DDP averages the ranks' gradients; the counts above are already over all ranks.
        return total * self.accelerator.num_processes

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add each term's mean since the last report."""
        if "loss" in logs:
            steps = self.state.global_step - getattr(self, "_reported_step", self._initial_global_step)
            self._reported_step = self.state.global_step
            for name, value in self.window.items():
                mean = float(self.accelerator.reduce(value, reduction="sum")) / max(steps, 1)
                logs[f"loss_{name}"] = mean
                weight = 1.0 - self.alpha if name == "task" else self.alpha
                self.shares[name] = self.shares.get(name, 0.0) + weight * mean * steps
            self.window.clear()
        super().log(logs, *args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Measure the task's validation metrics."""
        start = time.perf_counter()
        quality = self.job.validate(self.model)
        metrics = {f"eval_{name}": value for name, value in quality.items()}
        self.validation_s += time.perf_counter() - start
        self.log(dict(metrics))
        if self.job.watch is not None:
            self.job.watch(quality, round(self.state.epoch or 0))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class _Reporter(TrainerCallback):
    """Passes on what the Trainer logs under this project's names; stops on a loss that is no number."""

    def __init__(self, job: Job, sampler: LengthGroups) -> None:
        self.job = job
        self.sampler = sampler

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.sampler.epoch = int(state.epoch or 0)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if not state.is_world_process_zero or not logs:
            return
        if not math.isfinite(logs.get("loss", 0.0)):
            raise UserError(
                f"training diverged: the loss is {logs['loss']} at step {state.global_step}; "
                "lower learning_rate, raise warmup_ratio or give precision=fp32"
            )
        named = {f"val/{key.removeprefix('eval_')}": value for key, value in logs.items() if key.startswith("eval_")}
        if "loss" in logs:
            named |= {f"train/{key}": value for key, value in logs.items() if key != "epoch"}
        if named:
            self.job.report(named, state.global_step)


class _Progress(ProgressCallback):
    """The bar alone, with the title and the last validation metric; numbers go to the tracking store."""

    def __init__(self, title: str, metric: str) -> None:
        super().__init__()
        self.title = title
        self.metric = metric

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        super().on_train_begin(args, state, control, **kwargs)
        if self.training_bar is not None:
            self.training_bar.set_description(self.title)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        value = (logs or {}).get(f"eval_{self.metric}")
        if value is not None and self.training_bar is not None:
            self.training_bar.set_postfix_str(f"val {self.metric} {value:.3f}")

    def close(self) -> None:
        """End the bar's line, also where an error ends the training: what is said next starts a line."""
        if self.training_bar is not None:
            self.training_bar.close()


class _Stopper(TrainerCallback):
    """Asks for a checkpoint and an end when a signal has come."""

    def __init__(self) -> None:
        self.asked = threading.Event()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.asked.is_set() and state.epoch % 1:
            control.should_save = True
            control.should_training_stop = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not self.asked.is_set():
            return
        control.should_training_stop = True
        if state.epoch % 1:  # a validation within an epoch would enter the choice of the best checkpoint
            control.should_evaluate = False
            control.should_save = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catch SIGTERM and Ctrl-C while training; elsewhere than the main thread there is nothing to catch."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former = {name: signal.signal(name, lambda *_: self.asked.set()) for name in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for name, handler in former.items():
                signal.signal(name, handler)


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint; the Trainer writes `trainer_state.json` last, so a torn one lacks it."""

    def whole(path: Path) -> bool:
        try:
            return bool(json.loads((path / "trainer_state.json").read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return False

    steps = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    return next((path for path in reversed(steps) if whole(path)), None)


def fit(job: Job, recipe: Recipe) -> Fitted:
    """Train `job.model`, keep the checkpoint that is best on validation, and continue a checkpoint that is there.

    Raises:
        UserError: the loss became infinite or no number.
        Stopped: a signal came; the checkpoint is saved.
    """
    trainer = _Trainer(job, recipe, _arguments(job, recipe))
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    stopper = _Stopper()
    trainer.add_callback(_Reporter(job, trainer.sampler))
    progress = _Progress(job.title, recipe.metric)
    if job.title:
        trainer.add_callback(progress)
    trainer.add_callback(stopper)
    if recipe.patience:
        trainer.add_callback(EarlyStoppingCallback(recipe.patience))
    checkpoint = last_checkpoint(job.folder)
    start = time.perf_counter()
    with stopper.listening(), closing(progress):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = time.perf_counter() - start
    # accelerate leaves autocast around `forward`; the model would go on computing in bf16, unlike the served one.
    trainer.accelerator.unwrap_model(job.model, keep_fp32_wrapper=False)
    if stopper.asked.is_set():
        raise Stopped(f"stopped at step {trainer.state.global_step}; checkpoint kept, the same command continues")
    return Fitted(
        best=float(trainer.state.best_metric),
        steps=trainer.state.global_step,
        seconds=seconds,
        examples_per_s=trainer.rows_seen / (seconds - trainer.validation_s) if trainer.rows_seen else None,
        resumed_step=trainer._initial_global_step,
        warnings=_silent_terms(trainer.shares),
    )


def _arguments(job: Job, recipe: Recipe) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(job.folder),
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.accumulation,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=recipe.warmup_ratio,  # under 1 it is a share
        weight_decay=recipe.weight_decay,
        bf16=recipe.precision == "bf16",
        fp16=recipe.precision == "fp16",
        use_cpu=not torch.cuda.is_available(),
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=True,
        restore_callback_states_from_checkpoint=True,
        metric_for_best_model=recipe.metric,
        greater_is_better=recipe.higher_is_better,
        logging_strategy="steps",
        logging_steps=0.01,  # likewise
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        seed=recipe.seed,
        report_to="none",
    )


def _silent_terms(shares: Mapping[str, float]) -> tuple[str, ...]:
    total = sum(shares.values())
    return tuple(
        f"the loss term {name!r} made up {share / total:.2%} of the total: at this alpha it hardly teaches anything"
        for name, share in shares.items()
        if total > 0 and 0 < share / total < SILENT_SHARE
    )
