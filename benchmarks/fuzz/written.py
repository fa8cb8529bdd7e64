"""YAML files of gates, spaces and designs, and command lines: what is accepted has the very values that the text means.

What a text means is worked out here anew, from decimals alone, so that it does not depend on the reader that is tried.
"""

import random
import re
import shlex
from dataclasses import fields
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from mlflow.projects._project_spec import load_project

from kd.commands import COMMANDS, read
from kd.config import GateOptions, PromoteConfig, options_in, value_of
from kd.registry.candidates import thresholds
from kd.space.reading import load_space
from kd.sweep.design import cells, load_design
from kd.tasks import options_of
from kd.tasks.classification.spaces import SPACES

ROOT = Path(__file__).parents[2]
DECIMAL = re.compile(r"[-+]?(0|[1-9]\d*)(\.\d*)?(e[-+]?\d+)?|[-+]?\.\d+(e[-+]?\d+)?", re.ASCII | re.IGNORECASE)
NUMBERS = (
    *["0", "1", "2", "3", "16", "30", "0.5", ".5", "1.", "1e-5", "1E3", "+2", "-1", "-0", "2.0", "0.10", "0.25", "0.9"],
    "9007199254740993",
)
WIDE = tuple(["8", "16", "4", "0.5", "0.75", "2", "12", "1.", "3"])
"""Numbers that most options take."""
ODD = (
    *[
        "010",
        "0x10",
        "0o7",
        "0b1",
        "1_000",
        "1:30",
        "1:30.5",
        ".inf",
        "-.inf",
        ".nan",
        "inf",
        "nan",
        "1e999",
        "1e-400",
        "--1",
        "08",
        "0_1",
        "+-3",
        "1:2:3",
        "0.1.2",
        "1,5",
    ],
    *("9" * 400, "9" * 5000, "٣", "１", "½", "1 000"),
)
TEXTS = (
    *[
        "None",
        "none",
        "null",
        "~",
        "true",
        "True",
        "yes",
        "a=",
        "params.student=None",
        "=None",
        "soft",
        "soft:0.5,hard",
        "sotf",
        "last",
        "spaced",
        "0,5",
    ],
    *["0:2,1:5", "rest", "models:/m/1", "@a", "best", "é", "#", "&a", "*a", "!x", "2020-01-01", "[", "{}", "\\"],
    *("", "a b", 'it\'s "a" $HOME `x`', "0123456789" * 40),
)
BROKEN = (
    *["[", "{", "]", "}", ":", "*a", "'", '"', "-", "?", "#", "!!int"],
    *("\x00", "\t", "\n", "&a ", "<<: ", "- ", "? ", "\ufeff", "% ", "---\n", "...\n", "\u2028", "\x85", "| ", "> "),
    *("[" * 100_000, "- " * 50_000),
)
SEARCHED = ("learning_rate", "epochs", "batch_size", "alpha", "temperature", "weight_decay", "patience")


def _value(chance: random.Random) -> str:
    """Draw text of a value: mostly a plain number."""
    return chance.choice(ODD if chance.random() < 0.06 else NUMBERS if chance.random() < 0.3 else WIDE)


def _meant(text: str) -> Decimal | None:
    """Return the number that a text means; None where it means none, or one that is not kept exactly."""
    if not DECIMAL.fullmatch(text.strip()):
        return None
    number = Decimal(text.strip())
    whole = re.fullmatch(r"[-+]?\d+", text.strip())
    return None if (whole and abs(number) > 2**53) or abs(number) > Decimal("1e308") else number


def _same(found: Any, text: str) -> None:
    meant = _meant(text)
    assert meant is not None, f"{text!r} is no plain number, and was read as {found!r}"
    assert Decimal(found) == Decimal(float(meant)), f"{text!r} was read as {found!r}"


def _written(chance: random.Random, folder: Path, text: str) -> tuple[str, bool]:
    """Write a file, sometimes broken somewhere; returns its path and whether it is as it was made."""
    whole = chance.random() < 0.75
    if not whole:
        place = chance.randint(0, len(text))
        text = text[:place] + chance.choice(BROKEN) + text[place + chance.randint(0, 3) :]
    path = folder / "x.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    return str(path), whole


