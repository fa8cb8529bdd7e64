"""Distillation training: kd against the ways it is done elsewhere, at equal work, each in fresh processes in turn."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.results import PEERS_PYTHON, Result, Settings, in_turn
from benchmarks.workload import make
from kd.models.precision import resolve_precision

SECTION = "Distillation training"
RATIOS = "Distillation training: ratios"
EPOCHS = 3
SAME = ("steps", "rows")
"""What must be equal for all contenders that train."""
HOME, DYNAMIC = (
    "home-PC recipe: Trainer, teacher every step, padded to 128",
    "Trainer, teacher every step, padded to the batch",
)
BREWER, BREWER_CACHED = "TextBrewer, GeneralDistiller", "TextBrewer, BasicDistiller with its logits cache"
SENTENCE = "sentence-transformers, embeddings by MSE"
CONTROL, PASS = "kd, student without a teacher (control)", "one bare pass of the teacher"
OURS = {"online": "kd, online (cache=off)", "cold": "kd, cold cache", "warm": "kd, warm cache", "none": CONTROL}
NOTES = {
    HOME: "A Trainer subclass, otherwise the Trainer's defaults.",
    BREWER: "Neither bf16 nor, without a GPU, fp16. Its documentation's choice for one teacher; it turns its logits "
    "cache off, whatever is asked.",
    BREWER_CACHED: "The batches are drawn once and keep their rows in all epochs.",
    SENTENCE: "Not the same objective: no class head, no labels, no per-class loss. The teacher encodes once, in fp32. "
    "SetFit is left out: its distillation trains on pairs of texts, then fits a logistic regression.",
    CONTROL: "The same loop, student and steps; no teacher.",
    PASS: "No training. Rows are tokenised and sorted by length before the clock starts.",
}


@dataclass(frozen=True)
class Goal:
    """A ratio of medians' turns: time of `over` / time of the sum of `under`, at least or at most `bound`."""

    name: str
    over: str
    under: tuple[str, ...]
    direction: str
    bound: float


def measure(settings: Settings) -> list[Result]:
    """Return a line for each contender, then the ratios that are aimed at."""
    with tempfile.TemporaryDirectory() as scratch:
        commands = contenders(make(settings, Path(scratch), settings.examples, EPOCHS), settings.quick)
        found = in_turn(commands, settings.repeats)
    require_equal(found)
    heading = f"{SECTION}: {settings.examples} rows, {EPOCHS} epochs, batches of 32"
    lines = [Result.of(heading, name, each, NOTES.get(name.rpartition(", ")[0], "")) for name, each in found.items()]
    return lines + ratios(found)


def contenders(folder: Path, quick: bool) -> dict[str, Sequence[str]]:
    """Return each contender's command by its name, which ends with the precision; those of one precision stand close.

    Args:
        folder: the workload's.
        quick: those alone that show the picture.
    """
    fast = resolve_precision("auto")
    brewer = (PEERS_PYTHON, "-m", "benchmarks.peers.textbrewer_distillers", str(folder))
    found: dict[str, Sequence[str]] = {
        f"{HOME}, fp32": ("benchmarks.peers.trainer", str(folder), "--padding", "max", "--precision", "fp32"),
        f"{BREWER}, fp32": brewer,
        f"{BREWER_CACHED}, fp32": (*brewer, "--cached"),
    }
    for precision in dict.fromkeys((fast, "fp32")):  # auto may be fp32
        how = (str(folder), "--precision", precision)
        found[f"{DYNAMIC}, {precision}"] = ("benchmarks.peers.trainer", *how, "--padding", "batch")
        if precision == fast:
            found[f"{SENTENCE}, {precision}"] = (PEERS_PYTHON, "-m", "benchmarks.peers.sentence", *how)
        for teacher, name in OURS.items():
            if teacher == "online" and precision != fast:
                continue
            found[f"{name}, {precision}"] = ("benchmarks.peers.ours", *how, "--teacher", teacher)
        found[f"{PASS}, {precision}"] = ("benchmarks.peers.teacher_pass", *how)
    few = {f"{each}, fp32" for each in (HOME, DYNAMIC, BREWER_CACHED)}
    few |= {f"{each}, {fast}" for each in (OURS["cold"], CONTROL, PASS)}
    return {name: command for name, command in found.items() if not quick or name in few}


def require_equal(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Refuse results of unequal work.

    Raises:
        RuntimeError: contenders that train differ in steps or rows.
    """
    for figure in SAME:
        seen = {name: {one[figure] for one in each} for name, each in found.items() if not name.startswith(PASS)}
        if len(set.union(*seen.values())) > 1:
            raise RuntimeError(f"the contenders differ in {figure}: {seen}")


def goals(fast: str) -> list[Goal]:
    """Return what is aimed at where `auto` is the precision `fast`; the last word of a name is its precision."""
    cold = f"{OURS['cold']}, {fast}"
    found = [
        Goal("home-PC recipe / kd cold, as by default", f"{HOME}, fp32", (cold,), "at least", 10),
        Goal("dynamic padding / kd cold, as by default", f"{DYNAMIC}, fp32", (cold,), "at least", 4),
        Goal("TextBrewer with cache / kd cold, as by default", f"{BREWER_CACHED}, fp32", (cold,), "at least", 1),
    ]
    for precision in dict.fromkeys((fast, "fp32")):
        cold, warm = (f"{OURS[each]}, {precision}" for each in ("cold", "warm"))
        control, bare = f"{CONTROL}, {precision}", f"{PASS}, {precision}"
        found += [
            Goal(f"home-PC recipe / kd cold, {precision}", f"{HOME}, {precision}", (cold,), "", 0),
            Goal(f"dynamic padding / kd cold, {precision}", f"{DYNAMIC}, {precision}", (cold,), "", 0),
            Goal(f"TextBrewer / kd cold, {precision}", f"{BREWER}, {precision}", (cold,), "", 0),
            Goal(f"TextBrewer with cache / kd cold, {precision}", f"{BREWER_CACHED}, {precision}", (cold,), "", 0),
            Goal(f"sentence-transformers / kd cold, {precision}", f"{SENTENCE}, {precision}", (cold,), "", 0),
            Goal(
                f"dynamic padding / kd online, {precision}",
                f"{DYNAMIC}, {precision}",
                (f"{OURS['online']}, {precision}",),
                "",
                0,
            ),
            Goal(f"kd cold / (control + teacher pass), {precision}", cold, (control, bare), "at most", 1.05),
            Goal(f"kd warm / control, {precision}", warm, (control,), "at most", 1.05),
        ]
    return found


def ratios(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Result]:
    """Return the median, over the turns, of each ratio within a turn."""
    lines = []
    for goal in goals(resolve_precision("auto")):
        if goal.over not in found or any(name not in found for name in goal.under):
            continue
        turns = zip(found[goal.over], *(found[name] for name in goal.under), strict=True)
        repeats = [{"times": over["wall_s"] / sum(one["wall_s"] for one in under)} for over, *under in turns]
        line = Result.of(RATIOS, goal.name, repeats)
        bound = {goal.direction.replace(" ", "_"): goal.bound} if goal.direction else {}
        lines.append(Result(line.section, line.name, {**line.what, **bound}, line.repeats))
    return lines
