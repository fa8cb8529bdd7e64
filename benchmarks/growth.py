"""How kd's costs grow: with the examples, with the epochs, with the trials of a search."""

import itertools
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset

from benchmarks.peers.common import Workload
from benchmarks.results import Result, Settings, in_turn
from benchmarks.workload import make
from kd.models.precision import resolve_precision

EXAMPLES, STEPS = (1_000, 10_000, 100_000), 40
EPOCHS, ROWS, TRIALS = (1, 3, 10), 64, 10
RAM_BOUND = 1.1
BY_EXAMPLES, BY_EPOCHS, BY_TRIALS = "Growth: examples", "Growth: epochs", "Growth: trials"


def measure(settings: Settings) -> list[Result]:
    """Return the lines of the three tables."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if settings.quick:
            return by_examples(settings, folder)
        return [*by_examples(settings, folder), *by_epochs(settings, folder), *by_trials(settings, folder)]


def by_examples(settings: Settings, folder: Path) -> list[Result]:
    """Return step time and peak RAM by the number of examples, and the RAM's ratio to the smallest."""
    base = Workload.load(str(make(settings, folder / "base", ROWS, 1)))
    steps = STEPS // 2 if settings.quick else STEPS
    commands: dict[str, Sequence[str]] = {}
    for count in EXAMPLES[:2] if settings.quick else EXAMPLES:
        rows = folder / f"rows-{count}"
        grown(base, count).save_to_disk(str(rows))
        where = ("benchmarks.peers.growing", str(base.folder), "--rows", str(rows))
        commands[f"{count:,} examples"] = (*where, "--steps", str(steps))
    found = in_turn(commands, settings.repeats)
    note = (
        f"{steps} steps of 32 rows with cached logits, then a checkpoint; all rows are encoded and opened. Rows are "
        "repeated with another word at the end. The logits come from a stand-in for the teacher, drawn at random."
    )
    lines = [Result.of(BY_EXAMPLES, name, each, note) for name, each in found.items()]
    least, most = next(iter(found.values())), list(found.values())[-1]
    turns = [{"times": big["ram_peak_mib"] / small["ram_peak_mib"]} for small, big in zip(least, most, strict=True)]
    ratio = Result.of(BY_EXAMPLES, "RAM, most to fewest examples", turns)
    return [*lines, Result(ratio.section, ratio.name, {**ratio.what, "at_most": RAM_BOUND}, ratio.repeats)]


def grown(base: Workload, count: int) -> Dataset:
    """Return `count` rows: the workload's, again and again with another word at the end."""
    turns = itertools.islice(enumerate(itertools.cycle(zip(base.texts, base.labels, strict=True))), count)
    rows = [(f"{text} {place // len(base.texts)}", label) for place, (text, label) in turns]
    names = list(json.loads((base.folder / "teacher" / "config.json").read_text(encoding="utf-8"))["id2label"].values())
    columns = {"text": [text for text, _ in rows], "label": [names[label] for _, label in rows]}
    return Dataset.from_dict({**columns, "example_id": list(map(str, range(count)))})


def by_epochs(settings: Settings, folder: Path) -> list[Result]:
    """Return the wall time by epochs, and of most epochs that of dynamic padding with the teacher at each step."""
    precision = resolve_precision("auto")
    commands: dict[str, Sequence[str]] = {}
    for epochs in EPOCHS:
        where = str(make(settings, folder / f"epochs-{epochs}", ROWS, epochs))
        commands[f"kd, cold cache, {epochs} epochs"] = ("benchmarks.peers.ours", where, "--teacher", "cold")
    online = ("benchmarks.peers.trainer", where, "--padding", "batch", "--precision", precision)
    commands[f"Trainer, teacher every step, {epochs} epochs"] = online
    note = f"{ROWS} examples, {precision}, padded to the batch, both."
    return [Result.of(BY_EPOCHS, name, each, note) for name, each in in_turn(commands, settings.repeats).items()]


def by_trials(settings: Settings, folder: Path) -> list[Result]:
    """Return the seconds of a search's trials in one process: the first fills the cache, the others read it."""
    where = str(make(settings, folder / "trials", ROWS, 1))
    commands = {
        name: ("benchmarks.peers.ours", where, "--teacher", teacher, "--trials", str(TRIALS))
        for name, teacher in (("kd, cache", "cold"), ("kd, cache=off", "online"))
    }
    note = "Trials of 1 epoch in one process, each with a seed of its own; without the search's bookkeeping."
    return [Result.of(BY_TRIALS, name, each, note) for name, each in in_turn(commands, settings.repeats).items()]
