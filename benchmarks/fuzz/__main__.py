"""Mutated inputs: each is read, read with a note, or refused in one line; all else is a fault.

    python -m benchmarks.fuzz [--kinds data,yaml,words] [--count 3000] [--first 0] [--show 10] [--keep FOLDER]

Nothing is trained. An input is a function of its kind and number: `--first N --count 1 --keep FOLDER` makes it again
and keeps it. A new kind is a file here with one function (`Kind` in trial.py) and one line in KINDS. Exits with 1 where
there are faults.
"""

import argparse
import importlib
import json
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from benchmarks.fuzz.trial import Kind, Outcome, tried

KINDS = {
    "data": "benchmarks.fuzz.data:read",
    "yaml": "benchmarks.fuzz.written:yaml",
    "requests": "benchmarks.fuzz.requests:ask",
    "words": "benchmarks.fuzz.written:words",
}
"""Kind to `module:function`."""
LONGEST_S = 10
"""Seconds after which an input counts as hanging."""


def kind_named(name: str) -> Kind:
    """Import the function of a kind."""
    module, _, function = KINDS[name].partition(":")
    kind: Kind = getattr(importlib.import_module(module), function)
    return kind


def outcomes(kind: Kind, numbers: range, keep: Path | None) -> Iterator[Outcome]:
    """Yield what becomes of each input; they are read in a process that may die or hang, and is started anew then."""
    left = list(numbers)
    while left:
        reading, writing = os.pipe()
        if not (child := os.fork()):
            os.close(reading)
            _try_all(kind, left, keep, writing)
        os.close(writing)
        with os.fdopen(reading) as answers:
            for line in answers:
                left.pop(0)
                yield Outcome(**json.loads(line))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if left:
            why = f"no answer in {LONGEST_S} s" if status == -signal.SIGALRM else f"the process ended with {status}"
            yield Outcome(left.pop(0), "fault", why)


def _try_all(kind: Kind, numbers: list[int], keep: Path | None, pipe: int) -> None:
    """In the forked process: write one line an input; the alarm ends it, also within a library's own code."""
    status = 1
    try:
        with os.fdopen(pipe, "w") as answers:
            for number in numbers:
                signal.alarm(LONGEST_S)
                with tempfile.TemporaryDirectory() as scratch:
                    folder = keep / str(number) if keep else Path(scratch)
                    folder.mkdir(parents=True, exist_ok=True)
                    done = tried(kind, number, folder)
                signal.alarm(0)
                print(json.dumps(asdict(done)), file=answers, flush=True)
        status = 0
    finally:
        os._exit(status)


def main() -> None:
    """Read all inputs, count what became of them, and show faults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"of {', '.join(KINDS)}; default all")
    parser.add_argument("--count", type=int, default=3000, help="inputs of each kind")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--show", type=int, default=10, help="faults of a kind that are shown")
    parser.add_argument("--keep", type=Path, help="folder in which the inputs are kept")
    options = parser.parse_args()
    faults = 0
    for name in options.kinds.split(","):
        numbers = range(options.first, options.first + options.count)
        done = list(outcomes(kind_named(name), numbers, options.keep))
        found = [one for one in done if one.kind == "fault"]
        counts = Counter(one.kind for one in done)
        print(f"{name}: {len(done)} inputs:", ", ".join(f"{count} {word}" for word, count in sorted(counts.items())))
        for one in done if options.keep else found[: options.show]:
            print(f"  {name} {one.number}: {one.kind}: {one.said}")
        faults += len(found)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
