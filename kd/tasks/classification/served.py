"""The text classifier as MLflow serves it. Loaded from this file alone: nothing of this project is imported."""

import json
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import torch
from mlflow.types.type_hints import TypeFromExample
from transformers import AutoModelForSequenceClassification, AutoTokenizer

ROWS_AT_ONCE = 128


class TextClassifier(mlflow.pyfunc.PythonModel):
    """Raw text in (a string, a list, or a table); label, its score and all probabilities out."""

    def load_context(self, context: Any) -> None:
        """Load weights (safetensors), tokenizer and settings."""
        folder = Path(context.artifacts["model"])
        settings = json.loads((folder / "kd.json").read_text(encoding="utf-8"))
        self.inputs: list[str] = settings["inputs"]
        self.max_length: int = settings["max_length"]
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, local_files_only=True
        ).to(device)
        self.model.eval()
        self.labels = [self.model.config.id2label[i] for i in range(self.model.config.num_labels)]

    def encode(self, requests: Any) -> Any:
        """Tokenise requests: one column of text, or the two columns of a pair under their names."""
        table = requests if isinstance(requests, pd.DataFrame) else pd.DataFrame({0: list(requests)})
        if len(self.inputs) == 1 and table.shape[1] != 1:
            raise ValueError(f"one column of text is taken; got {', '.join(map(str, table.columns))}")
        columns = self.inputs if len(self.inputs) > 1 else [table.columns[0]]
        texts = [[str(text) for text in table[column]] for column in columns]
        return self.tokenizer(*texts, truncation=True, max_length=self.max_length, padding=True, return_tensors="pt")

    def predict(self, context: Any, model_input: TypeFromExample, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return columns label, score (the label's probability) and probabilities (label -> probability)."""
        parts = []
        with torch.inference_mode():
            for start in range(0, len(model_input), ROWS_AT_ONCE):
                batch = self.encode(model_input[start : start + ROWS_AT_ONCE]).to(self.model.device)
                parts.append(self.model(**batch).logits.float().softmax(dim=-1).cpu())
        probabilities = torch.cat(parts)
        best = probabilities.argmax(dim=-1).tolist()
        rows = probabilities.tolist()
        return pd.DataFrame(
            {
                "label": [self.labels[i] for i in best],
                "score": [row[i] for row, i in zip(rows, best, strict=True)],
                "probabilities": [dict(zip(self.labels, row, strict=True)) for row in rows],
            }
        )


model = TextClassifier()
mlflow.models.set_model(model)
