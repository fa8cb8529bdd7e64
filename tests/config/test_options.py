"""What each option may be is said once, and refused beyond it in one plain line before anything runs."""

import inspect
from dataclasses import fields
from typing import get_args, get_type_hints

import pytest

from kd.base.types import MatchName, ObjectiveName, UserError
from kd.config import (
    CacheConfig,
    CascadeConfig,
    CompareConfig,
    DistillConfig,
    ExportConfig,
    HpoConfig,
    MainConfig,
    MeasureConfig,
    PromoteConfig,
    StudentConfig,
    StudyConfig,
    TeacherConfig,
    listed,
)
from kd.config.commandline import parse

NEEDED = {
    CacheConfig: [],
    TeacherConfig: ["--dataset", "d"],
    StudentConfig: ["--dataset", "d"],
    DistillConfig: ["--dataset", "d"],
    MainConfig: [],
    HpoConfig: ["--dataset", "d"],
    StudyConfig: ["--design", "d.yaml"],
    CascadeConfig: [],
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
    ("beta", "1.01"),
    ("cache_budget_gib", "0"),
    ("seed", "0.5"),
    ("batch_size", "1e2"),
    ("transfer_confidence", "1.01"),
]
INSIDE = [
    ("alpha", "0"),
    ("alpha", "1"),
    ("beta", "0"),
    ("beta", "1"),
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
        (StudentConfig, ["--student_layers", "0,5", "--initialisation", "importance"], "initialisation='importance'"),
        (
            StudentConfig,
            ["--student", "m", "--student_layers", "2", "--initialisation", "importance"],
            "student='m' is another model",
        ),
        (StudentConfig, ["--student_config", "nowhere.json"], "student_config='nowhere.json' cannot be read"),
        (StudentConfig, ["--student_config", "c.json", "--student", "m"], "student='m' beside student_config='c.json'"),
        (StudentConfig, ["--student_config", "c.json", "--student_layers", "2"], "student_layers='2' beside"),
        (MainConfig, ["--student_config", "c.json", "--initialisation", "last"], "initialisation='last' beside"),
        (StudentConfig, ["--attribution_examples", "-1"], "attribution_examples=-1"),
        (CascadeConfig, ["--chain", "6,4.5,2"], "chain='6,4.5,2' is not understood"),
        (CascadeConfig, ["--chain", "6,,2"], "chain='6,,2' is not understood"),
        (CascadeConfig, ["--chain", "6,-4,2"], "chain='6,-4,2' is not understood"),
        (CascadeConfig, ["--chain", "6"], "chain='6' has no assistant"),
        (CascadeConfig, ["--chain", "6,2"], "chain='6,2' has no assistant"),
        (CascadeConfig, ["--chain", "6,2,4"], "chain='6,2,4' does not fall"),
        (CascadeConfig, ["--chain", "6,4,4"], "chain='6,4,4' does not fall"),
        (CascadeConfig, ["--chain", "6,4,0"], "chain='6,4,0' does not fall"),
        (CascadeConfig, ["--chain", "models:/t/1,4"], "chain='models:/t/1,4' has no assistant"),
        (CascadeConfig, ["--chain", "m,4,n,2,2"], "chain='m,4,n,2,2' does not fall"),
        (CascadeConfig, ["--chain", "m,4,2", "--teacher", "n"], "teacher='n' beside chain='m,4,2'"),
        (CascadeConfig, ["--chain", "m,n,o", "--initialisation", "first"], "chain='m,n,o' cuts no student"),
        (CascadeConfig, ["--student_layers", "2"], "student_layers='2' beside chain='6,4,2'"),
        (CascadeConfig, ["--student", "m"], "student='m' beside chain='6,4,2'"),
        (CascadeConfig, ["--objective", "none"], "objective='none'"),
        (CascadeConfig, ["--seeds", "0,0"], "seeds='0,0'"),
        (DistillConfig, ["--transfer", "rest"], "transfer='rest' is the training rows that labelled leaves out"),
        (MainConfig, ["--transfer", "rest"], "give labelled"),
        (DistillConfig, ["--transfer", "t.csv", "--objective", "none"], "transfer='t.csv' beside objective='none'"),
        (DistillConfig, ["--transfer_confidence", "0.5"], "transfer_confidence=0.5 chooses among transfer rows"),
        (DistillConfig, ["--transfer_balance", "true"], "transfer_balance=True chooses among transfer rows"),
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
        (DistillConfig, ["--transfer", "t.csv"]),
        (StudyConfig, ["--transfer", "rest"]),  # labelled may be an axis
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


@pytest.mark.parametrize(
    ("text", "spelt", "weights"),
    [
        ("soft", "soft", {"soft": 1.0}),
        (" soft : 1.0 ", "soft", {"soft": 1.0}),
        ("hidden:0.10,soft:0.5", "soft:0.5,hidden:0.1", {"soft": 0.5, "hidden": 0.1}),
        ("mixed", "soft,hidden,attention", {"soft": 1.0, "hidden": 1.0, "attention": 1.0}),
        ("dkd:3e-5", "dkd:3e-05", {"dkd": 3e-5}),
        ("jsd:0.12345678901", "jsd:0.12345678901", {"jsd": 0.12345678901}),
        ("none", "none", {"none": 1.0}),
    ],
)
def test_an_objective_has_one_spelling_so_that_equal_arms_are_one_arm(text, spelt, weights):
    config = parse(DistillConfig, ["--dataset", "d", "--objective", text])
    assert config.objective == spelt
    assert config.weights == weights
    assert list(config.weights) == [part.partition(":")[0] for part in spelt.split(",")]
    assert parse(DistillConfig, ["--dataset", "d", "--objective", spelt]) == config


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("softer", "'softer' is none"),
        ("soft;hard", "'soft;hard' is none"),
        ("soft,", "'' is none"),
        ("soft:0", "the weight '0' of soft"),
        ("soft:-1", "the weight '-1' of soft"),
        ("soft:inf", "the weight 'inf' of soft"),
        ("soft:nan", "the weight 'nan' of soft"),
        ("soft:", "the weight '' of soft"),
        ("soft:a", "the weight 'a' of soft"),
        ("soft:1:2", "the weight '1:2' of soft"),
        ("soft,hard,soft:2", "soft is given twice"),
        ("none,soft", "none stands alone"),
        ("none:0.5", "none stands alone"),
        ("mixed,soft", "'mixed' is none"),
    ],
)
def test_an_objective_that_is_not_understood_is_told_with_all_that_are(text, told):
    line = refusal(DistillConfig, "--objective", text)
    assert line.startswith(f"objective={text!r}")
    assert told in line
    assert all(name in line for name in (*get_args(ObjectiveName), "mixed", "soft:0.5,hidden:0.1"))


