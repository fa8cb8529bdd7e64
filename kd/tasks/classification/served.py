"""The text classifier as MLflow serves it, loaded from this file alone: nothing of this project is imported.

`kd.json` has the format of the weights. An exported model (ONNX) is served without torch and transformers. The model
declares no inputs to MLflow, which would turn numbers and nulls into texts, and drop columns, before they come here.
"""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException

ROWS_AT_ONCE = {"safetensors": 128, "onnx": 128, "onnx-int8": 1}
"""Rows in a forward. An int8 model's scales are taken over a whole forward, so each row is run alone: the other rows
of a request change no answer."""
ENCODED = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
"""Inputs of a model, and their names in the library tokenizers."""
LONG, CHARS = 32, 8
"""Characters a token of the longest input: texts with more are cut, and so many are kept at first."""
SPARE = 16
"""Words between the tokens that are used and a cut, which may change the words beside it."""


class Refused(MlflowException):
    """A request that training would refuse too. The server answers 400 with this sentence, and not with the request."""

    def serialize_as_json(self) -> str:
        """Return the body of the answer."""
        return json.dumps({"error_code": self.error_code, "message": self.args[0]})


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

        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, trust_remote_code=False
        ).to(device)
        model.eval()

        def encode(*texts: list[str]) -> Any:
            return tokenizer(*texts, truncation=True, max_length=max_length, padding=True, return_tensors="np")

        names = list(encode(*[["one"]] * len(self.inputs)))  # this call also sets padding and truncation in the backend
        self.reader = tokenizer.backend_tokenizer if tokenizer.is_fast else None
        direct = tokenizer.is_fast and set(names) <= set(ENCODED)  # takes half the time

        def logits(texts: list[list[str]], start: int) -> Any:
            arrays = _encoded(self.reader, texts, names, start) if direct else encode(*texts)
            if not direct:
                _require_tokens(arrays.get("attention_mask", arrays["input_ids"] >= 0), start)
            with torch.inference_mode():
                batch = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
                return model(**batch).logits.float().cpu().numpy()

        self.model, self.logits = model, logits

    def _load_onnx(self, folder: Path) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        self.reader = tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))  # with padding and truncation
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads = _threads()
        if os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE":  # what torch's threads obey
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        known = onnxruntime.get_available_providers()
        providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in known]
        session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers)
        taken = [one.name for one in session.get_inputs()]

        def logits(texts: list[list[str]], start: int) -> Any:
            return session.run(["logits"], _encoded(tokenizer, texts, taken, start))[0]

        self.logits = logits

    def texts(self, requests: Any) -> list[list[str]]:
        """Return a list of texts for each text column: one column, or the two of a pair under their names.

        Raises Refused for what is no text, naming the row.
        """
        columns = self._columns(requests)
        rows = len(columns[0])
        if {len(column) for column in columns} != {rows}:
            raise _refused(f"the columns {self._named()} have {', '.join(str(len(one)) for one in columns)} rows")
        if not rows:
            raise _refused("there is no row: give at least one text")
        for name, column in zip(self.inputs, columns, strict=True):
            where = f", column {name!r}" if len(columns) > 1 else ""
            for place, text in enumerate(column):
                if not isinstance(text, str):
                    raise _refused(f"row {place}{where}: a text is needed, got {_shown(text)}")
                if not _is_unicode(text):
                    raise _refused(f"row {place}{where}: half a surrogate pair is no text: send whole characters")
        return columns

    def _columns(self, requests: Any) -> list[list[Any]]:
        """Return the values of each text column; what else a table has is left out."""
        if isinstance(requests, pd.DataFrame):
            names = self._chosen(list(requests.columns))
            return [requests[name].tolist() for name in names]
        if isinstance(requests, Mapping):
            return [_values(requests[name]) for name in self._chosen(list(requests))]
        values = _values(requests)
        if values and all(isinstance(row, Mapping) for row in values):
            names = self._chosen(list(dict.fromkeys(name for row in values for name in row)))
            return [[_scalar(row.get(name)) for row in values] for name in names]
        if len(self.inputs) > 1:
            raise _refused(f"a table with the columns {self._named()} is needed")
        return [values]

    def _chosen(self, names: list[Any]) -> list[Any]:
        """Return the names of the text columns; a lone column of another name is the text."""
        if len(self.inputs) == 1 == len(names):
            return names
        missing = [name for name in self.inputs if names.count(name) != 1]
        if missing:
            found = ", ".join(repr(name)[:50] for name in names[:10]) or "no column"
            raise _refused(f"a table needs the column {missing[0]!r} once; it has {found}")
        return self.inputs

    def _named(self) -> str:
        return " and ".join(map(repr, self.inputs))

    def predict(
        self,
        context: Any,
        model_input: pd.DataFrame,  # and whatever else; MLflow infers and converts nothing from this type
        params: dict[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """Return for each text its label, score (the label's probability) and probabilities (label -> probability)."""
        texts = self._shortened(self.texts(model_input))
        starts = range(0, len(texts[0]), self.rows_at_once)
        logits = np.concatenate(
            [self.logits([column[start : start + self.rows_at_once] for column in texts], start) for start in starts]
        )
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = powers / powers.sum(axis=1, keepdims=True)
        best = probabilities.argmax(axis=1).tolist()
        return [
            {"label": self.labels[i], "score": row[i], "probabilities": dict(zip(self.labels, row, strict=True))}
            for i, row in zip(best, probabilities.tolist(), strict=True)
        ]

    def _shortened(self, texts: list[list[str]]) -> list[list[str]]:
        """Return texts of which the model reads the same tokens, without most of what lies past the longest input."""
        if self.reader is None:
            return texts
        limit = self.reader.truncation["max_length"]
        if max(len(text) for column in texts for text in column) <= LONG * limit:
            return texts
        rows = [_shortened(self.reader, row) for row in zip(*texts, strict=True)]
        return [list(column) for column in zip(*rows, strict=True)]


def _refused(sentence: str) -> Refused:
    refused: Refused = Refused.invalid_parameter_value(sentence)
    return refused


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple | set | np.ndarray | pd.Series):
        return "a list"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, bytes):
        return "bytes"
    return "null" if pd.isna(value) else f"{str(value)[:50]!r} ({type(value).__name__})"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _scalar(value: Any) -> Any:
    return value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value


