"""The documentation agrees with the code: what it says can be typed, and what there is has its place in it."""

import ast
import importlib.util
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, ClassVar

import pytest
import yaml

from kd import __main__ as program
from kd.base import console
from kd.base.types import UserError
from kd.commands import COMMANDS, read
from kd.config import TaskOptions, options_in
from kd.config.base import Range
from kd.config.devices import devices_in
from kd.config.help import EXAMPLES
from kd.report.tables import COST
from kd.space.reading import read_space
from kd.sweep.design import read_design
from kd.tasks import TASKS, TaskEntry, options_of
from tests.documented import PAGES, ROOT, blocks, command_lines, entry_point, groups, on_one_line_each

NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
TOOLS = {"apt", "curl", "export", "mlflow", "pip", "python3", "source", "su", "&&"}
"""Commands of others, whose options are not ours to check."""
FOREIGN = {"env-manager", "no-deps", "experiment-name", "app-name", "backend-store-uri"}
OPTIONS = {
    option for name in COMMANDS for task in TASKS for option in (options_in(COMMANDS[name], options_of(task)))
}  # fmt: skip
CODE = [path.read_text(encoding="utf-8") for path in (ROOT / "kd").rglob("*.py")]
NO_TAGS = {"kd.json", "kd.value", "kd.identity", *(f"kd.{path.name}" for path in (ROOT / "kd").iterdir())}
"""Texts of the code that look like tags: a file, a column, a note of Optuna's, and modules."""


def text_of(page):
    return (ROOT / page).read_text(encoding="utf-8")


def generated():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATE = generated()


