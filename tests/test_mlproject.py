"""MLproject, the environment files and the command line say the same; MLflow drops what they do not share, silently."""

import ast
import importlib.util
import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import get_args

import pytest
import yaml

import kd.config
from kd.base.types import InitialisationName, ObjectiveName, TaskName
from kd.config.commandline import parse
from kd.models.layers import LAYER_MAPS
from kd.objectives import OBJECTIVES
from kd.tasks import TASKS

ROOT = Path(__file__).parent.parent
PROJECT = yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))
ENTRY_POINTS = PROJECT["entry_points"]
INTERNAL = {"into_run"}
"""Options that stages give one another; a user does not see them under `mlflow run`."""


def options(name):
    config = getattr(kd.config, f"{name.capitalize()}Config")
    return {field.name: field.default for field in fields(config) if field.name not in INTERNAL}


def declared(name):
    return ENTRY_POINTS[name]["parameters"]


def test_every_script_is_an_entry_point_and_the_other_way_round():
    scripts = {path.stem for path in (ROOT / "entrypoints").glob("*.py")} - {"__init__"}
    assert scripts == set(ENTRY_POINTS)


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_the_script_starts_the_stage_of_its_name_with_the_options_of_its_name(name):
    tree = ast.parse((ROOT / "entrypoints" / f"{name}.py").read_text(encoding="utf-8"))
    started = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert started == [f"start('{name}', {name.capitalize()}Config)"]
    assert importlib.util.find_spec(f"kd.commands.{name}")


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_parameters_and_defaults_are_those_of_the_dataclass(name):
    expected = {
        option: None if default is MISSING else "" if default is None else str(default)
        for option, default in options(name).items()
    }
    assert {
        option: said["default"] if isinstance(said, dict) else None for option, said in declared(name).items()
    } == expected


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_the_command_names_every_parameter_because_mlflow_drops_the_others(name):
    words = ENTRY_POINTS[name]["command"].split()
    assert words[:3] == ["python", "-m", f"entrypoints.{name}"]
    assert words[3:] == [word for option in declared(name) for word in (f"--{option}", f"{{{option}}}")]


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_mlflow_run_with_its_defaults_means_the_same_as_the_bare_command(name):
    config = getattr(kd.config, f"{name.capitalize()}Config")
    value = "m" if name == "promote" else "models:/m/1"
    needed = {option: value for option, default in options(name).items() if default is MISSING}
    bare = [word for option, value in needed.items() for word in (f"--{option}", value)]
    given = {option: said["default"] if isinstance(said, dict) else needed[option]
             for option, said in declared(name).items()}  # fmt: skip
    full = [word for option, value in given.items() for word in (f"--{option}", value)]
    assert parse(config, full) == parse(config, bare)


def pins(path):
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_conda_installs_what_pip_installs():
    conda = yaml.safe_load((ROOT / "conda.yaml").read_text(encoding="utf-8"))["dependencies"]
    listed = next(part["pip"] for part in conda if isinstance(part, dict))
    assert sorted(listed) == sorted(pins("requirements.txt") + pins("requirements-weights.txt"))
    assert all("==" in pin for pin in listed)


def test_only_the_environment_file_is_named_so_every_env_manager_works():
    assert PROJECT["conda_env"] == "conda.yaml"
    assert "python_env" not in PROJECT


@pytest.mark.parametrize(
    ("words", "strategies"),
    [(ObjectiveName, OBJECTIVES), (TaskName, TASKS), (InitialisationName, LAYER_MAPS)],
    ids=["objective", "task", "initialisation"],
)
def test_the_command_line_offers_exactly_what_there_is(words, strategies):
    assert list(get_args(words)) == list(strategies)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_goes_by_the_name_it_is_asked_for(name):
    assert TASKS[name].name == name


@pytest.mark.skipif(not (ROOT / "README.md").is_file(), reason="README.md is not written yet")
@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_the_readme_mentions_every_entry_point(name):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(rf"(-e {name}\b|entrypoints\.{name}\b|`{name}`)", text)
