"""The one training loop: a `transformers.Trainer` in which only loss, order of features and reporting differ."""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, PreTrainedModel, ProgressCallback, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback, TrainerControl

from kd.base.disk import told
from kd.base.memory import Peaks
from kd.base.ranks import lost, world
from kd.base.task import Collate, Task
from kd.base.types import Batch, Features, Objective, Stopped, TeacherOutputs
from kd.config import FitOptions
from kd.models.precision import resolve_precision
from kd.training.activations import gathered, looked_into
from kd.training.callbacks import Progress, Reporter, Stopper
from kd.training.loss import StepLoss
from kd.training.sampler import Batches, Filled, LengthGroups

Watch = Callable[[Mapping[str, float], int], None]
BEST = "best.safetensors"
"""File in a checkpoint: the best weights, where they are of an earlier epoch that has no checkpoint."""


@dataclass(frozen=True)
class Job:
    """Everything that a training needs.

    Attributes:
        model: trained in place; has the best checkpoint's weights at the end.
        features: to train on.
        collate: pads a list of features into a batch.
        task: masks, outputs and the task's own loss.
        objective: comparisons with the teacher; without terms the task's loss alone is minimised.
        teacher: the teacher's outputs for features by number, on a device; None without terms.
        validate: metrics of the model on validation.
        metric: the one of them that selects the best checkpoint, and whether higher is better.
        report: takes (metrics, step).
        watch: takes (metrics, epochs done) of each validation once reported; an exception from it ends the training.
        folder: of checkpoints; the training continues from the newest in it.
        title: of the progress bar; empty shows none.
        transfer: whether features without a target take part, to learn from the teacher alone.
    """

    model: PreTrainedModel
    features: Features
    collate: Collate
    task: Task
    objective: Objective
    teacher: Callable[[Any, torch.device], TeacherOutputs] | None
    validate: Callable[[torch.nn.Module], dict[str, float]]
    metric: tuple[str, bool]
    report: Callable[[dict[str, float], int], None]
    watch: Watch | None
    folder: Path
    title: str
    transfer: bool = False


@dataclass(frozen=True)
class Fitted:
    """The result of a training.

    Attributes:
        steps: weight updates in all.
        seconds: taken by this process, validation included.
        examples_per_s: features a second without validation; None where a resumed training had nothing left to do.
        resumed_step: updates before a resume.
        peaks: `ram_peak_mib` and `gpu_peak_mib` of this process during the training, where they can be measured.
        warnings: sentences for the user.
    """

    steps: int
    seconds: float
    examples_per_s: float | None
    resumed_step: int
    peaks: Mapping[str, float]
    warnings: tuple[str, ...]