@pytest.mark.parametrize("page", NAMES)
def test_every_command_line_can_be_typed_as_it_is_written(page):
    targets = re.findall(r"^([\w-]+):", text_of("Makefile"), re.MULTILINE)
    for block, words in command_lines(page):
        if started := entry_point(words):
            name, given = started
            assert name in COMMANDS, words
            try:
                read(name, given)
            except UserError as error:
                pytest.fail(f"{block.page}: {' '.join(words)}: {error}")
        elif words[0] == "make":
            assert words[1] in targets, words
        elif words[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(words[2]), words
        else:
            assert words[0] in TOOLS, words


def test_a_command_line_that_has_an_unknown_option_is_noticed_in_each_way_of_writing_it():
    for line in (
        "kd teacher --dataset d --epoch 3",
        "python -m kd teacher --dataset d --epoch 3",
        "python -m entrypoints.teacher --dataset d --epoch 3",
        "mlflow run . -e teacher -P dataset=d -P epoch=3",
    ):
        name, given = entry_point(line.split())
        assert name == "teacher"
        with pytest.raises(UserError, match="did you mean --epochs"):
            read(name, given)


@pytest.mark.parametrize("page", NAMES)
def test_every_option_that_a_sentence_names_is_one(page):
    prose = re.sub(r"^```.*?^```", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(r"`([^`\n]+)`", prose):
        command = re.match(rf"(?:kd )?({'|'.join(COMMANDS)}) --", code)
        known = options_in(COMMANDS[command[1]]) if command else OPTIONS | FOREIGN
        named = re.findall(r"(?<!\S)--([\w-]+)", code) + re.findall(r"^([a-z_]+)=", code)
        assert [option for option in named if option not in known and option != "help"] == [], code


def test_commands_are_typed_in_one_way_and_one_page_says_which_others_there_are():
    other = re.compile(r"-m entrypoints\b|python -m kd\b")
    assert [page for page in NAMES if other.search(text_of(page))] == ["docs/reference/index.md"]


def test_the_readme_is_one_screen_after_another_and_no_wider_than_a_terminal():
    lines = text_of("README.md").splitlines()
    assert len(lines) <= 150
    assert max(len(line) for block in blocks(ROOT / "README.md") for line in block.text.splitlines()) <= 100


def test_every_tag_of_the_code_is_explained_and_no_other():
    found = {
        tag
        for text in CODE
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for tag in re.findall(r"^kd\.[a-z_]+", node.value)
    }
    explained = set(re.findall(r"`(kd\.[a-z_]+)", text_of("docs/reference/tags.md")))
    found |= {f"kd.fits_{budget}" for budget in ("latency", "ram", "size")}
    assert {tag for tag in found if not tag.endswith("_")} - (NO_TAGS - explained) == explained


def test_every_figure_of_cost_is_explained_and_those_that_are_explained_exist():
    page = text_of("docs/reference/metrics.md")
    cost = page[page.index("## Cost") : page.index("## Predictions")]
    assert {one.key for one in COST} - set(re.findall(r"`([a-z]+/\w+)`", cost)) == {"profile/latency_ms_p95"}
    whole = "\n".join(CODE)
    lacking = [name for name in re.findall(r"`(?:profile|model|cost)/(\w+)`", cost) if name not in whole]
    assert set(lacking) <= {"latency_ms_p50", "latency_ms_p95"}


@pytest.fixture
def help_of(capsys, monkeypatch):
    """What `kd NAME --help` prints, where a line is as long as it has to be."""

    def help_of(name):
        monkeypatch.setenv("COLUMNS", "10000")
        monkeypatch.setattr(console.sys, "argv", ["kd", name, "--help"])
        with suppress(SystemExit):
            program.main()
        return capsys.readouterr().out

    return help_of


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_of_options_says_what_help_says_in_the_same_groups_and_order(name, help_of):
    told, page = help_of(name), GENERATE.options_page(name)
    tables, default = {}, next(iter(TASKS))
    for line in page.splitlines():
        if heading := re.match(r"## ([^:]+)(?:: `task=(\w+)`)?", line):
            current = [] if heading[2] in (None, default) else None  # of another task
            tables |= {heading[1].lower(): current} if current is not None else {}
        elif (option := re.match(r"\| `(\w+)` \|", line)) and current is not None:
            current.append(option[1])
    assert [*tables.items()] == [*groups(told).items()]
    for option, line in on_one_line_each(told).items():
        default = re.search(r"\(default: (.*)\)$", line)
        stated = "**required**" if line.endswith("Required.") else f"`{default[1]}`" if default else ""
        assert f"\n| `{option}` | {stated} | " in page


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_of_a_page_are_those_of_help(name, help_of):
    _, _, below = help_of(name).partition("\nexamples:\n")
    block = GENERATE.options_page(name).partition("## Examples\n\n```bash\n")[2].partition("\n```")[0]
    lines = [line.removeprefix("# ") for line in block.splitlines()]
    assert len(lines) == 2 * len(EXAMPLES[name]) > 0
    assert lines == [line.strip() for line in below.splitlines() if line]


def test_an_option_that_one_task_alone_has_or_has_otherwise_is_on_the_page_too(monkeypatch):
    @dataclass(frozen=True, kw_only=True)
    class Series(TaskOptions):
        heading: ClassVar[str] = "series"
        objectives: ClassVar = ("mse", "hidden")
        max_length: Annotated[int, Range(bool, "an even number")] = 8

    monkeypatch.setitem(TASKS, "series", TaskEntry(Series, ""))
    page = GENERATE.options_page("distill")
    own = page.partition("## Series: `task=series`")[2].partition("\n## ")[0]
    assert [*re.findall(r"^\| `(\w+)` \|", own, re.MULTILINE)] == ["objective", "max_length"]
    assert "`mse` |" in own
    assert "| `8` | an even number |" in own
    assert "`classification`, `forecasting`, `series`" in page
    assert page.index("## Text classification") < page.index("## Series") < page.index("## Student")


def test_every_marker_of_a_page_is_filled_in_and_none_is_left_over():
    named = {found for page in NAMES for found in GENERATE.MARKER.findall(text_of(page))}
    assert named == set(GENERATE.GENERATED)
    for make in GENERATE.GENERATED.values():
        assert len(make()) > 100


@pytest.mark.parametrize("page", GENERATE.COPIED.values())
def test_links_of_pages_outside_of_the_site_lead_to_files_that_are_there(page):
    for target in re.findall(r"\]\(([^)#\s]+)", text_of(page)):
        assert "://" in target or ((ROOT / page).parent / target).exists(), target


def test_the_yaml_files_of_the_pages_are_read_by_the_commands(monkeypatch):
    monkeypatch.chdir(ROOT)  # where devices.yaml is
    read_ones = []
    for block in blocks():
        if block.language == "yaml":
            given = yaml.safe_load(block.text)
            if "axes" in given:
                read_design(given, "design", "design", options_of("classification"))
            elif "learning_rate" in given:
                read_space(given, "space")
            elif "phone" in given:
                devices_in(given, "devices")
            else:
                read(
                    "promote",
                    ["--model", "m", *(word for key, value in given.items() for word in (f"--{key}", f"{value}"))],
                )
            read_ones.append(given)
    assert len(read_ones) == 4


def test_a_study_of_the_results_keeps_its_tables_and_two_pictures():
    for folder in (path for path in (ROOT / "docs" / "results").iterdir() if path.is_dir()):
        assert {path.name for path in folder.iterdir()} == {"comparison.md", "gain.png", "quality_latency.png"}
