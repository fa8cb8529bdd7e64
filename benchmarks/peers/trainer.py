"""The recipe found in notebooks and theses: a `transformers.Trainer` whose loss runs the teacher at each step.

python -m benchmarks.peers.trainer FOLDER --padding max|batch --precision fp32|bf16
"""

import argparse
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from datasets import Dataset
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

from benchmarks.peers.common import DEVICE, Trained, Trio, Workload, autocast, load_models, measure


class Distiller(Trainer):
    """As in the tutorials: student and teacher see the same batch."""

    def __init__(self, teacher: Any, workload: Workload, precision: str, **options: Any) -> None:
        """Keep the teacher beside what the Trainer takes."""
        super().__init__(**options)
        self.teacher = teacher
        self.workload = workload
        self.precision = precision
        self.rows_seen = 0

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        """Return alpha x T^2 KL + (1 - alpha) x cross-entropy. In bf16 the teacher computes in bf16 too."""
        self.rows_seen += len(inputs["labels"])
        outputs = model(**inputs)
        with torch.no_grad(), autocast(self.precision):
            teacher = self.teacher(**inputs).logits.float()
        temperature, alpha = self.workload.temperature, self.workload.alpha
        soft = F.kl_div(
            F.log_softmax(outputs.logits.float() / temperature, dim=-1),
            F.softmax(teacher / temperature, dim=-1),
            reduction="batchmean",
        )
        loss = alpha * temperature**2 * soft + (1 - alpha) * outputs.loss
        return (loss, outputs) if return_outputs else loss


def train(workload: Workload, trio: Trio, scratch: str, padding: str, precision: str) -> Trained:
    """Tokenise with `map`, train with the Trainer's defaults."""
    whole = {"padding": "max_length"} if padding == "max" else {}

    def tokenize(batch: Any) -> Any:
        return trio.tokenizer(batch["text"], truncation=True, max_length=workload.max_length, **whole)

    rows = Dataset.from_dict({"text": workload.texts, "labels": workload.labels}).map(tokenize, batched=True)
    arguments = TrainingArguments(
        output_dir=scratch,
        num_train_epochs=workload.epochs,
        per_device_train_batch_size=workload.batch_size,
        learning_rate=workload.learning_rate,
        warmup_steps=workload.warmup_ratio,  # under 1 it is a share
        weight_decay=workload.weight_decay,
        bf16=precision == "bf16",
        use_cpu=DEVICE == "cpu",
        report_to="none",
    )
    trainer = Distiller(
        trio.teacher,
        workload,
        precision,
        model=trio.student,
        args=arguments,
        train_dataset=rows,
        data_collator=None if padding == "max" else DataCollatorWithPadding(trio.tokenizer),
    )
    trainer.train()
    trainer.accelerator.unwrap_model(trio.student, keep_fp32_wrapper=False)  # scored in fp32, like all
    return Trained(trainer.state.global_step, trainer.rows_seen, trainer.rows_seen)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--padding", choices=("max", "batch"), required=True)
    parser.add_argument("--precision", choices=("fp32", "bf16"), required=True)
    options = parser.parse_args()
    workload = Workload.load(options.folder)
    measure(partial(train, padding=options.padding, precision=options.precision), workload, load_models(workload))


if __name__ == "__main__":
    main()
