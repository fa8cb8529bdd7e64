"""Tiny models as they are logged and served, in a folder and no store."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import mlflow
import pandas as pd
from transformers import PreTrainedTokenizerFast

from kd import tracking
from kd.base.types import FormatName
from kd.serving import package
from kd.serving.onnx import save_onnx
from kd.tasks.classification.task import Classification
from tests.serving.test_onnx import bert, example
from tests.tiny import tokenizer

TASKS = {
    "text": Classification("text", "", "label", 16, ("bad", "good")),
    "pair": Classification("one", "two", "label", 16, ("bad", "good")),
}


def served(
    task: Classification,
    folder: Path,
    form: FormatName = "safetensors",
    words: PreTrainedTokenizerFast | None = None,
) -> Any:
    """Log a model by `log_model`, and load it as MLflow serves it."""
    words = words or tokenizer()
    if form == "safetensors":
        package.save(folder / "weights", bert(), words, task.serving())
    else:
        save_onnx(folder / "weights", bert(), words, example(), {**task.serving(), "format": form})
    requests = pd.DataFrame({name: ["good", "bad film"] for name in task.inputs})
    answers = package.answer(task.served, folder / "weights", requests)

    def save(name: str, **given: Any) -> SimpleNamespace:
        mlflow.pyfunc.save_model(folder / name, **given)
        return SimpleNamespace(model_uri=str(folder / name))

    with patch.object(mlflow.pyfunc, "log_model", save):
        uri = tracking.log_model(task.served, folder / "weights", requests, answers, package.requirements(form))
    return mlflow.pyfunc.load_model(uri)
