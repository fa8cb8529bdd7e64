"""All measurements side by side: writes `benchmarks/results/*.json` and, from these alone, `benchmarks/RESULTS.md`.

    python -m benchmarks.bench [--quick] [--only training,growth] [--repeats 3]
    python -m benchmarks.bench --dataset DIR/banking77 --label_column category

`make bench` first makes the peers' environment.
"""

import argparse
import datetime
import importlib
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.results import FOLDER, PEERS_PYTHON, Settings, render, write
from kd.run.data import short_name
from kd.serving.profile import machine

SECTIONS = ("training", "cache", "growth", "inference", "fixed")
QUICK = SECTIONS[:3]
"""What takes three minutes; the others train through the entry points first."""
PINS = Path(__file__).with_name("requirements-peers.txt")


def about(settings: Settings) -> dict[str, str]:
    """Return what a section was measured on: no path, no host."""
    torch.get_num_threads()  # machine() tells torch's threads where torch is loaded
    pins = [line.strip() for line in PINS.read_text(encoding="utf-8").splitlines() if line[:1].isalpha()]
    peers = [pin for pin in pins if pin.startswith(("textbrewer", "sentence-transformers"))]
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "data": short_name(settings.dataset),
        **machine(),
        "peers": ", ".join(peers),
        **({"quick": "yes: a picture, too few runs and rows to be quoted"} if settings.quick else {}),
    }


def main() -> None:
    """Measure the sections that are asked for, and write the page anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer contenders, rows and repeats")
    parser.add_argument("--only", default="", help=f"of {', '.join(SECTIONS)}; default all, quick {', '.join(QUICK)}")
    parser.add_argument("--repeats", type=int, default=0, help="runs of each contender; default 3, quick 1")
    parser.add_argument("--examples", type=int, default=0, help="training rows; default 256, quick 128")
    parser.add_argument("--dataset", default=Settings.dataset)
    parser.add_argument("--text_column", default=Settings.text_column)
    parser.add_argument("--label_column", default=Settings.label_column)
    options = parser.parse_args()
    names = options.only.split(",") if options.only else QUICK if options.quick else SECTIONS
    if unknown := set(names) - set(SECTIONS):
        parser.error(f"--only {','.join(sorted(unknown))}: no such section; give some of {', '.join(SECTIONS)}")
    if "training" in names and not Path(PEERS_PYTHON).exists():
        parser.error("training: the peers' environment is missing; run make .venv-bench/installed")
    settings = Settings(
        options.dataset,
        options.text_column,
        options.label_column,
        options.repeats or (1 if options.quick else 3),
        options.quick,
        options.examples or (128 if options.quick else Settings.examples),
    )
    folder = Path(tempfile.mkdtemp()) if options.quick else FOLDER  # the picture does not replace the figures
    for name in names:
        print(f"== {name}", file=sys.stderr, flush=True)
        write(name, about(settings), importlib.import_module(f"benchmarks.{name}").measure(settings), folder)
        if not options.quick:
            FOLDER.with_name("RESULTS.md").write_text(render(folder), encoding="utf-8")
    if options.quick:
        print(render(folder))


if __name__ == "__main__":
    main()
