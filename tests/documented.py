"""The documentation as tests read it: its pages, their blocks of code, and the command lines in these; and `--help`."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
BLOCK = re.compile(r"^(<!-- run -->\n)?```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ENDS = (">", "<", "|", "&&")
"""What the shell makes of the rest of a line."""


@dataclass(frozen=True)
class Block:
    """A block of code; `is_run` where it has the mark `<!-- run -->`."""

    page: str
    language: str
    text: str
    is_run: bool


def blocks(*pages: Path) -> list[Block]:
    """Return the blocks of these pages, by default of all, in their order."""
    return [
        Block(str(page.relative_to(ROOT)), language, text, bool(mark))
        for page in pages or PAGES
        for mark, language, _, text in BLOCK.findall(page.read_text(encoding="utf-8"))
    ]


def command_lines(page: str) -> Iterator[tuple[Block, list[str]]]:
    """Return the words of each command in the shell blocks of a page; variables of the shell are those set before."""
    known: dict[str, str] = {}
    for block in blocks(ROOT / page):
        if block.language == "bash":
            for line in block.text.replace("\\\n", " ").splitlines():
                for name, value in known.items():
                    line = re.sub(rf"\${name}\b", lambda _, value=value: value, line)
                words = shlex.split(line, comments=True)
                if len(words) == 1 and "=" in words[0]:
                    known |= [words[0].split("=", 1)]
                elif words:
                    yield block, words


def entry_point(words: list[str]) -> tuple[str, list[str]] | None:
    """Return the entry point that a command line starts, and its options as for `python -m`; None where it is none."""
    words = words[: min([words.index(end) for end in ENDS if end in words], default=len(words))]
    if words[0] in ("python", "torchrun") and "-m" in words:
        words = words[words.index("-m") + 1 :]
        words = ["kd", words[0].removeprefix("entrypoints."), *words[1:]] if "entrypoints." in words[0] else words
    if words[0] == "kd" and words[1:]:
        return words[1], words[2:]
    if words[:3] != ["mlflow", "run", "."]:
        return None
    given = dict(pairwise(words))
    options = [f"--{after}" for word, after in pairwise(words) if word == "-P"]
    return given.get("-e", "main"), options


def on_one_line_each(text: str) -> dict[str, str]:
    """Return what `--help` says of each option, by its name."""
    lines = re.sub(r"\n {10,}", "  ", text).splitlines()
    return {found[1]: line for line in lines if (found := re.match(r"  --(\w+)", line))}


def groups(text: str) -> dict[str, list[str]]:
    """Return the options of `--help` by heading, in their order."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.endswith(":") and not line.startswith(" "):
            found[line[:-1]] = []
        elif option := re.match(r"  --(\w+)", line):
            next(reversed(found.values())).append(option[1])
    return found
