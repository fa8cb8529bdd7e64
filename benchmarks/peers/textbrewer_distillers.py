"""TextBrewer, as its documentation says: adaptors, a DataLoader, `train` with AdamW and linear warm-up; fp32.

python -m benchmarks.peers.textbrewer_distillers FOLDER [--cached]

`GeneralDistiller` is what it recommends. Its cache of logits (in RAM, with the batches as first drawn) works in
`BasicDistiller` alone: `GeneralDistiller` turns it off. TextBrewer's bf16 does not exist, and its fp16 needs a GPU.
"""

import argparse
from functools import partial
from typing import Any

import torch
from textbrewer import BasicDistiller, DistillationConfig, GeneralDistiller, TrainingConfig
from torch.utils.data import DataLoader
from transformers import DataCollatorWithPadding, get_linear_schedule_with_warmup

from benchmarks.peers.common import DEVICE, Trained, Trio, Workload, load_models, measure


def train(workload: Workload, trio: Trio, scratch: str, cached: bool) -> Trained:
    """Train; gradients are clipped as the Trainer clips them."""
    seen: list[int] = []
    taught: list[int] = []

    def teacher_adaptor(batch: Any, outputs: Any) -> Any:
        taught.append(len(batch["labels"]))
        return {"logits": outputs.logits}

    def student_adaptor(batch: Any, outputs: Any) -> Any:
        seen.append(len(batch["labels"]))
        return {"logits": outputs.logits, "losses": outputs.loss}

    ids = trio.tokenizer(workload.texts, truncation=True, max_length=workload.max_length)["input_ids"]
    rows = [{"input_ids": each, "labels": label} for each, label in zip(ids, workload.labels, strict=True)]
    pad = DataCollatorWithPadding(trio.tokenizer)
    loader = DataLoader(rows, workload.batch_size, shuffle=True, collate_fn=lambda some: dict(pad(some)))
    # Its loss has no T^2; the weight makes up for it, and its cross-entropy has the KL's gradient.
    told = DistillationConfig(
        temperature=workload.temperature,
        kd_loss_weight=workload.alpha * workload.temperature**2,
        hard_label_weight=1 - workload.alpha,
        is_caching_logits=cached,
    )
    kind = BasicDistiller if cached else GeneralDistiller
    distiller = kind(
        TrainingConfig(output_dir=scratch, device=DEVICE),
        told,
        trio.teacher,
        trio.student,
        teacher_adaptor,
        student_adaptor,
    )
    optimizer = torch.optim.AdamW(
        trio.student.parameters(), lr=workload.learning_rate, weight_decay=workload.weight_decay
    )
    schedule = {
        "num_warmup_steps": round(workload.warmup_ratio * workload.steps),
        "num_training_steps": workload.steps,
    }
    with distiller:
        distiller.train(
            optimizer,
            loader,
            num_epochs=workload.epochs,
            scheduler_class=get_linear_schedule_with_warmup,
            scheduler_args=schedule,
            max_grad_norm=1.0,
        )
    return Trained(len(seen), sum(seen), sum(taught))


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--cached", action="store_true")
    options = parser.parse_args()
    workload = Workload.load(options.folder)
    measure(partial(train, cached=options.cached), workload, load_models(workload))


if __name__ == "__main__":
    main()
