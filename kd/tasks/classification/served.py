"""The text classifier as MLflow serves it, loaded from this file alone: nothing of this project is imported.

`kd.json` has the format of the weights. An exported model (ONNX) is served without torch and transformers.
"""

import json
import os
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.types.type_hints import TypeFromExample

ROWS_AT_ONCE = {"safetensors": 128, "onnx": 128, "onnx-int8": 1}
"""Rows in a forward. An int8 model's scales are taken over a whole forward, so each row is run alone: the other rows
of a request change no answer."""
ENCODED = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
"""Inputs of a model, and their names in the library tokenizers."""


class TextClassifier(mlflow.pyfunc.PythonModel):
    """Takes raw text (a string, a list, or a table); returns for each label, its score and all probabilities.

    Lists stay lists on the way in and out: pandas takes half a millisecond for a table of any size after a model has
    displaced it from the processor's caches.
    """

    def load_context(self, context: Any) -> None:
        """Load weights, tokenizer and settings."""
        folder = Path(context.artifacts["model"])
        settings = json.loads((folder / "kd.json").read_text(encoding="utf-8"))
        self.inputs: list[str] = settings["inputs"]
        self.labels: list[str] = settings["labels"]
        kind = settings.get("format", "safetensors")
        self.rows_at_once = ROWS_AT_ONCE[kind]
        if kind == "safetensors":
            self._load_torch(folder, settings["max_length"])
        else:
            self._load_onnx(folder)

    def _load_torch(self, folder: Path, max_length: int) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, local_files_only=True
        ).to(device)
        model.eval()

        def encode(*texts: list[str]) -> Any:
            return tokenizer(*texts, truncation=True, max_length=max_length, padding=True, return_tensors="np")

        names = list(encode(*[["one"]] * len(self.inputs)))  # this call also sets padding and truncation in the backend
        direct = tokenizer.is_fast and set(names) <= set(ENCODED)  # takes half the time

        def logits(texts: list[list[str]]) -> Any:
            arrays = _encoded(tokenizer.backend_tokenizer, texts, names) if direct else encode(*texts)
            with torch.inference_mode():
                batch = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
                return model(**batch).logits.float().cpu().numpy()

        self.model, self.logits = model, logits

    def _load_onnx(self, folder: Path) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))  # with padding and truncation
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads = _threads()
        if os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE":  # what torch's threads obey
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        known = onnxruntime.get_available_providers()
        providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in known]
        session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers)
        taken = [one.name for one in session.get_inputs()]

        def logits(texts: list[list[str]]) -> Any:
            return session.run(["logits"], _encoded(tokenizer, texts, taken))[0]

        self.logits = logits

    def texts(self, requests: Any) -> list[list[str]]:
        """Return a list of texts for each text column: one column, or the two of a pair under their names."""
        if len(self.inputs) == 1 and not isinstance(requests, pd.DataFrame):
            return [_texts(requests)]
        if len(self.inputs) == 1 and requests.shape[1] != 1:
            raise ValueError(f"one column of text is taken; got {', '.join(map(str, requests.columns))}")
        columns = self.inputs if len(self.inputs) > 1 else [requests.columns[0]]
        return [_texts(requests[column]) for column in columns]

    def predict(
        self, context: Any, model_input: TypeFromExample, params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Return for each text its label, score (the label's probability) and probabilities (label -> probability)."""
        texts = self.texts(model_input)
        starts = range(0, len(texts[0]), self.rows_at_once)
        logits = np.concatenate(
            [self.logits([column[start : start + self.rows_at_once] for column in texts]) for start in starts]
        )
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = powers / powers.sum(axis=1, keepdims=True)
        best = probabilities.argmax(axis=1).tolist()
        return [
            {"label": self.labels[i], "score": row[i], "probabilities": dict(zip(self.labels, row, strict=True))}
            for i, row in zip(best, probabilities.tolist(), strict=True)
        ]


def _texts(requests: Any) -> list[str]:
    """Return the texts; ValueError where one is missing or not a text, such as a list of texts in a single cell."""
    texts = list(requests)
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"row {place}: a text is needed, got {text!r}; give a text, a list of texts, or a table")
    return texts


def _encoded(tokenizer: Any, texts: list[list[str]], names: list[str]) -> dict[str, Any]:
    """Return the arrays of these names, each `(rows, longest)`."""
    encoded = tokenizer.encode_batch(list(zip(*texts, strict=True)) if len(texts) > 1 else texts[0])
    return {name: np.array([getattr(one, ENCODED[name]) for one in encoded], dtype=np.int64) for name in names}


def _threads() -> int:
    """Return the number of threads that torch uses: physical cores of this process, at most OMP_NUM_THREADS."""
    logical = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    lists = [Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list") for core in logical]
    cores = len({path.read_text() for path in lists if path.is_file()}) or len(logical)
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(wanted)) if wanted.isdecimal() else cores


model = TextClassifier()
mlflow.models.set_model(model)
