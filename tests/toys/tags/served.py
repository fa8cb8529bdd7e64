"""How MLflow serves the tagger; this file alone is enough."""

import json
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import torch
from mlflow.types.type_hints import TypeFromExample
from transformers import AutoModelForTokenClassification, AutoTokenizer


class Tagger(mlflow.pyfunc.PythonModel):
    """Texts in, a tag for each word out."""

    def load_context(self, context: Any) -> None:
        """Load weights and tokenizer."""
        folder = Path(context.artifacts["model"])
        settings = json.loads((folder / "kd.json").read_text(encoding="utf-8"))
        self.window, self.stride = settings["window"], settings["stride"]
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.model = AutoModelForTokenClassification.from_pretrained(folder, dtype=torch.float32).eval()

    def predict(
        self, context: Any, model_input: TypeFromExample, params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Return the tags of each text."""
        column = model_input.iloc[:, 0] if isinstance(model_input, pd.DataFrame) else model_input
        return [{"tags": self._tags(text)} for text in column]

    def _tags(self, text: str) -> str:
        cut = self.tokenizer(text.split(), is_split_into_words=True, truncation=True, max_length=self.window,
                             stride=self.stride, return_overflowing_tokens=True)  # fmt: skip
        found: dict[int, str] = {}
        for feature, ids in enumerate(cut["input_ids"]):
            with torch.inference_mode():
                best = self.model(input_ids=torch.tensor([ids])).logits[0].argmax(dim=-1).tolist()
            before = None
            for word, tag in zip(cut.word_ids(feature), best, strict=True):
                if word is not None and word != before:
                    found.setdefault(word, self.model.config.id2label[tag])
                before = word
        return " ".join(found[word] for word in sorted(found))


model = Tagger()
mlflow.models.set_model(model)
