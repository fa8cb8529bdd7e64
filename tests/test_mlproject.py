"""MLproject, the environment files and the command line agree; MLflow drops what they do not share, silently."""

import ast
import importlib.util
import re
import shlex
from dataclasses import MISSING
from pathlib import Path
from typing import get_args

import pytest
import yaml
from mlflow.projects._project_spec import load_project

from kd.base.types import InitialisationName, ObjectiveName, TaskName, UserError
from kd.commands import COMMANDS, read
from kd.config import options_in, value_of
from kd.models.layers import LAYER_MAPS
from kd.objectives import OBJECTIVES
from kd.tasks import TASKS, options_of, task_named

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "MLproject").read_text(encoding="utf-8")
PROJECT = yaml.safe_load(TEXT)
ENTRY_POINTS = PROJECT["entry_points"]
LOADED = load_project(str(ROOT))
every_entry_point = pytest.mark.parametrize("name", ENTRY_POINTS)


def command_line(name, given):
    """The words that reach the entry point from `mlflow run . -e NAME -P ...`, by MLflow's own code and a shell."""
    words = shlex.split(LOADED.get_entry_point(name).compute_command(given, None))
    assert words[:3] == ["python", "-m", f"entrypoints.{name}"]
    return words[3:]


def read_by_mlflow(name, given):
    return read(name, command_line(name, {**required(name, given), **given}))


# Values of options that take no free text or number: an example that differs from the default, and what goes with it.
EXAMPLES = {
    "time_split": ("0.5,0.25,0.25", {}),
    "known_ahead": ("it's carbs", {"covariates": "bolus,it's carbs"}),
    "quantiles": ("0.1,0.5,0.9", {}),
    "missing_share": (0.25, {}),
    "patch_length": (6, {}),
    "task": ("forecasting", {}),
    "model": ("models:/it's m/3", {}),
    "to_model": ("it's n", {}),
    "seeds": ("4, 5,6", {}),
    "final_seeds": ("7,8,9", {}),
    "chain": ("12,3,1", {}),
    "objective": ("soft:0.5,hidden:0.1", {}),
    "match": ("0:2,1:5", {}),
    "initialisation": ("last", {}),
    "student_config": (str(ROOT / "tests" / "tiny.json"), {}),
    "transfer_confidence": (0.7, {"transfer": "t.csv"}),
    "transfer_balance": (True, {"transfer": "t.csv"}),
    "directions": ("accuracy,size", {}),
    "constraints": ("size_mib<=40, gflops<=1", {}),
    "sampler": ("random", {}),
    "candidate": ("@it's", {}),
    "older_than_days": (1.5, {"action": "prune"}),
    "keep_gib": (1.5, {"action": "prune"}),
    "all": (True, {"action": "prune"}),
    "action": ("verify", {}),
    "warmup_ratio": (0.25, {}),
    "min_agreement": (0.25, {}),
    "max_ece": (0.25, {}),
    "min_parity": (0.25, {}),
    "min_metric": (-1.5, {}),
    "max_group_ratio": (1.5, {}),
    "devices": (str(ROOT / "devices.yaml"), {}),
    "fits": ("phone, board", {"devices": str(ROOT / "devices.yaml")}),
    "alpha": (0.25, {}),
    "beta": (0.25, {}),
    "resume": ("never", {}),
    "student_layers": ("0, 5", {}),
    "study_name": ('it\'s one, "two"  three', {}),
}
OF_TASK = {("forecasting", "objective"): ("hidden:0.1,mse:0.5", {})}
OTHER = {("promote", "model"): "it's m", ("export", "model"): "models:/it's m/@a", ("export", "format"): "onnx-int8"}
FREE = 'it\'s "a" $HOME  `x` \\ {y}; --z=1 #é'
"""Text that a shell, YAML or `str.format` would spoil."""


def example(name, option):
    """A value that the option takes and that is not its default, and the options that it needs beside it."""
    if (name, option.name) in OTHER:
        return OTHER[name, option.name], {}
    if option.name in EXAMPLES:
        return EXAMPLES[option.name]
    if option.words:
        return next(word for word in option.words if word != option.default), {}
    kinds = (option.kind, *get_args(option.kind))
    if bool in kinds:
        return not option.default, {}
    if int in kinds or float in kinds:
        return (option.default or 0) + (4 if int in kinds else 0.125), {}
    return FREE, {}


def required(name, given):
    """Values of the options that must be given, but for those in `given`."""
    known = options_in(COMMANDS[name]).values()
    return {one.name: example(name, one)[0] for one in known if one.default is MISSING and one.name not in given}


EVERY = [
    (name, task, option.name)
    for name in ENTRY_POINTS
    for task in (TASKS if "task" in options_in(COMMANDS[name]) else [next(iter(TASKS))])
    for option in options_in(COMMANDS[name], options_of(task)).values()
    if (name, option.name) not in {("cascade", "student"), ("cascade", "student_layers"), ("cascade", "student_config")}
]


