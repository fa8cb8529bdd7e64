"""What `--help` says of a command, and what a shell completes: the options in groups, those set first at the top."""

import os
import re
import shutil
import textwrap
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING

from kd.base.console import program
from kd.base.types import UserError
from kd.config.base import Options, TaskOptions
from kd.config.options import Option, options_in

SHELLS = ("bash", "zsh")
COMPLETION = """usage: {program} completion {{bash,zsh}}

Print what makes a shell complete the commands after kd, their options and choices, and files.
For this shell: eval "$(kd completion {started})"; for each new one, put that line into ~/.{started}rc.
"""
ORDER = ("data", "", "student", "objective", "search", "training", "measuring", "tracking")
"""Groups of options as `--help` shows them; the empty name stands for all others, such as the task's own."""
FIRST = {
    "demo": "experiment",
    "main": "dataset rows teacher student_layers objective seeds epochs learning_rate max_train",
    "teacher": "dataset rows teacher epochs batch_size learning_rate max_length seed max_train",
    "student": "dataset rows teacher student_layers student initialisation epochs learning_rate seed",
    "distill": "dataset rows teacher student_layers objective alpha temperature epochs seed",
    "hpo": "dataset rows teacher student_layers arm space n_trials workers timeout_minutes",
    "study": "design dataset rows teacher student_layers epochs max_train workers dry_run",
    "cascade": "dataset rows teacher chain objective seeds epochs learning_rate max_train",
    "measure": "model in_place latency_budget_ms ram_budget_mib size_budget_mib devices experiment",
    "compare": "experiments filter runs models baseline metric group_by slice_by output",
    "promote": "model candidate min_metric allowed_drop latency_budget_ms fits gates to_model rollback dry_run",
    "export": "model format output allowed_drop experiment",
    "cache": "action older_than_days keep_gib all",
}
"""Options that people set first, ten a command at most; `rows` are those of the task's own example."""

EXAMPLES = {
    "demo": {"to see what comes out": "", "in an experiment of its own": "--experiment kd-demo"},
    "main": {
        "the embedded data, to see what comes out": "",
        "your own rows": "{rows}",
        "few labels and much text": "{rows} --labelled 300 --transfer rest",
    },
    "teacher": {
        "a teacher for your own rows": "{rows}",
        "another model, a smaller learning rate": "{rows} --teacher bert-base-uncased --learning_rate 3e-5",
        "a first look at a few rows": "--dataset builtin:apidocs --max_train 500 --epochs 1",
    },
    "student": {
        "the control of a student of two layers": "{rows} --student_layers 2",
        "a student from other weights": "{rows} --student distilbert-base-uncased",
        "the first and the last of the teacher's six layers": "{rows} --student_layers 0,5 --seed 1",
    },
    "distill": {
        "a student of two layers and the newest teacher": "{rows} --student_layers 2",
        "a weighted sum of two objectives": "{rows} --objective {sum}",
        "few labels and much text": "{rows} --labelled 300 --transfer rest --teacher models:/NAME/1",
    },
    "hpo": {
        "20 trials, then the best on fresh seeds": "{rows} --n_trials 20",
        "student and control with the same budget": "{rows} --arm both --n_trials 30 --workers 2",
        "the most accurate below 40 MiB": "{rows} --space shape --constraints 'size_mib<=40'",
    },
    "study": {
        "what a design would train, and for how long": "--design studies/quick.yaml --dry_run",
        "the same design on your own rows": "--design studies/quick.yaml {rows}",
        "two cells at a time": "--design studies/layer_init.yaml {rows} --workers 2",
    },
    "cascade": {
        "from six layers over four to two": "{rows} --chain 6,4,2",
        "a finished teacher and an assistant of its own": "{rows} --chain models:/NAME/1,distilbert-base-uncased,2",
        "one seed, for a first look": "--dataset builtin:apidocs --seeds 0 --epochs 1",
    },
    "measure": {
        "a registered version": "--model models:/NAME@champion",
        "with a budget": "--model models:/NAME/3 --latency_budget_ms 20 --size_budget_mib 100",
        "two models in turn, in place of their figures": "--model models:/NAME/1,models:/NAME/2 --in_place",
    },
    "compare": {
        "all runs of an experiment": "--experiments kd",
        "two versions": "--models models:/NAME/1,models:/NAME/2",
        "for a script": "--experiments kd --metric val/accuracy --output json",
    },
    "promote": {
        "the challenger, if it is good enough": "--model NAME --min_metric 0.8 --allowed_drop 0.01",
        "a version, only to see what the gates say": "--model NAME --candidate 3 --min_metric 0.8 --dry_run",
        "back to the version before": "--model NAME --rollback",
    },
    "export": {
        "to ONNX": "--model models:/NAME@champion",
        "to int8, in a folder too": "--model models:/NAME/3 --format onnx-int8 --output int8",
        "a plain folder, to use without MLflow": "--model models:/NAME/3 --format safetensors --output folder",
    },
    "cache": {
        "what is kept": "",
        "check every byte": "--action verify",
        "remove what was not used for a month": "--action prune --older_than_days 30",
    },
}
"""Three command lines a command: what each is for, and its options; `{rows}` are a file and the task's own example,
`{sum}` is of two of its objectives."""


