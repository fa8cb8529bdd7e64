"""Inference of teacher, student and int8 student: the model alone, a pipeline, the served pyfunc, and HTTP.

    python -m benchmarks.bench --only inference

A model's process has all its contenders, asked the same text in turn; the three processes take turns too, one at
work at a time. HTTP goes to `mlflow models serve` on this machine, which has a process of its own.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fixed import Made, made
from benchmarks.results import Result, Settings

ASKED = {1: 60, 32: 4}
"""How often each contender is asked in a round, by batch size."""
WARM_UP = 5
NOTES = {
    "bare": "tokenise, forward, softmax, as written by hand for transformers, or for onnxruntime and tokenizers",
    "pipeline": 'transformers.pipeline("text-classification") with the same weights; it gives the best label only',
    "pyfunc": "mlflow.pyfunc.load_model(...).predict; over_bare_ms is the median difference from bare on the same text",
    "http": "mlflow models serve --env-manager local, one connection kept open",
}
Contender = Callable[[list[str]], Any]


def measure(settings: Settings) -> list[Result]:
    """Measure every model with every contender, `repeats` rounds of each."""
    here = made(settings)
    names = ["student"] if settings.quick else list(here.models)
    rounds: dict[tuple[int, str, str], list[Mapping[str, float]]] = {}
    with ExitStack() as stack:
        ask = {name: stack.enter_context(_worker(here, name)) for name in names}
        for turn in range(settings.repeats):
            for name in names:
                for batch, found in ask[name]().items():
                    for contender, figures in found.items():
                        rounds.setdefault((int(batch), name, contender), []).append(figures)
                print(f"{turn + 1}/{settings.repeats} {name}", file=sys.stderr, flush=True)
    return [
        Result.of(f"Inference, batch {batch}", f"{name}, {contender}", figures, NOTES[contender])
        for batch in ASKED
        for (size, name, contender), figures in rounds.items()
        if size == batch
    ]


@contextmanager
def _worker(here: Made, name: str) -> Iterator[Callable[[], dict[str, Any]]]:
    """Start a model's server and its process; yields what runs a round in it and returns figures by batch size."""
    uri = here.models[name]
    with serving(uri, here.folder, here.environment) as port:
        words = [sys.executable, "-m", "benchmarks.inference", uri, str(port), *here.data]
        pipe = subprocess.PIPE
        with subprocess.Popen(words, cwd=here.folder, env=here.environment, stdin=pipe, stdout=pipe, text=True) as one:
            assert one.stdin is not None
            assert one.stdout is not None

            def ask() -> dict[str, Any]:
                print("go", file=one.stdin, flush=True)
                if not (line := one.stdout.readline()):
                    raise RuntimeError(f"the process that asks {name} ended with {one.wait()}; see above")
                found: dict[str, Any] = json.loads(line)
                return found

            try:
                yield ask
            finally:
                one.stdin.close()


@contextmanager
def serving(uri: str, folder: Path, environment: Mapping[str, str]) -> Iterator[int]:
    """Serve a registered model on a free port of this machine; yields the port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["-m", "mlflow", "models", "serve", "-m", uri, "--env-manager", "local", "--port", str(port)]
    with subprocess.Popen(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as server:
        try:
            _wait(port, server)
            yield port
        finally:
            os.killpg(server.pid, signal.SIGTERM)


def _wait(port: int, server: subprocess.Popen[bytes], seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/ping")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"the server did not answer on port {port}")


def _contenders(uri: str, connection: http.client.HTTPConnection) -> dict[str, Contender]:
    """Load a model for all of them into this process; the order is the one they are asked in first."""
    import mlflow

    from kd import tracking
    from kd.serving import package

    served = mlflow.pyfunc.load_model(uri)
    folder = tracking.stored_model(uri, "model").folder
    settings = package.read_settings(folder)
    trained = settings["format"] == "safetensors"
    found = _by_torch(folder, settings["max_length"]) if trained else _by_onnx(folder, served.unwrap_python_model())

    def over_http(texts: list[str]) -> Any:
        body = json.dumps({"inputs": texts}).encode()
        connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        said = answer.read()
        assert answer.status == 200, said
        return json.loads(said)["predictions"]

    return {**found, "pyfunc": served.predict, "http": over_http}


def _by_torch(folder: Path, max_length: int) -> dict[str, Contender]:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ready = pipeline("text-classification", model=str(folder), dtype=torch.float32)

    def bare(texts: list[str]) -> Any:
        batch = tokenizer(texts, truncation=True, max_length=max_length, padding=True, return_tensors="pt")
        with torch.inference_mode():
            return model(**batch).logits.softmax(-1).numpy()

    def piped(texts: list[str]) -> Any:
        return ready(texts, batch_size=len(texts), truncation=True, max_length=max_length)

    return {"bare": bare, "pipeline": piped}


def _by_onnx(folder: Path, served: Any) -> dict[str, Contender]:
    import onnxruntime
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = served.threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, ["CPUExecutionProvider"])
    fields = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    taken = {one.name: fields[one.name] for one in session.get_inputs()}

    def one(texts: list[str]) -> Any:
        encoded = tokenizer.encode_batch(texts)
        given = {name: np.array([getattr(each, key) for each in encoded]) for name, key in taken.items()}
        logits = session.run(["logits"], given)[0]
        powers = np.exp(logits - logits.max(-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True)

    return {"bare": lambda texts: [one([text]) for text in texts]}


def _round(contenders: Mapping[str, Contender], texts: list[str], batch: int, asked: int) -> dict[str, Any]:
    """Ask each contender in turn, whoever is first changing with each request; returns figures by contender."""
    names = list(contenders)
    taken = np.zeros((asked, len(names)))
    for turn in range(-WARM_UP, asked):
        given = [texts[(turn * batch + i) % len(texts)] for i in range(batch)]
        for place in range(len(names)):
            which = (turn + place) % len(names)
            start = time.perf_counter()
            contenders[names[which]](given)
            if turn >= 0:
                taken[turn, which] = 1000 * (time.perf_counter() - start)
    p50, p95 = np.percentile(taken, (50, 95), axis=0)
    speed = 1000 * batch * asked / taken.sum(axis=0)
    figures = {
        name: {"p50_ms": float(p50[i]), "p95_ms": float(p95[i]), "examples_per_s": float(speed[i])}
        for i, name in enumerate(names)
    }
    over = np.median(taken - taken[:, [names.index("bare")]], axis=0)
    for name in ("pyfunc", "http"):
        figures[name]["over_bare_ms"] = float(over[names.index(name)])
    return figures


def main() -> None:
    """Load a model for every contender; then run a round for each line read, and print its figures."""
    import argparse

    from kd.config import StudentConfig, options_from
    from kd.run.data import load_rows
    from kd.tasks import options_of

    parser = argparse.ArgumentParser()
    parser.add_argument("uri")
    parser.add_argument("port", type=int)
    for name in ("dataset", "text_column", "label_column"):
        parser.add_argument(f"--{name}")
    options = vars(parser.parse_args())
    with redirect_stdout(sys.stderr):
        connection = http.client.HTTPConnection("127.0.0.1", options.pop("port"))
        contenders = _contenders(options.pop("uri"), connection)
        rows = load_rows(options_from(StudentConfig, options_of("classification"), options))
    texts = list(map(str, rows.splits.test[options["text_column"]]))
    for _ in sys.stdin:
        connection.close()  # the server closes it in the others' turns
        found = {batch: _round(contenders, texts, batch, asked) for batch, asked in ASKED.items()}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
