"""What every section of the benchmark shares: its settings, its results, fresh processes taken in turn, and the table.

A section is a module with `measure(settings) -> list[Result]`. A contender is a command of its own, run in a process
of its own, whose last line of output is a JSON object of figures.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

REPOSITORY = Path(__file__).parents[1]
FOLDER = REPOSITORY / "benchmarks" / "results"
PEERS_PYTHON = str(REPOSITORY / ".venv-bench" / "bin" / "python")
UNSCORED = "BENCH_UNSCORED"
"""Set in the environment where scores would be those of an earlier turn, and only take time."""
QUIET = {"GOMP_SPINCOUNT": "0", "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "true"}

INTRODUCTION = """Made by `make bench` from `benchmarks/results/*.json`, which hold every single run.
Figures are medians. A contender runs in a process of its own, in turn with the others.
What was not measured is absent."""


@dataclass(frozen=True)
class Settings:
    """What is measured on.

    Attributes:
        dataset: as the option of that name of `teacher`.
        text_column: column with the text.
        label_column: column with the class.
        repeats: runs of each contender, at least 3 for a figure that is to be quoted.
        quick: fewer contenders and sizes: a picture, too few runs to be quoted.
        examples: training rows of the distillation that is compared.
    """

    dataset: str = "builtin:apidocs"
    text_column: str = "text"
    label_column: str = "label"
    repeats: int = 3
    quick: bool = False
    examples: int = 256


@dataclass(frozen=True)
class Result:
    """A line of a section's table.

    Attributes:
        section: heading of the table it stands in.
        name: what was measured.
        what: figures; a name ends with its unit, such as `wall_s`, `ram_peak_mib`, `p50_ms`. What was not measured is
            absent.
        repeats: the figures of every single run.
        notes: what a reader must know.
    """

    section: str
    name: str
    what: Mapping[str, float]
    repeats: list[Mapping[str, float]]
    notes: str = ""

    @classmethod
    def of(cls, section: str, name: str, repeats: Sequence[Mapping[str, float]], notes: str = "") -> "Result":
        """Make a line of medians; a figure may be missing from some repeats."""
        names = dict.fromkeys(figure for each in repeats for figure in each)
        what = {one: median(each[one] for each in repeats if one in each) for one in names}
        return cls(section, name, what, list(repeats), notes)


def fresh(command: Sequence[str], environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run a command in a process of its own and return the JSON object of its last line of output.

    Args:
        command: a module with its arguments for this Python, or a path to another Python and its arguments.
        environment: variables besides this process's.

    Raises:
        RuntimeError: it failed; the text ends with what it said.
    """
    words = list(command) if os.sep in command[0] else [sys.executable, "-m", *command]
    done = subprocess.run(
        words, cwd=REPOSITORY, env={**os.environ, **QUIET, **(environment or {})}, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def in_turn(commands: Mapping[str, Sequence[str]], repeats: int) -> dict[str, list[dict[str, Any]]]:
    """Run each command `repeats` times, A B C A B C, so that a slow minute of the machine meets all of them.

    Each runs in a process of its own, which has its libraries imported already: that took most of the time.

    Args:
        commands: by name, a module with its arguments for this Python, or a path to another Python, `-m` and the same.
        repeats: turns.

    Raises:
        RuntimeError: one failed; the text ends with what it said.
    """
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in commands}
    with ExitStack() as stack:
        split = {name: _split(command) for name, command in commands.items()}
        run = {}
        for python in {python for python, _, _ in split.values()}:
            modules = {module for other, module, _ in split.values() if other == python}
            run[python] = stack.enter_context(_forking(python, sorted(modules)))
        for turn in range(repeats):
            for name, (python, module, arguments) in split.items():
                found[name].append(run[python](module, arguments, {UNSCORED: "1"} if turn else {}))
                print(f"{turn + 1}/{repeats} {name}: {json.dumps(found[name][-1])}", file=sys.stderr, flush=True)
    return found


def _split(command: Sequence[str]) -> tuple[str, str, list[str]]:
    if os.sep in command[0]:
        return command[0], command[2], list(command[3:])
    return sys.executable, command[0], list(command[1:])


@contextmanager
def _forking(python: str, modules: Sequence[str]) -> Iterator[Callable[..., dict[str, Any]]]:
    """Start `benchmarks.forks`; yields what runs a module with arguments and changes of the environment."""
    words = [python, "-m", "benchmarks.forks", *modules]
    environment = {**os.environ, **QUIET}
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=REPOSITORY, env=environment, stdin=pipe, stdout=pipe, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None

        def run(module: str, *given: Any) -> dict[str, Any]:
            print(json.dumps([module, *given]), file=server.stdin, flush=True)
            if not (line := server.stdout.readline()):
                raise RuntimeError(f"{python} cannot import {', '.join(modules)}; see above")
            status, out, said = json.loads(line)
            if status:
                raise RuntimeError(f"{module} {' '.join(given[0])} ended with {status}: {said[-2000:]}")
            found: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
            return found

        try:
            yield run
        finally:
            server.stdin.close()


def write(name: str, about: Mapping[str, Any], results: Sequence[Result], folder: Path = FOLDER) -> None:
    """Write a section's results, and what they were measured on, to `folder`/`name`.json."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = {"about": dict(about), "results": [asdict(one) for one in results]}
    (folder / f"{name}.json").write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def render(folder: Path = FOLDER) -> str:
    """Return the Markdown page of all that is in a folder of results; nothing else is looked at."""
    parts = ["# Benchmarks", "", INTRODUCTION]
    for path in sorted(folder.glob("*.json")):
        whole = json.loads(path.read_text(encoding="utf-8"))
        results = [Result(**one) for one in whole["results"]]
        parts += ["", "; ".join(f"{name} {value}" for name, value in whole["about"].items()) + "."]
        for section in dict.fromkeys(one.section for one in results):
            parts += ["", f"## {section}", "", *_table([one for one in results if one.section == section])]
    return "\n".join(parts) + "\n"


def _table(lines: Sequence[Result]) -> list[str]:
    figures = list(dict.fromkeys(figure for line in lines for figure in line.what))
    found = [f"| | {' | '.join(figures)} | runs |", "| --- |" + " ---: |" * (len(figures) + 1)]
    for line in lines:
        cells = [_shown(line.what[figure]) if figure in line.what else "" for figure in figures]
        found.append(f"| {line.name} | {' | '.join(cells)} | {len(line.repeats)} |")
    notes: dict[str, list[str]] = {}
    for line in lines:
        if line.notes:
            notes.setdefault(line.notes, []).append(line.name)
    return [*found, "", *(f"- {'; '.join(names)}: {note}" for note, names in notes.items())] if notes else found


def _shown(value: float) -> str:
    """Return a figure with three digits, or all of a larger one's before the point."""
    if value == int(value):
        return str(int(value))
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
