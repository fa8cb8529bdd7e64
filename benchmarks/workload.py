"""Makes the folder that all contenders of a distillation read: the same rows, teacher and student."""

import json
from pathlib import Path

from transformers import set_seed

from benchmarks.results import Settings
from kd.config import DistillConfig
from kd.data.splits import subset
from kd.models.layers import layer_map
from kd.models.load import fetch_weights
from kd.models.students import build_student
from kd.run.data import load_rows
from kd.tasks.classification.options import ClassificationOptions

LAYERS = (0, 5)
TEACHER = "builtin:minilm-l6"


def make(settings: Settings, folder: Path, examples: int, epochs: int) -> Path:
    """Write `workload.json`, `teacher/` and `student/` into a folder, and return it.

    The teacher has its pretrained weights and a fresh head: what a step costs does not depend on what it knows.

    Raises:
        UserError: the data cannot be read.
    """
    columns = ClassificationOptions(text_column=settings.text_column, label_column=settings.label_column)
    config = DistillConfig(dataset=settings.dataset, task_options=columns, epochs=epochs)
    rows = load_rows(config)
    task = rows.task
    train = subset(rows.splits.train, examples, config.seed, task.target)
    set_seed(config.seed)
    source = fetch_weights(TEACHER, "teacher")
    teacher, tokenizer = task.load(source, "teacher", finished=False)
    student = build_student(teacher, len(LAYERS), layer_map(LAYERS, "spaced", 6), config.seed)
    for name, model in (("teacher", teacher), ("student", student)):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    encoded = {name: task.encode(part, tokenizer) for name, part in (("train", train), ("test", rows.splits.test))}
    told = {
        "texts": list(map(str, train[settings.text_column])),
        "labels": list(encoded["train"]["labels"]),
        "other_texts": list(map(str, rows.splits.test[settings.text_column])),
        "other_labels": list(encoded["test"]["labels"]),
        "epochs": epochs,
        "batch_size": config.batch_size,
        "learning_rate": config.learning_rate,
        "warmup_ratio": config.warmup_ratio,
        "weight_decay": config.weight_decay,
        "max_length": columns.max_length,
        "temperature": config.temperature,
        "alpha": config.alpha,
        "seed": config.seed,
    }
    (folder / "workload.json").write_text(json.dumps(told), encoding="utf-8")
    return folder