def yaml(chance: random.Random, folder: Path) -> list[str]:
    """Make a file of gates, a space or a design, and read it as `promote`, `hpo` and `study` do."""
    chance.choice((_gates, _space, _design))(chance, folder)
    return []


def _gates(chance: random.Random, folder: Path) -> None:
    known = [field.name for field in fields(GateOptions) if field.name != "metric"]
    given = [(chance.choice(known), _value(chance)) for _ in range(chance.randint(0, 4))]
    path, whole = _written(chance, folder, "".join(f"{name}: {text}\n" for name, text in given))
    found = thresholds(PromoteConfig(model="m", gates=path))
    if whole:
        assert len(dict(given)) == len(given), "a gate that is given twice was accepted"
        for name, text in given:
            _same(getattr(found, name), text)


def _space(chance: random.Random, folder: Path) -> None:
    given = {}
    for name in chance.sample(SEARCHED, chance.randint(1, 4)):
        whole_number = name in ("epochs", "batch_size", "patience")
        given[name] = ("int" if whole_number else "float", _value(chance), _value(chance))
    lines = [f"{name}: {{type: {kind}, low: {low}, high: {high}}}\n" for name, (kind, low, high) in given.items()]
    if chance.random() < 0.1:
        lines.append(chance.choice(lines))
    path, whole = _written(chance, folder, "".join(lines))
    found = load_space(path, SPACES)
    if whole:
        assert len(lines) == len(given), "a parameter that is given twice was accepted"
        for parameter in found:
            _same(parameter.low, given[parameter.name][1])
            _same(parameter.high, given[parameter.name][2])


def _design(chance: random.Random, folder: Path) -> None:
    axes = {name: [_value(chance) for _ in range(chance.randint(1, 4))] for name in chance.sample(SEARCHED, 2)}
    axes["seed"] = [str(seed) for seed in range(chance.randint(1, 3))]
    text = "".join(f"  {name}: [{', '.join(values)}]\n" for name, values in axes.items())
    title = chance.choice(("a", "'010'", "1.5", "010", "[a]", ""))
    path, whole = _written(chance, folder, (f"title: {title}\n" if title else "") + f"axes:\n{text}")
    found = load_design(path, options_of("classification"))
    if whole:
        assert title in ("a", "'010'", ""), f"title {title} is no text, and was accepted as {found.title!r}"
        for name, values in axes.items():
            for one, text in zip(found.axes[name], ",".join(values).split(","), strict=True):  # 1,5 is two there
                _same(one, text)
    cells(found)


@cache
def _project() -> Any:
    return load_project(str(ROOT))


def words(chance: random.Random, folder: Path) -> list[str]:
    """Make a command line, as words or by `mlflow run -P`, and read it as the command does."""
    del folder
    command = chance.choice(list(COMMANDS))
    known = options_in(COMMANDS[command], options_of("classification"))
    needed = {"dataset": "d", "model": "m" if command == "promote" else "models:/m/1", "design": "d.yaml"}
    given = {name: text for name, text in needed.items() if name in known}
    for name in chance.sample(sorted(known), min(len(known), chance.randint(1, 3))):
        words = known[name].words
        pool = chance.choice((WIDE, NUMBERS, ODD, TEXTS)) if not words or chance.random() < 0.3 else words
        given[name] = chance.choice(pool)
    options = read(command, _line(chance, command, given))
    for name, text in given.items():
        found, kind = value_of(options, name), known[name].kind
        if text in ("", "None") or name in ("objective", "match"):  # these two are spelt in one way
            continue
        if kind in (int, float):
            _same(found, text)
        elif kind is bool:
            assert found is (text.lower() == "true"), f"{name}={text!r} was read as {found!r}"
        else:
            assert found == text, f"{name}={text!r} was read as {found!r}"
    return []


def _line(chance: random.Random, command: str, given: dict[str, str]) -> list[str]:
    if chance.random() < 0.5:
        return shlex.split(_project().get_entry_point(command).compute_command(given, None))[3:]
    forms = (lambda name, text: [f"--{name}={text}"], lambda name, text: [f"--{name}", text])
    pairs = list(given.items())
    chance.shuffle(pairs)
    return [word for name, text in pairs for word in chance.choice(forms)(name, text)]