class _Trainer(Trainer):
    """The Trainer with our loss, our order and our validation."""

    control: TrainerControl

    def __init__(self, job: Job, options: FitOptions, switches: Mapping[str, bool]) -> None:
        arguments = _arguments(job, options)
        group = options.batch_size * options.gradient_accumulation * arguments.world_size
        self.job = job
        self.options = options
        self.switches = switches
        self.sampler = LengthGroups(job.features["length"], group, options.seed, options.epoch_rows)
        self.step_loss = StepLoss(job.task, job.objective, job.transfer)
        self.stopper = Stopper(self._any)
        self.features_seen = 0
        self.best: dict[str, torch.Tensor] | None = None
        self.saved_s = time.perf_counter()
        self.validation_s = 0.0
        patience = [EarlyStoppingCallback(options.patience)] if options.patience else []
        super().__init__(
            model=job.model,
            args=arguments,
            data_collator=job.collate,
            train_dataset=job.features,
            eval_dataset=job.features,  # required, and not read by `evaluate` below
            callbacks=[Reporter(job.report, self.sampler), self.stopper, *patience],
        )
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        self.loss_is_scaled_for_ga = True  # `StepLoss` divides by the counts of the whole step

    def get_train_dataloader(self) -> Any:
        """Return the micro-batches of `Batches`, each process its own."""
        loader: DataLoader[Any] = DataLoader(
            Filled(self.job.features),  # type: ignore[arg-type]
            batch_sampler=Batches(self.sampler, self.options.batch_size, self.args.world_size),
            collate_fn=self.job.collate,
            pin_memory=self.args.dataloader_pin_memory,
        )
        return self.accelerator.prepare(loader)

    def floating_point_ops(self, inputs: Any) -> int:
        """Count nothing: `model/gflops` is measured on the served model."""
        return 0

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list[Any], None]:
        """Fetch the step's micro-batches and count each term's valid positions over all of them and all ranks."""
        batches = list(islice(epoch_iterator, num_batches))
        stops = self.step_loss.begin(batches, self._total, self.stopper.asked.is_set())
        self.stopper.agreed = world() > 1 and bool(stops)
        return batches, None

    def _total(self, value: torch.Tensor) -> torch.Tensor:
        """Sum over the ranks."""
        total: torch.Tensor = self.accelerator.reduce(value.to(self.args.device), reduction="sum")
        return total

    def _any(self, flag: bool) -> bool:
        """Whether a flag is true on any rank."""
        return bool(self._total(torch.tensor(float(flag))))

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        """Return a micro-batch's part of the step's loss; see `StepLoss`."""
        batch: Batch = inputs
        self.features_seen += len(batch) * self.accelerator.num_processes
        terms = self.job.objective.terms
        raw, layers = gathered(model(**batch.inputs, **self.switches), terms)
        numbers = np.maximum(batch.features, 0)
        teacher = self.job.teacher(numbers, self.args.device) if terms and self.job.teacher else None
        # DDP averages the ranks' gradients; the counts are already over all ranks.
        return self.step_loss(raw, layers, batch, teacher) * self.accelerator.num_processes

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add each term's mean since the last report."""
        if "loss" in logs:
            steps = self.state.global_step - getattr(self, "_reported_step", self._initial_global_step)
            self._reported_step = self.state.global_step
            logs |= self.step_loss.reported(steps, self._total)
        super().log(logs, *args, **kwargs)

    def _determine_best_metric(self, metrics: Any, trial: Any) -> bool:
        """Keep the weights of the best epoch until a checkpoint has them."""
        best = bool(super()._determine_best_metric(metrics=metrics, trial=trial))
        if best:
            weights = self.accelerator.unwrap_model(self.model).state_dict()
            self.best = {name: value.detach().cpu().clone() for name, value in weights.items()}
        return best

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint if much would be lost without it: it takes as long as many steps of a small model."""
        waited = time.perf_counter() - self.saved_s >= self.options.checkpoint_every_s
        if not self._any(waited or self.stopper.asked.is_set()):
            return
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        with told(at=folder):
            try:
                if self.state.best_global_step == self.state.global_step:
                    self.best = None
                elif self.best is not None and self.args.should_save:  # before the file that makes the checkpoint whole
                    folder.mkdir(parents=True, exist_ok=True)
                    save_file(self.best, folder / BEST)
                super()._save_checkpoint(model, trial)
            except Exception:
                shutil.rmtree(folder, ignore_errors=True)  # it is torn, and takes room
                raise
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
    """Return the newest whole checkpoint; the Trainer writes `trainer_state.json` last, so a torn one has none."""
    steps = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    for path in reversed(steps):
        with suppress(OSError, ValueError):
            if json.loads((path / "trainer_state.json").read_text(encoding="utf-8")):
                return path
    return None


def fit(job: Job, options: FitOptions) -> Fitted:
    """Train `job.model`, from its newest checkpoint if there is one, and keep the weights that are best on validation.

    Raises:
        UserError: the loss is not finite.
        Stopped: a signal arrived; a checkpoint is saved.
        Lost: another process of the training ended.
    """
    if not any(weight.requires_grad for weight in job.model.parameters()):
        return Fitted(0, 0.0, None, 0, {}, ())  # persistence, say, has nothing to learn
    with looked_into(job.model, job.objective.terms, options.seed) as switches:
        configured, peaks = dict(vars(job.model.config)), Peaks()
        trainer = _Trainer(job, options, switches)
        progress = Progress(job.title, job.metric[0])
        if job.title:
            trainer.add_callback(progress)
        checkpoint = last_checkpoint(job.folder)
        if checkpoint and (checkpoint / BEST).exists():
            trainer.best = load_file(checkpoint / BEST)
        start = time.perf_counter()
        try:
            with trainer.stopper.listening(), closing(progress):
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
                late = trainer._any(trainer.stopper.asked.is_set())  # since the last epoch ended
        except RuntimeError as error:
            raise lost(error) from error
        seconds = time.perf_counter() - start
        # accelerate leaves autocast around `forward`, and the model would compute in bf16, unlike the served one.
        model = trainer.accelerator.unwrap_model(job.model, keep_fp32_wrapper=False)
        vars(model.config).clear()
        vars(model.config).update(configured)  # Trainer turns use_cache off, and the saved model would generate slowly
        if trainer.best is not None:
            model.load_state_dict(trainer.best)
        if trainer.stopper.stopped or late:
            kept = "checkpoint kept, the same command continues" if last_checkpoint(job.folder) else "no checkpoint yet"
            raise Stopped(f"stopped at step {trainer.state.global_step}; {kept}")
        return Fitted(
            steps=trainer.state.global_step,
            seconds=seconds,
            examples_per_s=trainer.features_seen / (seconds - trainer.validation_s) if trainer.features_seen else None,
            resumed_step=trainer._initial_global_step,
            peaks=peaks.read(),
            warnings=trainer.step_loss.warnings(),
        )


def _arguments(job: Job, options: FitOptions) -> TrainingArguments:
    precision = resolve_precision(options.precision)
    metric, higher_is_better = job.metric
    return TrainingArguments(
        output_dir=str(job.folder),
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch_size,
        gradient_accumulation_steps=options.gradient_accumulation,
        learning_rate=options.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=options.warmup_ratio,  # under 1 it is a share
        weight_decay=options.weight_decay,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        use_cpu=not torch.cuda.is_available(),
        accelerator_config={"even_batches": False},
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=True,
        restore_callback_states_from_checkpoint=True,
        metric_for_best_model=metric,
        greater_is_better=higher_is_better,
        logging_strategy="steps",
        logging_steps=0.01,  # likewise
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        seed=options.seed,
        report_to="none",
    )