def _values(values: Any) -> list[Any]:
    """Return what a list, an array or a series holds, or anything else as the only value.

    MLflow's server makes an array of a list, in which numbers among texts are texts.
    """
    if isinstance(values, list | tuple | pd.Series):
        return list(values)
    if not isinstance(values, np.ndarray):
        return [values]
    if values.ndim > 1:
        raise _refused("row 0: a text is needed, got a list")
    found: list[Any] = list(map(_scalar, values.reshape(-1).tolist()))
    width = values.dtype.itemsize // 4 if values.dtype.kind == "U" else 0
    for place, text in enumerate(found):
        if _may_be_a_number(text, width):
            raise _refused(
                f"row {place}: {text!r} was sent as a number, or cannot be told from one in a list: give a list of "
                'objects, [{"text": ...}, ...], or a table'
            )
    return found


def _may_be_a_number(text: str, width: int) -> bool:
    """Whether an array of texts, this wide, may have been made with a number or a truth value in place of this one."""
    if width >= 5 and text in ("True", "False"):
        return True
    if width < 20 or len(text) > 32 or not (text[:1] in "-in" or text[:1].isdecimal()):
        return False
    for kind in (int, float):
        with suppress(ValueError):
            if str(kind(text)) == text:
                return True
    return False


def _shortened(reader: Any, row: Sequence[str]) -> Sequence[str]:
    """Return a row of one or two texts without ends that cannot matter.

    Of a pair, the one with more tokens is cut first, and keeps one more where their number is odd: so it stays the one
    with more. The library also makes every combination of what it cuts off both, millions for two long texts.
    """
    limit = reader.truncation["max_length"]
    if max(map(len, row)) <= CHARS * limit:
        return row
    if len(row) == 1:
        return [_enough(reader, row[0], limit)]
    most = _with_more_tokens(reader, row)
    parts = list(row)
    parts[1 - most] = _enough(reader, row[1 - most], limit)
    parts[most] = _enough(reader, row[most], max(limit, _tokens(reader, parts[1 - most])))
    return parts if _with_more_tokens(reader, parts) == most else row


