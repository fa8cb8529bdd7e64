"""Many clients of one server: `mlflow models serve` of a version, asked for a minute by several clients at once.

    python -m benchmarks.clients models:/STUDENT/1 [--clients 8] [--seconds 60] [--column text]

Texts are of 1 to 3,000 words; one request in ten must be refused. Prints how many were refused and wrong, and the
milliseconds of those that were answered; exits with 1 where one was wrong. `MLFLOW_TRACKING_URI` names the store.
"""

import argparse
import http.client
import json
import os
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.inference import serving

WORDS = ("Return", "compute", "the", "mean", "along", "an axis", "of every", "row,", "given", "model;", "ValueError.")
BAD: tuple[Any, ...] = (None, 5, ["one", "two"], {"a": 1}, True)
LENGTHS = (1, 5, 20, 20, 20, 100, 500, 3000)
"""Words of a text, drawn alike."""


@dataclass(frozen=True)
class Asked:
    """One request: seconds it took, its rows, whether it was to be refused, and what was wrong, else empty."""

    seconds: float
    rows: int
    bad: bool
    wrong: str


def client(port: int, number: int, seconds: float, column: str) -> list[Asked]:
    """Ask one request after the other over one connection."""
    chance, done = random.Random(number), []  # noqa: S311
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        texts: list[Any] = [
            " ".join(chance.choices(WORDS, k=chance.choice(LENGTHS))) for _ in range(chance.choice((1, 1, 1, 8)))
        ]
        if bad := chance.random() < 0.1:
            texts[chance.randrange(len(texts))] = chance.choice(BAD)
        rows = [{column: text, "id": place} for place, text in enumerate(texts)]
        body = chance.choice(({"inputs": texts}, {"dataframe_records": rows}, {"inputs": rows}))
        start = time.perf_counter()
        try:
            connection.request("POST", "/invocations", json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            wrong = _wrong(answer.status, answer.read(), len(texts), bad)
        except (OSError, http.client.HTTPException) as error:
            wrong = repr(error)
            connection.close()
        done.append(Asked(time.perf_counter() - start, len(texts), bad, wrong))
    return done


def _wrong(status: int, body: bytes, rows: int, bad: bool) -> str:
    """Return what is wrong with an answer; empty where nothing is."""
    said = json.loads(body)
    if bad:
        return "" if status == 400 and "stack_trace" not in said else f"{status} for a bad request: {body[:200]!r}"
    return "" if status == 200 and len(said["predictions"]) == rows else f"{status}: {body[:200]!r}"


def main() -> None:
    """Start the server, ask, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="models:/NAME/VERSION")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--column", default="text", help="the version's text column")
    options = parser.parse_args()
    places = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))  # mlflow starts uvicorn by name
    with (
        serving(options.model, Path.cwd(), os.environ | {"PATH": places}) as port,
        ThreadPoolExecutor(options.clients) as pool,
    ):
        client(port, -1, 2, options.column)
        each = pool.map(lambda number: client(port, number, options.seconds, options.column), range(options.clients))
        asked = [one for done in each for one in done]
    wrong = [one.wrong for one in asked if one.wrong]
    print(
        f"{options.clients} clients, {options.seconds:g} s: {len(asked)} requests, "
        f"{sum(one.bad and not one.wrong for one in asked)} refused as they must be, {len(wrong)} wrong"
    )
    for rows in sorted({one.rows for one in asked}):
        times = [one.seconds * 1000 for one in asked if one.rows == rows and not one.bad and not one.wrong]
        p50, p95, most = np.percentile(times, [50, 95, 100])
        print(
            f"texts a request {rows}: {len(times)} answered, p50 {p50:.1f} ms, p95 {p95:.1f} ms, longest {most:.1f} ms"
        )
    print(*dict.fromkeys(wrong[:10]), sep="\n", end="")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