def described(
    kind: type[Options], known: Mapping[str, Option], tasks: Mapping[str, type[TaskOptions]], task: str
) -> ArgumentParser:
    """Return a parser that knows how to show these options of a command; it is not used to read them."""
    own = tasks[task].example if "task" in known else ""
    rows = f"--task {task} {own}" if "task" in known and task != known["task"].default else own
    name = kind.__name__.removesuffix("Config").lower()
    required = " ".join(f"--{one.name} {_place(one)}" for one in known.values() if one.default is MISSING)
    lines = [
        f"  {what}\n    {program()} {words}"
        for what, words in examples(name, rows, tasks[task].objectives[0] if "task" in known else "")
    ]
    parser = ArgumentParser(
        usage=" ".join(f"{program()} {name} {required} [--OPTION VALUE ...]".split()),
        description=textwrap.fill(kind.__doc__ or "", _width()),
        epilog="\n".join(["examples:", *lines]).replace("%", "%%"),
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    for heading, options in grouped(name, known, own):
        group = parser.add_argument_group(heading)
        for one in options:
            words = choices(one, tasks)
            text = f"{one.help}{_default(one)}".replace("%", "%%")
            place = None if words else _place(one)
            group.add_argument(f"--{one.name}", metavar=place, choices=words or None, help=text)
    return parser


def grouped(name: str, known: Mapping[str, Option], own: str) -> Iterator[tuple[str, list[Option]]]:
    """Yield the groups of a command's options: first what people set first, in that order, then by heading.

    `own` is the example of the task's own options.
    """
    rows = re.findall(r"--(\w+)", own)
    named = [word for one in FIRST.get(name, "").split() for word in (rows if one == "rows" else [one])]
    first = [known[word] for word in named if word in known]  # one may be another task's
    rest = [one for one in known.values() if one not in first]
    yield "set first" if rest else "options", first
    for heading in sorted(dict.fromkeys(one.heading for one in rest), key=rank):
        yield heading, [one for one in rest if one.heading == heading]


def rank(heading: str) -> int:
    """Return the place of a group among those that come after what people set first."""
    return ORDER.index(heading if heading in ORDER else "")


def choices(one: Option, tasks: Iterable[str]) -> tuple[str, ...]:
    """Return the words that an option takes, where it takes no others."""
    return tuple(tasks) if one.name == "task" else ("true", "false") if one.kind is bool else one.words


def stated_default(one: Option) -> str:
    """Return the default of an option as it would be given; empty where there is none to state."""
    if one.default in (MISSING, None, ""):
        return ""
    plain = f"{one.default:g}" if one.kind is float else str(one.default)
    return plain.lower() if one.kind is bool else plain


def examples(name: str, rows: str, objective: str) -> Iterator[tuple[str, str]]:
    """Yield what each example of a command is for, and its words.

    `rows` are the task's own options in it, `objective` is the task's first.
    """
    for what, words in EXAMPLES.get(name, {}).items():
        filled = words.replace("{rows}", f"--dataset rows.csv {rows}".rstrip())
        filled = filled.replace("{sum}", f"{objective}:0.5,hidden:0.1")
        yield what, f"{name} {filled}".rstrip()


def completion(
    words: Sequence[str], commands: Mapping[str, type[Options]], tasks: Mapping[str, type[TaskOptions]]
) -> str:
    """Return the script that makes a shell complete commands, options, their choices, and names of files.

    With `--help` it returns what that is for.

    Raises:
        UserError: `words` are not one shell.
    """
    if words and words[0] in ("-h", "--help"):
        return COMPLETION.format(program=program(), started=_shell()).rstrip()
    if len(words) != 1 or words[0] not in SHELLS:
        raise UserError(f"completion needs the name of a shell: give one of {', '.join(SHELLS)}")
    import shtab

    whole = ArgumentParser(prog="kd")
    each = whole.add_subparsers()
    for name, kind in commands.items():
        known = {option: one for task in tasks.values() for option, one in options_in(kind, task).items()}
        parser = described(kind, known, tasks, next(iter(tasks)))
        for action in parser._actions:
            if known[action.dest].kind is str and not action.choices:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
        each.add_parser(name, help=kind.__doc__, parents=[parser])
    last = each.add_parser("completion", help="Print what makes a shell complete these words.")
    last.add_argument("shell", choices=SHELLS)
    return str(shtab.complete(whole, words[0]))


def listing(commands: Mapping[str, type[Options]]) -> str:
    """Return what `kd` alone prints: the commands in the order of a day's work, each in two lines at most."""
    indent = " " * (max(map(len, commands)) + 4)
    lines = [f"usage: {program()} COMMAND [--OPTION VALUE ...]", ""]
    for name, kind in commands.items():
        about = (kind.__doc__ or "").splitlines()[0]
        lines.append(textwrap.fill(f"  {name}".ljust(len(indent)) + about, _width(), subsequent_indent=indent))
    lines += ["", f"{program()} COMMAND --help explains its options, with examples."]
    if program() == "kd":
        lines.append(f'eval "$(kd completion {_shell()})" makes this shell complete what follows kd.')
    return "\n".join(lines)


def _place(one: Option) -> str:
    """Return what stands for an option's value: the last word of its name, which says most often what is counted."""
    return one.name.rpartition("_")[2].upper()


def _default(one: Option) -> str:
    if one.default is MISSING:
        return " Required."
    return f" (default: {text})" if (text := stated_default(one)) else ""


def _width() -> int:
    return shutil.get_terminal_size().columns - 2


def _shell() -> str:
    """Return the shell that started this, where it can be completed for; else the first that can."""
    started = os.path.basename(os.environ.get("SHELL", ""))
    return started if started in SHELLS else SHELLS[0]
