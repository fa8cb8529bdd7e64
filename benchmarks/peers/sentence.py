"""sentence-transformers' own distillation: the teacher's embeddings once, then MSE between embeddings.

python -m benchmarks.peers.sentence FOLDER --precision fp32|bf16

Another objective on the same texts, batch, steps, optimiser and layers: there is no class head and no label. The
teacher encodes in its own precision, fp32.
"""

import argparse
from functools import partial
from typing import Any

from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.losses import MSELoss
from sentence_transformers.models import Pooling, Transformer

from benchmarks.peers.common import DEVICE, Trained, Trio, Workload, measure


def embedder(workload: Workload, name: str) -> SentenceTransformer:
    """Load a model and put mean pooling on it."""
    body = Transformer(str(workload.folder / name), max_seq_length=workload.max_length)
    pooling = Pooling(body.get_word_embedding_dimension())
    return SentenceTransformer(modules=[body, pooling], device=DEVICE)


def train(workload: Workload, trio: Trio, scratch: str, precision: str) -> Trained:
    """Train as its documentation of model distillation does."""
    rows = Dataset.from_dict({"sentence": workload.texts})

    def add(batch: Any) -> Any:
        return {"label": trio.teacher.encode(batch["sentence"]).tolist()}

    rows = rows.map(add, batched=True)
    arguments = SentenceTransformerTrainingArguments(
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
    seen = 0

    def count(module: Any, given: Any) -> None:
        nonlocal seen
        seen += len(given[0]["input_ids"]) if module.training else 0  # its model card tries a few texts too

    hook = trio.student[0].register_forward_pre_hook(count)
    trainer = SentenceTransformerTrainer(
        model=trio.student, args=arguments, train_dataset=rows, loss=MSELoss(trio.student)
    )
    trainer.train()
    hook.remove()
    return Trained(trainer.state.global_step, seen, len(workload.texts))


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--precision", choices=("fp32", "bf16"), required=True)
    options = parser.parse_args()
    workload = Workload.load(options.folder)
    teacher, student = (embedder(workload, name) for name in ("teacher", "student"))
    measure(partial(train, precision=options.precision), workload, Trio(teacher, student, teacher.tokenizer))


if __name__ == "__main__":
    main()