def test_every_script_is_an_entry_point_and_a_command_and_the_other_way_round():
    scripts = {path.stem for path in (ROOT / "entrypoints").glob("*.py")} - {"__init__"}
    assert scripts == set(ENTRY_POINTS) == set(COMMANDS)


def test_the_project_fits_on_two_screens():
    lines = TEXT.splitlines()
    assert len(lines) <= 150
    assert max(map(len, lines)) <= 120


@every_entry_point
def test_the_script_starts_the_command_of_its_name(name):
    tree = ast.parse((ROOT / "entrypoints" / f"{name}.py").read_text(encoding="utf-8"))
    started = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert started == [f"start('{name}')"]
    assert importlib.util.find_spec(f"kd.commands.{name}")
    assert COMMANDS[name].__name__ == f"{name.capitalize()}Config"


@every_entry_point
def test_what_is_declared_are_options_with_the_same_defaults_and_few(name):
    known = options_in(COMMANDS[name])
    declared = LOADED.get_entry_point(name).parameters
    assert min(4, len(known)) <= len(declared) <= 10
    for option, parameter in declared.items():
        default = known[option].default
        text = None if default is MISSING else "" if default is None else str(default)
        assert (None if parameter.default is None else str(parameter.default)) == text, option
    assert {option for option, one in known.items() if one.default is MISSING} <= declared.keys()


@every_entry_point
def test_the_command_names_every_declared_parameter_because_mlflow_drops_the_others(name):
    words = ENTRY_POINTS[name]["command"].split()
    declared = ENTRY_POINTS[name]["parameters"]
    assert words[3:] == [word for option in declared for word in (f"--{option}", f"{{{option}}}")]


@every_entry_point
def test_mlflow_run_with_its_defaults_means_the_same_as_the_bare_command(name):
    bare = [word for option, value in required(name, {}).items() for word in (f"--{option}", value)]
    assert read_by_mlflow(name, {}) == read(name, bare)


@pytest.mark.parametrize(("name", "task", "option"), EVERY, ids=[f"{name}-{option}" for name, _, option in EVERY])
def test_each_option_reaches_the_command_as_it_is_given_declared_or_not(name, task, option, tmp_path, monkeypatch):
    known = options_in(COMMANDS[name], options_of(task))
    value, beside = OF_TASK.get((task, option)) or example(name, known[option])
    assert option == "task" or value != known[option].default
    if option == "student_config":
        value = tmp_path / "it's a file.json"
        value.write_text('{"num_hidden_layers": 2}')
    beside = {"task": task, **beside} if "task" in known else beside
    given = {**beside, option: str(value)}
    found = read_by_mlflow(name, {one: str(each) for one, each in given.items()})
    assert value_of(found, option) == (str(value) if option == "student_config" else value)


@pytest.mark.parametrize(("name", "task", "option"), EVERY, ids=[f"{name}-{option}" for name, _, option in EVERY])
@pytest.mark.parametrize("value", ["", "None"])
def test_an_option_given_empty_or_none_has_its_default(name, task, option, value):
    if options_in(COMMANDS[name], options_of(task))[option].default is not MISSING:
        plain = {"task": task} if "task" in options_in(COMMANDS[name]) else {}
        assert read_by_mlflow(name, {**plain, option: value}) == read_by_mlflow(name, plain if option != "task" else {})


@pytest.mark.parametrize("value", ["--teacher", "--x", "-1", "a=b", "'", "\\", "True", "none", "0"])
def test_awkward_text_of_an_undeclared_option_is_not_taken_for_another(value):
    if value == "--teacher":  # MLflow gives a name and a value as two words: this one cannot be told from an option
        with pytest.raises(Exception, match="text_column has no value"):
            read_by_mlflow("distill", {"text_column": value})
    else:
        assert value_of(read_by_mlflow("distill", {"text_column": value}), "text_column") == value


@pytest.mark.parametrize("value", ["params.student=None", "a=", "=None", "a=b=None"])
@pytest.mark.parametrize(
    ("name", "option"), [("compare", "filter"), ("distill", "text_column"), ("student", "student")]
)
def test_text_that_ends_in_an_equals_sign_or_none_is_not_dropped_declared_or_not(name, option, value):
    assert value_of(read_by_mlflow(name, {option: value}), option) == value


@pytest.mark.parametrize("value", ["1:30", "0x10", "010", "1_000", "9" * 400, "nan"])
@pytest.mark.parametrize("option", ["epochs", "learning_rate", "patience"])  # the last is not declared
def test_a_number_that_is_no_plain_decimal_is_refused_under_mlflow_run_too(option, value):
    with pytest.raises(UserError, match=f"^{option}='{value[:9]}.* is not understood: give a "):
        read_by_mlflow("distill", {option: value})


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
def test_a_task_goes_by_the_name_that_is_given_for_it(name):
    assert task_named(name).name == name


@pytest.mark.skipif(not (ROOT / "README.md").is_file(), reason="README.md is not written yet")
@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_the_readme_mentions_every_entry_point(name):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(rf"(-e {name}\b|entrypoints\.{name}\b|`{name}`)", text)
