"""What the documentation takes from the code, so that it is written once: a hook of mkdocs.

The first page is README.md, and CONTRIBUTING.md is one too, each with its links turned; every command has a page of its
options; and a line `<!-- generated: NAME -->` of a page is replaced by what `GENERATED` makes of the code.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING
from pathlib import Path
from typing import Any, get_args, get_type_hints

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from kd.base import types  # noqa: E402
from kd.base.judge import EXPLANATIONS, Figure  # noqa: E402
from kd.base.types import InitialisationName, ObjectiveName, Setting, Shape  # noqa: E402
from kd.commands import COMMANDS  # noqa: E402
from kd.config import Options, TaskOptions, options_in  # noqa: E402
from kd.config.base import Range  # noqa: E402
from kd.config.help import choices, examples, grouped, rank, stated_default  # noqa: E402
from kd.config.objective import PRESETS, plays_a_part  # noqa: E402
from kd.config.options import Option  # noqa: E402
from kd.tasks import TASKS, options_of, task_named  # noqa: E402

COPIED = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "results/benchmarks.md": "benchmarks/RESULTS.md",
}
"""Pages that lie above this folder, where the forge shows them."""
MARKER = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
SETTING = Setting(2.0, 0.5, Shape(2, 8, 2), Shape(6, 8, 2), ((0, 2), (1, 5)), ((0, 2),))
"""Of some student and teacher, to build the objectives' terms with."""


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are no files of this folder; mkdocs calls it."""
    from mkdocs.structure.files import File

    pages = {page: copied(source) for page, source in COPIED.items()}
    pages |= {f"reference/options/{name}.md": options_page(name) for name in COMMANDS}
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in what is generated; mkdocs calls it."""
    return MARKER.sub(lambda found: GENERATED[found[1]](), markdown)


def copied(source: str) -> str:
    """Return a file from outside of this folder as a page: links to other files become plain text."""
    text = (ROOT / source).read_text(encoding="utf-8")
    return re.sub(r"\[([^]]*)\]\(([^)#\s]+)(#[^)]*)?\)", _turned, text)


