"""How MLflow serves the echo; this file alone is enough."""

import json
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import torch
from mlflow.types.type_hints import TypeFromExample
from transformers import AutoModelForCausalLM, AutoTokenizer


class Speaker(mlflow.pyfunc.PythonModel):
    """Texts in, answers out."""

    def load_context(self, context: Any) -> None:
        """Load weights and tokenizer."""
        folder = Path(context.artifacts["model"])
        self.new = json.loads((folder / "kd.json").read_text(encoding="utf-8"))["new"]
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def predict(
        self, context: Any, model_input: TypeFromExample, params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Return the answer to each text."""
        column = model_input.iloc[:, 0] if isinstance(model_input, pd.DataFrame) else model_input
        return [{"answer": self._answer(text)} for text in column]

    def _answer(self, text: str) -> str:
        ids = torch.tensor([self.tokenizer(text)["input_ids"]])
        with torch.inference_mode():
            made = self.model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=self.new, do_sample=False
            )
        return str(self.tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True))


model = Speaker()
mlflow.models.set_model(model)
