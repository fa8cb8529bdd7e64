"""What each option may be is said once, and refused beyond it in one plain line before anything runs."""

import inspect
from dataclasses import fields
from typing import get_args, get_type_hints

import pytest

from kd.commandline import parse
from kd.config import (
    CacheConfig,
    CompareConfig,
    DistillConfig,
    ExportConfig,
    HpoConfig,
    MainConfig,
    MeasureConfig,
    PromoteConfig,
    StudentConfig,
    TeacherConfig,
    listed,
)
from kd.types import UserError

NEEDED = {
    CacheConfig: [],
    TeacherConfig: ["--dataset", "d"],
    StudentConfig: ["--dataset", "d"],
    DistillConfig: ["--dataset", "d"],
    MainConfig: [],
    HpoConfig: ["--dataset", "d"],
    MeasureConfig: ["--model", "models:/m/1"],
    CompareConfig: [],
    PromoteConfig: ["--model", "m"],
    ExportConfig: ["--model", "models:/m/1"],
}
"""What each entry point must be given."""
FREE = {"min_metric"}
"""Numbers of any sign: a metric's threshold."""
HINTS = {config: get_type_hints(config) for config in NEEDED}
NUMBERS = [
    (config, name)
    for config, hints in HINTS.items()
    for name, hint in hints.items()
    if {int, float} & {hint, *get_args(hint)} and name not in FREE
]
OUTSIDE = [
    ("epochs", "0"),
    ("batch_size", "0"),
    ("gradient_accumulation", "0"),
    ("learning_rate", "0"),
    ("warmup_ratio", "1.01"),
    ("max_length", "3"),
    ("alpha", "1.01"),
    ("temperature", "0"),
    ("cache_budget_gib", "0"),
    ("seed", "0.5"),
    ("batch_size", "1e2"),
]
INSIDE = [
    ("alpha", "0"),
    ("alpha", "1"),
    ("warmup_ratio", "0.99"),
    ("patience", "0"),
    ("max_length", "4"),
    ("epochs", "1"),
]


def refusal(config, *words):
    with pytest.raises(UserError) as caught:
        parse(config, [*NEEDED[config], *words])
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_every_dataclass_with_options_is_covered_here():
    import kd.config

    assert {one for name, one in vars(kd.config).items() if name.endswith("Config")} == set(NEEDED)


@pytest.mark.parametrize(("config", "option"), NUMBERS, ids=[f"{c.__name__}.{o}" for c, o in NUMBERS])
def test_every_number_has_a_range_and_its_refusal_names_option_value_and_range(config, option):
    given = {word[2:]: value for word, value in zip(NEEDED[config][::2], NEEDED[config][1::2], strict=True)}
    with pytest.raises(UserError, match=rf"^{option}=-1 is out of range: give a "):
        config(**given, **{option: -1})


@pytest.mark.parametrize(
    ("config", "option", "value"),
    [
        *((DistillConfig, option, value) for option, value in OUTSIDE),
        (PromoteConfig, "min_agreement", "1.01"),
        (PromoteConfig, "max_ece", "1.01"),
        (PromoteConfig, "min_parity", "1.01"),
        (PromoteConfig, "latency_budget_ms", "0"),
        (PromoteConfig, "ram_budget_mib", "0"),
        (PromoteConfig, "size_budget_mib", "0"),
    ],
)
def test_the_edge_outside_each_range_is_refused(config, option, value):
    assert refusal(config, f"--{option}", value).startswith(f"{option}=")


@pytest.mark.parametrize(
    ("config", "option", "value"),
    [
        *((DistillConfig, option, value) for option, value in INSIDE),
        *((PromoteConfig, option, value) for option in ("min_agreement", "max_ece", "min_parity") for value in "01"),
        *((PromoteConfig, option, "0") for option in ("allowed_drop", "max_slice_drop", "min_teacher_share")),
        (PromoteConfig, "min_teacher_share", "1.2"),
        (PromoteConfig, "min_metric", "-1.5"),
        (ExportConfig, "allowed_drop", "0"),
    ],
)
def test_the_edge_inside_each_range_is_taken(config, option, value):
    assert getattr(parse(config, [*NEEDED[config], f"--{option}", value]), option) == float(value)


def test_a_gate_that_is_not_given_asks_for_nothing_and_is_not_a_threshold_of_0():
    given = parse(PromoteConfig, NEEDED[PromoteConfig])
    gates = [name for config, name in NUMBERS if config is PromoteConfig] + ["min_metric"]
    assert len(gates) == 10
    assert {getattr(given, gate) for gate in gates} == {None}


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
        (PromoteConfig, ["--candidate", "1.5"], "candidate='1.5'"),
        (PromoteConfig, ["--candidate", "-1"], "candidate='-1'"),
        (PromoteConfig, ["--to_model", "m"], "to_model='m'"),
        (PromoteConfig, ["--to_model", "n", "--rollback"], "to_model='n'"),
        (ExportConfig, ["--format", "safetensors"], "output is missing"),
        (ExportConfig, ["--model", "runs:/1/model"], "model='runs:/1/model'"),
        (ExportConfig, ["--format", "int8"], "format='int8'"),
        (CompareConfig, ["--runs", "a", "--experiments", "b"], "runs and models"),
        (CompareConfig, ["--runs", "a", "--filter", "b"], "runs and models"),
        (CompareConfig, ["--models", "models:/m/1", "--experiments", "b"], "runs and models"),
        (CompareConfig, ["--output", "xml"], "output='xml'"),
        (StudentConfig, ["--student_layers", "0,5", "--initialisation", "first"], "initialisation='first'"),
    ],
)
def test_words_that_cannot_be_meant_are_refused_before_anything_runs(config, words, named):
    assert named in refusal(config, *words)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (PromoteConfig, ["--candidate", "12"]),
        (PromoteConfig, ["--candidate", "@challenger"]),
        (PromoteConfig, ["--candidate", "best", "--to_model", "production"]),
        (ExportConfig, ["--format", "safetensors", "--output", "folder"]),
        (CompareConfig, ["--runs", "a,b", "--models", "models:/m/1"]),
        (CompareConfig, ["--experiments", "a", "--filter", "b", "--metric", "val/accuracy"]),
    ],
)
def test_words_that_go_together_are_taken(config, words):
    given = parse(config, [*NEEDED[config], *words])
    assert all(getattr(given, name[2:]) == value for name, value in zip(words[::2], words[1::2], strict=True))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ()),
        (" , ", ()),
        ("a", ("a",)),
        ("a, b,c ,", ("a", "b", "c")),
        ("models:/m@x,models:/m/2", ("models:/m@x", "models:/m/2")),
    ],
)
def test_lists_are_read_without_blanks_and_empty_places(text, names):
    assert listed(text) == names


@pytest.mark.parametrize("config", NEEDED, ids=lambda config: config.__name__)
def test_every_option_is_explained_beside_it(config):
    for kind in config.__mro__[:-1]:
        source = inspect.getsource(kind)
        for name in vars(kind).get("__annotations__", {}):
            line = next(line for line in source.splitlines() if line.strip().startswith(f"{name}:"))
            after = source[source.index(line) + len(line) :].lstrip()
            assert after.startswith('"""'), f"{kind.__name__}.{name}"
    assert fields(config)