def _enough(reader: Any, text: str, wanted: int) -> str:
    """Return the shortest part looked at that has more tokens of the whole text than `wanted`, or else the text."""
    size = CHARS * reader.truncation["max_length"]
    while size < len(text):
        part = _part(text, size, reader.truncation["direction"] == "left")
        if _tokens(reader, part, SPARE) > wanted:
            return part
        size *= 4
    return text


def _with_more_tokens(reader: Any, pair: Sequence[str]) -> int:
    """Return the place of the text with more tokens, the second of equals, reading no further than is needed."""
    left, size = reader.truncation["direction"] == "left", CHARS * reader.truncation["max_length"]
    while True:
        parts = [_part(text, size, left) for text in pair]
        whole = [len(part) == len(text) for part, text in zip(parts, pair, strict=True)]
        least = [_tokens(reader, part, 0 if every else SPARE) for part, every in zip(parts, whole, strict=True)]
        if whole[1] and least[0] > least[1]:
            return 0
        if whole[0] and (all(whole) or least[1] >= least[0]):
            return 1
        size *= 4


def _part(text: str, size: int, left: bool) -> str:
    """Return the first or last characters, about `size`; no number is cut, as some tokenizers count from its end."""
    size = min(size, len(text))
    place = len(text) - size if left else size
    while 0 < place < len(text) and text[place - 1].isnumeric() and text[place].isnumeric():
        place += 1 if left else -1
    return text[place:] if left else text[:place]


def _tokens(reader: Any, part: str, spare: int = 0) -> int:
    """Return the number of a part's tokens, without those of the `spare` words beside where it was cut."""
    encoding = reader.encode(part, add_special_tokens=False)
    words = [word for one in (encoding, *encoding.overflowing) for word in one.word_ids if word is not None]
    if not spare or not words:
        return len(words)
    last, left = max(words), reader.truncation["direction"] == "left"
    return sum(word >= spare if left else word <= last - spare for word in words)


def _encoded(tokenizer: Any, texts: list[list[str]], names: list[str], start: int) -> dict[str, Any]:
    """Return the arrays of these names, each `(rows, longest)`; `start` is the number of the first row."""
    encoded = tokenizer.encode_batch(list(zip(*texts, strict=True)) if len(texts) > 1 else texts[0])
    arrays = {
        name: np.array([getattr(one, ENCODED[name]) for one in encoded], dtype=np.int64)
        for name in dict.fromkeys((*names, "attention_mask"))
    }
    _require_tokens(arrays["attention_mask"], start)
    return {name: arrays[name] for name in names}


def _require_tokens(mask: Any, start: int) -> None:
    """Refuse a row without a token, which training refuses too: its answer would be that of nothing."""
    if not mask.any(axis=1).all():
        row = start + int(mask.any(axis=1).argmin())
        raise _refused(f"row {row}: the text has no token: the tokenizer knows no word of it")


def _threads() -> int:
    """Return the number of threads that torch uses: physical cores of this process, at most OMP_NUM_THREADS."""
    logical = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    lists = [Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list") for core in logical]
    cores = len({path.read_text() for path in lists if path.is_file()}) or len(logical)
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(wanted)) if wanted.isdecimal() else cores


model = TextClassifier()
mlflow.models.set_model(model)