@pytest.mark.parametrize(("text", "spelt"), [("last", "last"), (" skip ", "skip"), ("1:5, 0:02", "0:2,1:5")])
def test_a_map_of_layers_has_one_spelling(text, spelt):
    assert parse(DistillConfig, ["--dataset", "d", "--match", text]).match == spelt


@pytest.mark.parametrize("text", ["first", "0", "0:1:2", "0:a", "-1:2", "0:1,", "0:1,0:1"])
def test_a_map_of_layers_that_is_not_understood_is_told_with_what_is(text):
    line = refusal(DistillConfig, f"--match={text}")
    assert line.startswith(f"match={text!r}")
    assert "spaced, last, skip, or pairs" in line


def test_help_names_every_objective_and_every_map_for_they_are_no_choices_that_the_parser_could_list(capsys):
    with pytest.raises(SystemExit):
        parse(DistillConfig, ["--help"])
    said = capsys.readouterr().out
    told = said[said.index("--objective OBJECTIVE\n") :]
    assert all(name in told.partition("--alpha")[0] for name in (*get_args(ObjectiveName), "mixed"))
    assert all(name in told.partition("--match MATCH")[2] for name in get_args(MatchName))


def test_a_student_of_another_shape_is_refused_beside_a_chain(tmp_path):
    path = tmp_path / "c.json"
    path.write_text('{"num_hidden_layers": 2}')
    assert f"student_config='{path}' beside chain=" in refusal(CascadeConfig, "--student_config", str(path))


@pytest.mark.parametrize("content", ["{", "[1]", "3", "{}", ""])
def test_a_student_config_that_holds_no_settings_is_refused(tmp_path, content):
    path = tmp_path / "c.json"
    path.write_text(content)
    assert f"student_config='{path}'" in refusal(StudentConfig, "--student_config", str(path))
