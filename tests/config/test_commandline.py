"""A wrong option is refused in one plain line, at once; what `mlflow run` passes for "not given" is not given."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest

from kd.base.types import UserError
from kd.commands import COMMANDS
from kd.config import (
    CascadeConfig,
    CompareConfig,
    DistillConfig,
    HpoConfig,
    MainConfig,
    PromoteConfig,
    options_in,
    value_of,
)
from kd.tasks import TASKS, TaskEntry
from kd.tasks.classification.options import ClassificationOptions
from tests.config.test_options import HINTS, NEEDED, NUMBERS, ToyOptions, parse, refusal

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path.stem for path in (ROOT / "entrypoints").glob("*.py") if path.stem != "__init__")
ONCE = list({name: (config, name) for config, name in NUMBERS}.values())


def choices(hint):
    options = [hint, *get_args(hint)]
    return next((get_args(option) for option in options if get_origin(option) is Literal), ())


CHOSEN = {name: (config, name) for config, hints in HINTS.items() for name, hint in hints.items() if choices(hint)}


def distill(*words):
    return parse(DistillConfig, [*NEEDED[DistillConfig], *words])


@pytest.mark.parametrize(("config", "option"), ONCE, ids=[option for _, option in ONCE])
@pytest.mark.parametrize("value", ["many", "nan", "inf"])
def test_text_infinity_and_no_number_are_not_taken_for_numbers(config, option, value):
    assert refusal(config, f"--{option}", value).startswith(f"{option}=")


@pytest.mark.parametrize(("config", "option"), ONCE, ids=[option for _, option in ONCE])
@pytest.mark.parametrize("value", ["0x10", "1:30", "1_000", "010", "٣", "9" * 400, "9" * 5000, "1e999", "0b1", "1,5"])
def test_a_number_that_is_no_plain_decimal_is_refused_in_a_short_line_and_not_read_in_another_way(
    config, option, value
):
    text = refusal(config, f"--{option}", value)
    assert text.startswith(f"{option}='{value[:20]}")
    assert " is not understood: give a " in text
    assert len(text) < 300


@pytest.mark.parametrize("seeds", ["0x1,2,3", "01,2,3", "1_0,2,3", "١,2,3", "1:30,2,3", "9" * 400 + ",2,3", "1,2,3,"])
def test_seeds_that_are_no_plain_decimals_are_refused(seeds):
    assert "is out of range" in refusal(MainConfig, "--seeds", seeds)
    assert "is out of range" in refusal(HpoConfig, "--final_seeds", seeds)


@pytest.mark.parametrize("text", ["soft:0x1", "soft:1_0", "soft:٣", "soft:1:30", "soft:inf", "soft:1e-400", "soft:010"])
def test_weights_that_are_no_plain_decimals_are_refused(text):
    assert "is no finite number > 0" in refusal(DistillConfig, "--objective", text)


@pytest.mark.parametrize("chain", ["٦,4,2", "06,4,2", "6,4,02", "9" * 400 + ",4,2"])
def test_layers_of_a_chain_that_are_no_plain_decimals_are_refused(chain):
    assert "is not understood" in refusal(CascadeConfig, "--chain", chain)


def test_an_equal_number_is_spelt_alike_so_that_equal_options_look_equal():
    assert str(distill("--weight_decay", "-0.0").weight_decay) == str(distill("--weight_decay", "0").weight_decay)
    assert distill("--learning_rate", "1e-4") == distill("--learning_rate", " .0001 ")


@pytest.mark.parametrize(("config", "option"), CHOSEN.values(), ids=CHOSEN)
def test_an_unknown_choice_names_all_there_are(config, option):
    text = refusal(config, f"--{option}", "nothing-such")
    assert text.startswith(f"{option}='nothing-such'")
    assert ", ".join(choices(HINTS[config][option])) in text


@pytest.mark.parametrize("config", NEEDED, ids=lambda config: config.__name__)
def test_a_missing_option_is_named(config):
    for option in NEEDED[config][::2]:
        words = list(NEEDED[config])
        place = words.index(option)
        del words[place : place + 2]
        with pytest.raises(UserError, match=f"^{option[2:]} is missing"):
            parse(config, words)
        with pytest.raises(UserError, match=f"^{option[2:]} is missing"):
            parse(config, [*words, option, ""])


@pytest.mark.parametrize("config", NEEDED, ids=lambda config: config.__name__)
@pytest.mark.parametrize("form", [["--{}", ""], ["--{}", "None"], ["--{}="], ["--{}=None"]])
def test_empty_and_none_count_as_not_given(config, form):
    bare = parse(config, NEEDED[config])
    required = {word[2:] for word in NEEDED[config][::2]}
    optional = [name for name in options_in(config, ClassificationOptions) if name not in required]
    words = [part.format(option) for option in optional for part in form]
    assert parse(config, [*NEEDED[config], *words]) == bare


@pytest.mark.parametrize(
    "value", ["params.student=None", "a=", "a==", "=None", "=", "a=b=None", " None", "none", "None "]
)
def test_text_that_ends_in_an_equals_sign_or_none_arrives_as_it_is_given_and_is_not_dropped(value):
    for config, option in ((CompareConfig, "filter"), (DistillConfig, "text_column"), (DistillConfig, "student")):
        for words in ([f"--{option}", value], [f"--{option}={value}"]):
            assert value_of(parse(config, [*NEEDED[config], *words]), option) == value


def test_both_forms_of_an_option_mean_the_same():
    assert distill("--seed=7", "--alpha=0.25") == distill("--seed", "7", "--alpha", "0.25")


# Switches


def promote(*words):
    return parse(PromoteConfig, ["--model", "m", *words])


@pytest.mark.parametrize("words", [["--rollback"], ["--rollback", "--dry_run"], ["--rollback", "--candidate", "3"]])
def test_a_bare_switch_is_on_and_takes_no_other_option_for_its_value(words):
    given = promote(*words)
    assert given.rollback is True
    assert given.dry_run is ("--dry_run" in words)
    assert given.candidate == ("3" if "3" in words else "@challenger")
    assert parse(PromoteConfig, [*words, "--model", "m"]) == given


@pytest.mark.parametrize(("value", "on"), [("True", True), ("true", True), ("False", False), ("false", False)])
def test_a_switch_takes_its_value_as_mlflow_run_passes_it(value, on):
    assert promote("--rollback", value).rollback is promote(f"--rollback={value}").rollback is on
    assert promote("--rollback", value, "--candidate", "3").candidate == "3"


@pytest.mark.parametrize("words", [["--rollback", ""], ["--rollback", "None"], ["--rollback="], ["--rollback=None"]])
def test_an_empty_switch_is_off_and_not_on(words):
    assert promote(*words).rollback is False
    assert promote(*words, "--dry_run").dry_run is True


@pytest.mark.parametrize("value", ["maybe", "1", "-1", "m"])
def test_a_switch_that_is_neither_true_nor_false_is_refused(value):
    text = refusal(PromoteConfig, "--rollback", value)
    assert text == f"rollback={value!r} is not understood: give true or false"


def test_only_switches_may_stand_bare():
    assert "candidate" in refusal(PromoteConfig, "--candidate")
    assert "candidate" in refusal(PromoteConfig, "--candidate", "--rollback")


# Text


@pytest.mark.parametrize("value", ["007", "null", "true", "1.0", "[a]", "a: b", "@x", "{x}", "# no comment", "a\nb"])
def test_a_column_name_that_looks_like_something_else_stays_text(value):
    assert distill("--text_column", value).task_options.text_column == value


def test_a_number_beside_a_list_of_indices_stays_the_text_that_the_layer_map_reads():
    assert distill("--student_layers", "2").student_layers == "2"
    assert distill("--student_layers", "0,5").student_layers == "0,5"


@pytest.mark.parametrize("word", ["--temp", "--temperatur", "--alph=0.5", "--seed_s", "--dataset.x", "--print_config"])
def test_an_abbreviated_or_mistyped_option_is_refused_not_guessed(word):
    words = [word] if "=" in word else [word, "1"]
    assert f"unknown option {word.split('=')[0]}" in refusal(DistillConfig, *words)


def test_a_near_miss_is_suggested():
    assert "did you mean --temperature?" in refusal(DistillConfig, "--temprature", "2")
    assert "did you mean --student_layers?" in refusal(DistillConfig, "--student-layers", "2")


@pytest.mark.parametrize("words", [["stray"], ["-s", "1"], ["--seed"]])
def test_a_stray_word_or_a_missing_value_is_refused(words):
    assert refusal(DistillConfig, *words)


# Processes


def python(*words, folder=ROOT):
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True, check=False)


def command(name, *words):
    """Run an entry point; returns exit code, lines on stdout, lines on stderr, and the modules imported."""
    done = python("-X", "importtime", "-m", f"entrypoints.{name}", *words)
    lines = done.stderr.splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    said = [line for line in lines if not line.startswith("import time:")]
    return done.returncode, done.stdout.splitlines(), said, imported


HEAVY = {"torch", "mlflow", "transformers", "datasets", "pandas", "numpy", "rich", "yaml", "psutil", "shtab"}


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_answers_without_loading_what_takes_longer_and_explains_every_option(name):
    code, shown, said, imported = command(name, "--help")
    assert (code, said) == (0, [])
    assert not imported & HEAVY
    explained = "\n".join(shown)
    options = options_in(COMMANDS[name], ClassificationOptions)
    assert options
    assert all(f"--{option}" in explained for option in options)


@pytest.mark.parametrize("words", [["--temprature", "2"], ["--seed", "-1", "--dataset", "d", "--teacher", "t"], []])
def test_a_mistake_costs_one_line_and_exit_code_2_not_a_traceback(words):
    code, shown, said, imported = command("distill", *words)
    assert (code, shown, len(said)) == (2, [], 1)
    assert said[0].startswith("error: ")
    assert not imported & HEAVY


MISTAKES = {
    "main": (
        ["--dataset", "{rows}"],
        "'text' (text_column) is not in rows.csv, which has clause, label; did you mean text_column=clause?",
    ),
    "distill": (["--dataset", "{rows}", "--text_column", "clause", "--transfer", "nowhere.csv"], "nowhere.csv"),
    "hpo": (["--dataset", "{rows}", "--text_column", "clause", "--labelled", "90"], "labelled=90"),
    "study": (["--design", "{design}", "--dataset", "{rows}", "--dry_run"], "text_column=clause?"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_data_costs_no_import_of_torch_and_no_store(name, tmp_path, monkeypatch):
    rows, design = tmp_path / "rows.csv", tmp_path / "d.yaml"
    rows.write_text("clause,label\n" + "".join(f"word {row},{row % 3}\n" for row in range(60)))
    design.write_text("axes: {seed: [0]}")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    words, told = MISTAKES[name]
    code, _, said, imported = command(name, *(word.format(rows=rows, design=design) for word in words))
    assert (code, len(said)) == (2, 1)
    assert told in said[0]
    assert "torch" not in imported
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize("words", [["--help"], ["--temprature", "2"], ["--dataset", "d", "--alpha", "2"]])
def test_python_m_kd_does_what_the_entry_point_does_from_any_folder(words, tmp_path):
    one, other = (python("-m", *way, *words, folder=tmp_path) for way in (["kd", "distill"], ["entrypoints.distill"]))
    assert (one.returncode, one.stdout, one.stderr) == (other.returncode, other.stdout, other.stderr)
    assert one.stdout or one.stderr


def test_python_m_kd_alone_lists_the_commands_and_a_mistyped_one_is_refused_in_one_line(tmp_path):
    alone = python("-m", "kd", folder=tmp_path)
    assert (alone.returncode, alone.stderr) == (0, "")
    lines = alone.stdout.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "] == list(COMMANDS)
    assert set(COMMANDS) == set(SCRIPTS)
    wrong = python("-m", "kd", "distil", "--dataset", "d", folder=tmp_path)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "error: unknown command 'distil': did you mean distill?\n"


@pytest.mark.parametrize("words", [[], ["cache", "--help"]])
def test_help_that_a_pager_cuts_off_ends_without_a_stack_trace(words, tmp_path):
    line = f"{shlex.join([sys.executable, '-m', 'kd', *words])} | true"
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_a_task_that_is_registered_while_this_runs_can_be_named(monkeypatch):
    monkeypatch.setitem(TASKS, "toy", TaskEntry(ToyOptions, "tests.toys:Toy"))
    given = parse(DistillConfig, ["--dataset", "d", "--task", "toy", "--horizon", "9"])
    assert (given.task, given.task_options) == ("toy", ToyOptions(horizon=9))
