"""The one training loop: a `transformers.Trainer` in which only loss, order of rows and reporting differ."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import EarlyStoppingCallback, PreTrainedModel, ProgressCallback, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback, TrainerControl

from kd.base.types import (
    EncodedRows,
    MaskName,
    ObjectiveTerm,
    PrecisionName,
    Stopped,
    StudentOutputs,
    TeacherOutputs,
    Term,
)
from kd.training.activations import as_needed, looked_into
from kd.training.callbacks import Progress, Reporter, Stopper
from kd.training.sampler import LengthGroups

Batch = dict[str, torch.Tensor]
Watch = Callable[[Mapping[str, float], int], None]
BEST = "best.safetensors"
"""In a checkpoint: the best weights, where they are of an earlier epoch that has no checkpoint."""
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
        checkpoint_every_s: least seconds between two checkpoints; until the next, the best weights are held in memory.
        epoch_rows: rows of an epoch, where all of them once is not what is wanted; else 0.
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
    checkpoint_every_s: float
    epoch_rows: int = 0


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
        weights: of each term among them, by its name; 1 where not named.
        transfer: whether rows without a target take part, to learn from the teacher with the terms' weights alone.
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
    weights: Mapping[str, float] = field(default_factory=dict)
    transfer: bool = False


def labelled(masks: Mapping[MaskName, torch.Tensor]) -> torch.Tensor:
    """Return which rows of a batch have a target, `(batch,)`."""
    return masks["target"].reshape(len(masks["target"]), -1).any(dim=1)


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


class _Trainer(Trainer):
    """The Trainer with our loss, our order and our validation."""

    def __init__(
        self,
        job: Job,
        recipe: Recipe,
        arguments: TrainingArguments,
        stopping: Callable[[], bool],
        switches: Mapping[str, bool],
    ) -> None:
        group = recipe.batch_size * recipe.accumulation * arguments.world_size
        self.job = job
        self.sampler = LengthGroups(job.rows["length"], group, recipe.seed, recipe.epoch_rows)
        self.masks_of_term: dict[str, MaskName] = {"task": "target", **{term.name: term.mask for term in job.terms}}
        alpha = job.alpha if job.terms else 0.0
        self.weights = {term.name: alpha * job.weights.get(term.name, 1.0) for term in job.terms} | {"task": 1 - alpha}
        self.added = {term.name: (1 - alpha) * job.weights.get(term.name, 1.0) for term in job.terms if job.transfer}
        self.share: torch.Tensor | None = None
        self.switches = switches
        self.counts: dict[str, torch.Tensor] = {}
        self.window: dict[str, torch.Tensor] = {}
        self.parts: dict[str, torch.Tensor] = {}
        self.shares: dict[str, float] = {}
        self.rows_seen = 0
        self.checkpoint_every_s = recipe.checkpoint_every_s
        self.stopping = stopping
        self.best: dict[str, torch.Tensor] | None = None
        self.saved_s = time.perf_counter()
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
        if self.job.transfer:
            known = torch.cat([labelled(each) for each in masks])
            rows = torch.stack([known.sum(), torch.ones_like(known).sum()]).to(device)
            having, all_rows = self.accelerator.reduce(rows, reduction="sum")
            self.share = having / all_rows
        return batches, None

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        """Return alpha x weighted sum of the teacher's terms + (1 - alpha) x task loss, each a mean over the step.

        That is a row's loss, and the step's is their mean. A row without a target has the sum of the terms alone: then
        a term's mean is over all rows, weighed 1 there and alpha elsewhere, and the task's mean counts by the share of
        the rows that have a target.
        """
        self.rows_seen += len(inputs["row"]) * self.accelerator.num_processes
        given = {key: value for key, value in inputs.items() if key not in ("labels", "row")}
        outputs = model(**given, **self.switches)
        gathered = any(term.needs.student for term in self.job.terms)
        said = StudentOutputs(outputs["logits"]) if gathered else outputs
        sums = {"task": self.job.loss(said, inputs)[0]}
        alone: dict[str, torch.Tensor] = {}
        if self.job.terms and self.job.teacher is not None:
            teacher = self.job.teacher(torch.from_numpy(inputs["row"]), sums["task"].device)
            masks = self.job.masks(inputs)
            for term in self.job.terms:
                mask, said = masks[term.mask], as_needed(outputs, term)
                sums[term.name] = term(said, teacher, mask)[0]
                if self.added.get(term.name):
                    unlabelled = ~labelled(masks).reshape(-1, *[1] * (mask.dim() - 1))
                    alone[term.name] = term(said, teacher, mask & unlabelled)[0]
        total = torch.zeros((), device=sums["task"].device)
        for name, value in sums.items():
            count = self.counts[name].clamp(min=1)
            part = self.weights[name] * (value / count)
            if name in alone:
                part = part + self.added[name] * (alone[name] / count)
            elif name == "task" and self.share is not None:
                part = part * self.share
            total = total + part
            self.window[name] = self.window.get(name, 0.0) + (value / count).detach()
            self.parts[name] = self.parts.get(name, 0.0) + part.detach()
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
                part = float(self.accelerator.reduce(self.parts[name], reduction="sum"))
                self.shares[name] = self.shares.get(name, 0.0) + part
            self.window.clear()
            self.parts.clear()
        super().log(logs, *args, **kwargs)

    def _determine_best_metric(self, metrics: Any, trial: Any) -> bool:
        """Hold the weights of the best epoch until a checkpoint has them."""
        best = bool(super()._determine_best_metric(metrics=metrics, trial=trial))
        if best:
            weights = self.accelerator.unwrap_model(self.model).state_dict()
            self.best = {name: value.detach().cpu().clone() for name, value in weights.items()}
        return best

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint where much would be lost without it: it takes as long as many steps of a small model."""
        waited = self.stopping() or time.perf_counter() - self.saved_s >= self.checkpoint_every_s
        if not self.accelerator.reduce(torch.tensor(float(waited), device=self.args.device), reduction="sum"):
            return
        if self.state.best_global_step == self.state.global_step:
            self.best = None
        elif self.best is not None and self.args.should_save:  # before the file that makes the checkpoint whole
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            folder.mkdir(parents=True, exist_ok=True)
            save_file(self.best, folder / BEST)
        super()._save_checkpoint(model, trial)
        self.saved_s = time.perf_counter()

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
    with looked_into(job.model, job.terms, recipe.seed) as switches:
        return _fit(job, recipe, switches)


def _fit(job: Job, recipe: Recipe, switches: Mapping[str, bool]) -> Fitted:
    stopper = Stopper()
    trainer = _Trainer(job, recipe, _arguments(job, recipe), stopper.asked.is_set, switches)
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(Reporter(job.report, trainer.sampler))
    progress = Progress(job.title, recipe.metric)
    if job.title:
        trainer.add_callback(progress)
    trainer.add_callback(stopper)
    if recipe.patience:
        trainer.add_callback(EarlyStoppingCallback(recipe.patience))
    checkpoint = last_checkpoint(job.folder)
    if checkpoint and (checkpoint / BEST).exists():
        trainer.best = load_file(checkpoint / BEST)
    start = time.perf_counter()
    with stopper.listening(), closing(progress):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = time.perf_counter() - start
    # accelerate leaves autocast around `forward`; the model would go on computing in bf16, unlike the served one.
    model = trainer.accelerator.unwrap_model(job.model, keep_fp32_wrapper=False)
    if trainer.best is not None:
        model.load_state_dict(trainer.best)
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
        f"the loss term {name!r} made up {share / total:.2%} of the total: at this weight it hardly teaches anything"
        for name, share in shares.items()
        if total > 0 and 0 < share / total < SILENT_SHARE
    )
