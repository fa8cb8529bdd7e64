"""`--help` answers what people ask first, in words and values that the command takes; a shell completes them."""

import re
import shlex
import subprocess
from contextlib import suppress
from dataclasses import MISSING

import pytest

from kd import __main__ as program
from kd.base import console
from kd.commands import COMMANDS, read
from kd.config import options_in
from kd.config.help import EXAMPLES, FIRST, ORDER, listing
from kd.tasks import TASKS, options_of
from tests.documented import groups, on_one_line_each

EVERY = {(name, task): options_in(kind, options_of(task)) for name, kind in COMMANDS.items() for task in TASKS
         if task == "classification" or "task" in options_in(kind)}  # fmt: skip
TASK_HEADINGS = {one.heading for task in TASKS for one in options_in(options_of(task)).values()}
every_help = pytest.mark.parametrize(("name", "task"), EVERY)


def asking(name, task):
    return (name, "--help") if task == "classification" else (name, "--task", task, "--help")


@pytest.fixture
def shown(capsys, monkeypatch):
    """What a command prints on a terminal of this width."""

    def shown(*words, width=80):
        monkeypatch.setenv("COLUMNS", str(width))
        with suppress(SystemExit):
            program.main(words)
        return capsys.readouterr().out

    return shown


@every_help
def test_what_people_set_first_is_at_the_top_and_no_option_is_hidden_or_shown_twice(name, task, shown):
    found, every = groups(shown(*asking(name, task))), EVERY[name, task]
    first, *rest = [options for heading, options in found.items() if heading != "examples"]
    assert min(4, len(every)) <= len(first) <= 10
    own = " ".join(re.findall(r"--(\w+)", options_of(task).example))
    assert first == [word for word in FIRST[name].replace("rows ", f"{own} ").split() if word in every]
    assert sorted(option for options in (first, *rest) for option in options) == sorted(every)
    assert {option for option, one in every.items() if one.default is MISSING} <= {*first}


@every_help
def test_every_option_is_in_a_group_that_says_what_it_is_about(name, task, shown):
    headings = [*groups(shown(*asking(name, task)))]
    assert {*headings} <= {*ORDER, *TASK_HEADINGS, "set first", "options", "gates", "examples"} - {""}
    known = [ORDER.index(heading) for heading in headings if heading in ORDER]
    assert known == sorted(known)


@every_help
def test_help_has_no_types_and_no_empty_defaults_and_defaults_are_values_that_the_command_takes(name, task, shown):
    text = shown(*asking(name, task))
    assert not re.search(
        r"default: \)|default: None|NoneType|Optional|Literal|Annotated|<class|: (str|int|float)\b", text
    )
    for option, line in on_one_line_each(text).items():
        one = EVERY[name, task][option]
        stated = re.search(r"\(default: (.*)\)$", " ".join(line.split()))
        assert bool(stated) == (one.default not in (MISSING, None, ""))
        assert not stated or one.read(stated[1]) == one.default


@every_help
def test_each_example_is_a_command_line_that_the_command_takes(name, task, shown):
    *_, below = shown(*asking(name, task), width=10_000).partition("examples:\n")
    lines = [line.strip() for line in below.splitlines() if line.startswith("    ")]
    assert len(lines) == len(EXAMPLES[name]) == (3 if len(EVERY[name, task]) > 1 else 2)
    for line in lines:
        words = shlex.split(line)
        assert words[:4] == ["python", "-m", "kd", name]
        read(name, words[4:])


def test_objectives_are_those_of_the_task_for_one_that_is_listed_and_refused_is_no_choice(shown):
    line = " ".join(on_one_line_each(shown("distill", "--help"))["objective"].split())
    offered = options_of("classification").objectives
    assert f"one of none, {', '.join(offered)}, mixed (soft,hidden,attention), or" in line
    assert "mse" not in line


def test_the_list_of_commands_follows_a_day_and_each_takes_two_lines_of_a_narrow_terminal_at_most(shown):
    text = shown()
    assert text == shown("--help")
    entries = re.findall(r"^  (\w+) +(\S.*(?:\n   .*)*)", text, re.MULTILINE)
    assert [name for name, _ in entries] == list(COMMANDS)
    assert all(about.count("\n") <= 1 for _, about in entries)
    assert all(len(line) <= 80 for line in text.splitlines())
    day = ["teacher", "student", "distill", "hpo", "compare", "promote", "export"]
    assert [name for name in COMMANDS if name in day] == day


@pytest.mark.parametrize(
    ("started", "way"),
    [
        ("/usr/bin/kd", "kd"),
        ("C:\\Scripts\\kd.exe", "kd"),
        ("/clone/kd/__main__.py", "python -m kd"),
        ("/clone/entrypoints/main.py", "python -m kd"),
        ("", "python -m kd"),
    ],
)
def test_a_command_that_is_printed_works_where_it_is_printed_installed_or_in_a_clone(started, way, monkeypatch):
    monkeypatch.setattr(console.sys, "argv", [started.replace("\\", "/")])
    assert console.command("promote", "--model", "it's m") == f"{way} promote --model 'it'\"'\"'s m'"
    assert listing(COMMANDS).startswith(f"usage: {way} COMMAND")


COMPLETED = [
    ("kd dis", "distill"),
    ("kd main --seed", "--seeds"),
    ("kd distill --precision ", "auto fp32 bf16 fp16"),
    ("kd main --dataset x --dry", ""),
    ("kd study --dry_run ", "true false"),
    ("kd distill --max_len", "--max_length"),
    ("kd completion ", "bash zsh"),
]
ASK = """COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMPREPLY=()
_shtab_kd kd "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD-1]}}"; echo "${{COMPREPLY[*]}}"
"""


def test_bash_completes_commands_options_and_their_choices(shown):
    script = shown("completion", "bash")
    for line, _ in COMPLETED:
        script += ASK.format(words=" ".join(map(shlex.quote, line.split(" "))))
    done = subprocess.run(["bash"], input=script, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [words for _, words in COMPLETED]


def test_zsh_gets_a_script_of_its_own_that_eval_registers(shown):
    script = shown("completion", "zsh")
    assert script.startswith("#compdef kd\n")
    assert "compdef _shtab_kd -N kd" in script
    assert all(f"_shtab_kd_{name}_options" in script for name in COMMANDS)


def test_help_of_completion_gives_the_line_to_type_and_is_no_mistake(shown, monkeypatch):
    monkeypatch.setenv("SHELL", "/usr/bin/zsh")
    text = shown("completion", "--help")
    assert text.startswith("usage: python -m kd completion {bash,zsh}\n")
    assert 'eval "$(kd completion zsh)"' in text
    assert "~/.zshrc" in text


@pytest.mark.parametrize("words", [(), ("fish",), ("bash", "zsh")])
def test_a_shell_that_cannot_be_completed_for_is_refused_in_one_line(words, capsys):
    with pytest.raises(SystemExit) as end:
        program.main(["completion", *words])
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: completion needs the name of a shell: give one of bash, zsh\n"
