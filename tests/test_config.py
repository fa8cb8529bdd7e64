"""A wrong option is refused in one plain line, at once; what `mlflow run` passes for "not given" is not given."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pytest

from kd.config import (
    CompareConfig,
    DistillConfig,
    MainConfig,
    MeasureConfig,
    PromoteConfig,
    StudentConfig,
    TeacherConfig,
    parse,
)
from kd.types import UserError

ROOT = Path(__file__).parent.parent
NEEDED = {
    TeacherConfig: ["--dataset", "d"],
    StudentConfig: ["--dataset", "d"],
    DistillConfig: ["--dataset", "d"],
    MainConfig: [],
    MeasureConfig: ["--model", "models:/m/1"],
    CompareConfig: [],
    PromoteConfig: ["--model", "m"],
}
FREE = {"min_metric"}
"""Numbers of any sign: a metric's threshold."""
HINTS = {config: get_type_hints(config) for config in NEEDED}
NUMBERS = [
    (config, name)
    for config, hints in HINTS.items()
    for name, hint in hints.items()
    if {int, float} & {hint, *get_args(hint)} and name not in FREE
]
ONCE = list({name: (config, name) for config, name in NUMBERS}.values())


def choices(hint):
    options = [hint, *get_args(hint)]
    return next((get_args(option) for option in options if get_origin(option) is Literal), ())


CHOSEN = {name: (config, name) for config, hints in HINTS.items() for name, hint in hints.items() if choices(hint)}


def distill(*words):
    return parse(DistillConfig, [*NEEDED[DistillConfig], *words])


def refusal(config, *words):
    with pytest.raises(UserError) as caught:
        parse(config, [*NEEDED[config], *words])
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_every_dataclass_with_options_is_covered_here():
    import kd.config

    assert {one for name, one in vars(kd.config).items() if name.endswith("Config")} - {kd.config.Config} == set(NEEDED)


@pytest.mark.parametrize(("config", "option"), NUMBERS, ids=[f"{c.__name__}.{o}" for c, o in NUMBERS])
def test_every_number_has_a_range_and_its_refusal_names_option_value_and_range(config, option):
    given = {word[2:]: value for word, value in zip(NEEDED[config][::2], NEEDED[config][1::2], strict=True)}
    with pytest.raises(UserError, match=rf"^{option}=-1 is out of range: give a "):
        config(**given, **{option: -1})


@pytest.mark.parametrize(("config", "option"), ONCE, ids=[option for _, option in ONCE])
@pytest.mark.parametrize("value", ["many", "nan", "inf"])
def test_text_infinity_and_no_number_are_not_taken_for_numbers(config, option, value):
    assert refusal(config, f"--{option}", value).startswith(f"{option}=")


@pytest.mark.parametrize(("config", "option"), CHOSEN.values(), ids=CHOSEN)
def test_an_unknown_choice_names_all_there_are(config, option):
    text = refusal(config, f"--{option}", "nothing-such")
    assert text.startswith(f"{option}='nothing-such'")
    assert ", ".join(choices(HINTS[config][option])) in text


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("epochs", "0"),
        ("batch_size", "0"),
        ("gradient_accumulation", "0"),
        ("learning_rate", "0"),
        ("warmup_ratio", "1.01"),
        ("max_length", "3"),
        ("alpha", "1.01"),
        ("temperature", "0"),
        ("seed", "0.5"),
        ("batch_size", "1e2"),
    ],
)
def test_the_edge_outside_each_range_is_refused(option, value):
    assert refusal(DistillConfig, f"--{option}", value).startswith(f"{option}=")


@pytest.mark.parametrize(
    ("option", "value"),
    [("alpha", "0"), ("alpha", "1"), ("warmup_ratio", "0.99"), ("patience", "0"), ("max_length", "4"), ("epochs", "1")],
)
def test_the_edge_inside_each_range_is_taken(option, value):
    assert getattr(distill(f"--{option}", value), option) == float(value)


@pytest.mark.parametrize(
    ("config", "words", "named"),
    [
        (MainConfig, ["--seeds", "0,0"], "seeds='0,0'"),
        (MainConfig, ["--seeds", "a,b"], "seeds='a,b'"),
        (MainConfig, ["--seeds", "-1"], "seeds='-1'"),
        (MainConfig, ["--seeds", "0,"], "seeds='0,'"),
        (MeasureConfig, ["--model", "somewhere"], "model='somewhere'"),
        (PromoteConfig, ["--candidate", "newest"], "candidate='newest'"),
        (PromoteConfig, ["--candidate", "@"], "candidate='@'"),
        (PromoteConfig, ["--min_metric", "high"], "min_metric='high'"),
        (PromoteConfig, ["--min_metric", "nan"], "min_metric='nan'"),
        (StudentConfig, ["--student_layers", "0,5", "--initialisation", "first"], "initialisation='first'"),
    ],
)
def test_words_that_cannot_be_meant_are_refused_before_anything_runs(config, words, named):
    assert named in refusal(config, *words)


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
    optional = [field.name for field in fields(config) if field.name not in required]
    words = [part.format(option) for option in optional for part in form]
    assert parse(config, [*NEEDED[config], *words]) == bare


def test_both_forms_of_an_option_mean_the_same():
    assert distill("--seed=7", "--alpha=0.25") == distill("--seed", "7", "--alpha", "0.25")


@pytest.mark.parametrize("value", ["007", "null", "true", "1.0", "[a]", "a: b", "@x", "{x}", "# no comment", "a\nb"])
def test_a_column_name_that_looks_like_something_else_stays_text(value):
    assert distill("--text_column", value).text_column == value


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


def command(name, *words):
    """Run an entry point; returns exit code, lines on stdout, lines on stderr, and the modules imported."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"entrypoints.{name}", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stderr.splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    said = [line for line in lines if not line.startswith("import time:")]
    return done.returncode, done.stdout.splitlines(), said, imported


HEAVY = {"torch", "mlflow", "transformers", "datasets", "pandas", "numpy"}


@pytest.mark.parametrize("config", NEEDED, ids=lambda config: config.__name__)
def test_help_answers_without_loading_torch_or_mlflow_and_explains_every_option(config):
    code, shown, said, imported = command(config.__name__.removesuffix("Config").lower(), "--help")
    assert (code, said) == (0, [])
    assert not imported & HEAVY
    explained = "\n".join(shown)
    assert all(f"--{field.name}" in explained for field in fields(config))


@pytest.mark.parametrize("words", [["--temprature", "2"], ["--seed", "-1", "--dataset", "d", "--teacher", "t"], []])
def test_a_mistake_costs_one_line_and_exit_code_2_not_a_traceback(words):
    code, shown, said, imported = command("distill", *words)
    assert (code, shown, len(said)) == (2, [], 1)
    assert said[0].startswith("error: ")
    assert not imported & HEAVY