def _turned(link: re.Match[str]) -> str:
    text, target, place = link[1], link[2], link[3] or ""
    pages = {path: page for page, path in COPIED.items()}
    if target.startswith("docs/"):
        return f"[{text}]({target.removeprefix('docs/')}{place})"
    return f"[{text}]({pages.get(target, target)}{place})" if target in pages or "://" in target else text


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table; a `|` within a cell is no border."""
    lines = [list(header), ["---"] * len(list(header)), *(list(row) for row in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def options_page(name: str) -> str:
    """Return the page of a command as `--help` has it: its options in the same groups and order, and its examples."""
    kind = COMMANDS[name]
    tasks = {task: options_of(task) for task in TASKS} if "task" in options_in(kind) else {"": TaskOptions}
    first = next(iter(tasks.values()))
    lines = [f"# {what}\nkd {words}" for what, words in examples(name, first.example, first.objectives[0])]
    parts = [
        f"# {name}\n\n{_sentence(kind)}\n\n`kd {name} --help` lists the same.",
        *(_table(heading, kind, own, options) for heading, own, options in _groups(name, tasks)),
        "## Examples\n\n```bash\n" + "\n".join(lines) + "\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _groups(name: str, tasks: Mapping[str, type[TaskOptions]]) -> list[tuple[str, type[TaskOptions], list[Option]]]:
    """Return each group of `--help`, with its task; what a further task adds or changes is a group of its own."""
    found: list[tuple[str, type[TaskOptions], list[Option]]] = []
    for own in tasks.values():
        theirs = list(grouped(name, options_in(COMMANDS[name], own), own.example))
        known = [one for _, _, options in found for one in options]
        more = [one for _, options in theirs for one in options if one not in known]
        found += [(own.heading, own, more)] if found and more else []
        found = found or [(heading, own, options) for heading, options in theirs]
    named = {own.heading: f"{own.heading}: `task={task}`" for task, own in tasks.items()}
    first, *rest = found
    rest.sort(key=lambda group: rank(group[0]))
    return [first, *((named.get(heading, heading), own, options) for heading, own, options in rest)]


def _table(heading: str, kind: type[Options], own: type[TaskOptions], options: Iterable[Option]) -> str:
    hints = get_type_hints(kind, include_extras=True) | get_type_hints(own, include_extras=True)
    rows = []
    for one in options:
        hint = hints[one.name]
        ranges = [part.words for each in (hint, *get_args(hint)) for part in getattr(each, "__metadata__", ())
                  if isinstance(part, Range)]  # fmt: skip
        allowed = ranges[0] if ranges else ", ".join(f"`{word}`" for word in choices(one, TASKS)) or one.allowed
        default = "**required**" if one.default is MISSING else stated_default(one) and f"`{stated_default(one)}`"
        rows.append([f"`{one.name}`", default, allowed, _plain(one.help)])
    return f"## {heading[0].upper()}{heading[1:]}\n\n" + table(["option", "default", "allowed", "meaning"], rows)


def _plain(text: str) -> str:
    return text.replace("<", "&lt;").replace("*", "\\*")


def _sentence(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")


def objectives() -> str:
    """Return a section an objective: what it computes, its paper, its tasks, and the options that play a part in it."""
    from kd.objectives import OBJECTIVES

    parts = []
    for name in get_args(ObjectiveName):
        term = OBJECTIVES[name](SETTING)
        if term is None:
            continue
        tasks = ", ".join(task for task in TASKS if name in options_of(task).objectives)
        facts = [
            f"compares: {_compared(term)}",
            f"tasks: {tasks or 'none yet; for models that predict numbers'}",
            "options: " + ", ".join(f"`{one}`" for one in ("temperature", "beta", "match") if _used(one, name)),
        ]
        said = inspect.cleandoc(term.compare.__doc__).split("\n\nArgs:")[0]
        said = re.sub(r"(https://[^\s),]+[^\s),.])", r"<\1>", said)
        parts.append(f"### {name}\n\n{_escaped(said)}\n\n" + "\n".join(f"- {one}" for one in facts if one[-2:] != ": "))
    sums = "\n".join(f"- `{name}` is short for `{whole}`" for name, whole in PRESETS.items())
    return "\n\n".join([*parts, "### Sums\n\n" + sums])


def _escaped(text: str) -> str:
    return text.replace("*", "\\*").replace("||", "‖")


def _used(option: str, name: ObjectiveName) -> bool:
    return plays_a_part(option, {name: 1.0})


def _compared(term: Any) -> str:
    kinds = {None: "the task's outputs", "hidden": "outputs of layers", "attention": "attention maps of layers",
             "relation": "queries, keys and values of the last layers"}  # fmt: skip
    return kinds[term.kind]


def initialisations() -> str:
    """Return a table of the ways to choose layers, with what each takes of a teacher of six."""
    from kd.models.layers import layer_map

    rows = []
    for name in get_args(InitialisationName):
        two, three = (
            ", ".join(map(str, layer_map(count, name, 6, moved=lambda: (0.0,) * 6))) or "none: they start at random"
            for count in (2, 3)
        )
        missed = "those without which the teacher's loss moves most"
        rows.append([f"`{name}`", *([missed] * 2 if name == "importance" else [two, three])])
    return table(["`initialisation`", "two of six layers", "three of six layers"], rows)


def metrics() -> str:
    """Return the metrics of each task with their directions, and the figures that its reports show."""
    parts = []
    for name in TASKS:
        task = task_named(name)
        arrows = {True: "rises: higher is better", False: "falls: lower is better"}
        rows = []
        for number, (metric, rising) in enumerate(task.directions.items()):
            rows.append([f"`val/{metric}`, `test/{metric}`", arrows[rising], "selected on" if number == 0 else ""])
        shown = [figure for figure in task.figures if figure not in EXPLANATIONS]
        parts.append(
            f"### {name}\n\n"
            + table(["metric", "direction", ""], rows)
            + "\n\n"
            + _figures([*shown, *(EXPLANATIONS if hasattr(task, "evidence") else ())])
        )
    return "\n\n".join(parts)


def _figures(figures: Iterable[Figure]) -> str:
    arrows = {True: "rises", False: "falls", None: ""}
    rows = [[f"`{one.key}`", one.heading, arrows[one.higher_is_better], one.about] for one in figures]
    return table(["figure", "in tables", "direction", "what to know"], rows)


def exit_codes() -> str:
    """Return the exit codes, as the errors behind them say."""
    errors = [one for one in vars(types).values() if inspect.isclass(one) and issubclass(one, BaseException)]
    found: dict[int, str] = {}
    for said in map(inspect.getdoc, errors):
        if code := re.search(r"Exit code (\d+)\.", said or ""):
            found.setdefault(int(code[1]), " ".join(str(said).split("Exit code")[0].split()))
    rows = [[f"`{code}`", found[code] if code else "Done."] for code in sorted(found)]
    return table(["code", "what happened"], rows)


GENERATED: dict[str, Callable[[], str]] = {
    "objectives": objectives,
    "initialisations": initialisations,
    "metrics": metrics,
    "exit_codes": exit_codes,
}
"""What replaces a marker of a page, by the marker's name."""
