"""What each option may be is said once, and refused beyond it in one plain line before anything runs."""

import pickle
from dataclasses import MISSING, FrozenInstanceError, dataclass
from typing import ClassVar, get_args

import pytest

from kd.base.types import MatchName, UserError
from kd.commands import COMMANDS, read
from kd.config import (
    CacheConfig,
    CascadeConfig,
    CompareConfig,
    DemoConfig,
    DistillConfig,
    ExportConfig,
    HpoConfig,
    MainConfig,
    MeasureConfig,
    PromoteConfig,
    StudentConfig,
    StudyConfig,
    TaskOptions,
    TeacherConfig,
    as_params,
    default_of,
    listed,
    narrowed,
    options_from,
    options_in,
    value_of,
    with_options,
)
from kd.config.commandline import parse as parse_for
from kd.tasks import TASKS, options_of
from kd.tasks.classification.options import ClassificationOptions

NEEDED = {
    CacheConfig: [],
    TeacherConfig: ["--dataset", "d"],
    StudentConfig: ["--dataset", "d"],
    DistillConfig: ["--dataset", "d"],
    DemoConfig: [],
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
HINTS = {config: {one.name: one.kind for one in options_in(config).values()} for config in NEEDED}
COMMAND = {config: name for name, config in COMMANDS.items()}
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


def parse(config, words):
    return read(COMMAND[config], words)


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
        (PromoteConfig, "max_group_ratio", "0.99"),
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
        (PromoteConfig, "max_group_ratio", "1"),
        (ExportConfig, "allowed_drop", "0"),
    ],
)
def test_the_edge_inside_each_range_is_taken(config, option, value):
    assert value_of(parse(config, [*NEEDED[config], f"--{option}", value]), option) == float(value)


def test_a_gate_that_is_not_given_asks_for_nothing_and_is_not_a_threshold_of_0():
    given = parse(PromoteConfig, NEEDED[PromoteConfig])
    gates = [name for config, name in NUMBERS if config is PromoteConfig] + ["min_metric"]
    assert len(gates) == 11
    assert {getattr(given, gate) for gate in gates} == {None}


@pytest.mark.parametrize(
    ("config", "words", "named"),
    [
        (MainConfig, ["--seeds", "0,0"], "seeds='0,0'"),
        (MainConfig, ["--seeds", "a,b"], "seeds='a,b'"),
        (MainConfig, ["--seeds", "0,4294967296"], "seeds='0,4294967296' is out of range"),
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
        (CompareConfig, ["--runs", "a", "--experiments", "b"], "experiments='b' beside runs='a'"),
        (CompareConfig, ["--runs", "a", "--filter", "b"], "filter='b' beside runs='a'"),
        (
            CompareConfig,
            ["--models", "models:/m/1", "--experiments", "b"],
            "experiments='b' beside models='models",
        ),
        (CompareConfig, ["--output", "xml"], "output='xml'"),
        (StudentConfig, ["--student_layers", "0,5", "--initialisation", "first"], "initialisation='first'"),
        (StudentConfig, ["--student_layers", "0,5", "--initialisation", "importance"], "initialisation='importance'"),
        (
            StudentConfig,
            ["--student", "m", "--student_layers", "2", "--initialisation", "importance"],
            "initialisation='importance' beside student='m'",
        ),
        (StudentConfig, ["--student_config", "nowhere.json"], "student_config='nowhere.json' is no file in /"),
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
        (
            CascadeConfig,
            ["--chain", "models:/t/1,4,2", "--teacher_epochs", "5"],
            "teacher_epochs=5 beside teacher='mod",
        ),
        (CascadeConfig, ["--chain", "m,4,2", "--teacher", "n"], "teacher='n' beside chain='m,4,2'"),
        (CascadeConfig, ["--chain", "m,n,o", "--initialisation", "last"], "initialisation='last' beside chain='m,n,o'"),
        (CascadeConfig, ["--student_layers", "2"], "student_layers='2' beside chain='6,4,2'"),
        (CascadeConfig, ["--student", "m"], "student='m' beside chain='6,4,2'"),
        (CascadeConfig, ["--objective", "none"], "objective='none'"),
        (CascadeConfig, ["--seeds", "0,0"], "seeds='0,0'"),
        (DistillConfig, ["--transfer", "rest"], "transfer='rest' is the training rows that labelled leaves out"),
        (MainConfig, ["--transfer", "rest"], "give labelled"),
        (DistillConfig, ["--transfer", "t.csv", "--objective", "none"], "transfer='t.csv' beside objective='none'"),
        (DistillConfig, ["--transfer_confidence", "0.5"], "transfer_confidence=0.5 chooses among transfer rows"),
        (DistillConfig, ["--transfer_balance", "true"], "transfer_balance=True chooses among transfer rows"),
        (MainConfig, ["--teacher", "models:/t/1", "--teacher_epochs", "5"], "teacher_epochs=5 beside teacher="),
        (StudyConfig, ["--teacher", "runs:/1/model", "--teacher_learning_rate", "1e-4"], "it is trained already"),
        (DistillConfig, ["--teacher_epochs", "5"], "unknown option --teacher_epochs"),
        (MainConfig, ["--objective", "none", "--distill_epochs", "5"], "distill_epochs=5 beside objective='none'"),
        (CascadeConfig, ["--distill_epochs", "5"], "unknown option --distill_epochs"),
        (TeacherConfig, ["--text_column", "a", "--label_column", "a"], "name one column twice: a, a"),
        (TeacherConfig, ["--task", "classify"], "task='classify' is not understood: give one of classification"),
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
    assert all(value_of(given, name[2:]) == value for name, value in zip(words[::2], words[1::2], strict=True))


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


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("config", NEEDED, ids=lambda config: config.__name__)
def test_every_option_is_explained_beside_it(config, task):
    assert not [one.name for one in options_in(config, options_of(task)).values() if not one.help.endswith(".")]


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
        ("softer", "'softer' is no objective"),
        ("soft;hard", "'soft;hard' is no objective"),
        ("soft,", "'' is no objective"),
        ("soft:0", "the weight '0' of soft"),
        ("soft:-1", "the weight '-1' of soft"),
        ("soft:inf", "the weight 'inf' of soft"),
        ("soft:nan", "the weight 'nan' of soft"),
        ("soft:", "the weight '' of soft"),
        ("soft:a", "the weight 'a' of soft"),
        ("soft:1:2", "the weight '1:2' of soft"),
        ("soft,hard,soft:2", "soft is given twice"),
        ("none,soft", "none goes with no other"),
        ("none:0.5", "none goes with no other"),
        ("mixed,soft", "'mixed' is no objective"),
    ],
)
def test_an_objective_that_is_not_understood_is_refused_with_those_that_the_task_has_and_no_other(text, told):
    line = refusal(DistillConfig, "--objective", text)
    assert line.startswith(f"objective={text!r}")
    assert told in line
    offered = ", ".join(["none", *ClassificationOptions.objectives, "mixed (soft,hidden,attention)"])
    assert line.endswith(f"give one of {offered}, or a weighted sum such as soft:0.5,hard:0.1")


@pytest.mark.parametrize(("text", "spelt"), [("last", "last"), (" skip ", "skip"), ("1:5, 0:2", "0:2,1:5")])
def test_a_map_of_layers_has_one_spelling(text, spelt):
    assert parse(DistillConfig, ["--dataset", "d", "--match", text]).match == spelt


@pytest.mark.parametrize(
    "text", ["first", "0", "0:1:2", "0:a", "-1:2", "0:1,", "0:1,0:1", "0:02", "0:0x2", "0:٢", "0:2_0", "1:"]
)
def test_a_map_of_layers_that_is_not_understood_is_refused_with_what_is(text):
    line = refusal(DistillConfig, f"--match={text}")
    assert line.startswith(f"match={text!r}")
    assert "spaced, last, skip, or pairs" in line


def test_help_names_each_objective_of_the_task_and_every_map_for_they_are_no_choices_that_the_parser_could_list(capsys):
    with pytest.raises(SystemExit):
        parse(DistillConfig, ["--help"])
    shown = capsys.readouterr().out
    after = shown[shown.index("--objective OBJECTIVE\n") :]
    assert all(name in after.partition("--alpha")[0] for name in (*ClassificationOptions.objectives, "mixed"))
    assert all(name in after.partition("--match MATCH")[2] for name in get_args(MatchName))


def test_what_a_chain_says_already_cannot_be_mended_by_leaving_the_chain_out():
    text = refusal(CascadeConfig, "--student", "m")
    assert text.endswith("leave student out, or name the model in chain")
    assert "leave out chain" not in text


def test_a_student_of_another_shape_is_refused_beside_a_chain(tmp_path):
    path = tmp_path / "c.json"
    path.write_text('{"num_hidden_layers": 2}')
    assert f"student_config='{path}' beside chain=" in refusal(CascadeConfig, "--student_config", str(path))


@pytest.mark.parametrize("content", ["{", "[1]", "3", "{}", ""])
def test_a_student_config_that_holds_no_settings_is_refused(tmp_path, content):
    path = tmp_path / "c.json"
    path.write_text(content)
    assert f"student_config='{path}'" in refusal(StudentConfig, "--student_config", str(path))


# A task's own options


@dataclass(frozen=True, kw_only=True)
class ToyOptions(TaskOptions):
    """A task that lives in this file alone."""

    heading: ClassVar[str] = "toys"
    objectives: ClassVar = ("jsd", "soft", "hidden")
    example: ClassVar = "--horizon 8"
    horizon: int = 4
    """Steps ahead, >= 1."""
    scale: float | None = None
    """What values are divided by; default by the data."""


TOYS = {"classification": ClassificationOptions, "toy": ToyOptions}
TEACHES = [config for config in NEEDED if "task" in HINTS[config]]


def toy(*words, kind=DistillConfig):
    return parse_for(kind, TOYS, [*NEEDED[kind], "--task", "toy", *words])


@pytest.mark.parametrize("kind", TEACHES, ids=lambda kind: kind.__name__)
def test_a_tasks_options_are_options_of_every_command_that_reads_rows(kind):
    given = toy("--horizon", "7", kind=kind)
    assert (given.task, given.task_options) == ("toy", ToyOptions(horizon=7))
    assert parse_for(kind, TOYS, ["--task=toy", "--horizon=7", *NEEDED[kind]]) == given
    assert toy("--horizon", "", "--scale", "None", kind=kind) == toy(kind=kind)


@pytest.mark.parametrize("kind", TEACHES, ids=lambda kind: kind.__name__)
def test_another_tasks_option_is_refused_and_a_near_miss_of_ones_own_is_suggested(kind):
    for words, hint in (
        (["--text_column", "a"], "unknown option --text_column"),
        (["--horzon", "2"], "did you mean --horizon?"),
        (["--horizon", "many"], "horizon='many' is not understood: give a whole number"),
        (["--task", "toys"], "task='toys' is not understood: give one of classification, toy"),
    ):
        with pytest.raises(UserError) as caught:
            toy(*words, kind=kind)
        assert hint in str(caught.value)
    with pytest.raises(UserError, match="unknown option --horizon"):
        parse_for(kind, TOYS, [*NEEDED[kind], "--horizon", "7"])


def test_help_lists_the_options_of_the_task_that_is_named_and_of_no_other(capsys):
    with pytest.raises(SystemExit):
        toy("--help")
    shown = capsys.readouterr().out
    assert "toys:\n  --scale SCALE" in shown
    assert "Steps ahead, >= 1. (default: 4)" in shown
    assert "--dataset rows.csv --task toy --horizon 8" in shown
    assert "--text_column" not in shown
    assert "(default: jsd)" in " ".join(shown.split())
    assert "--task {classification,toy}" in shown


def test_the_objective_is_by_default_the_tasks_first_and_one_it_lacks_is_refused_by_name():
    assert toy().objective == toy("--objective", "").objective == "jsd"
    assert default_of(toy("--objective", "soft"), "objective") == "jsd"
    assert parse(DistillConfig, NEEDED[DistillConfig]).objective == DistillConfig(dataset="d").objective == "soft"
    assert toy("--objective", "none").weights == {"none": 1.0}
    with pytest.raises(
        UserError, match=r"give one of none, soft, hidden, jsd, or a weighted sum such as soft:0\.5,hid"
    ):
        toy("--objective", "sotf")
    with pytest.raises(UserError) as caught:
        toy("--objective", "soft,attention:2")
    assert "task='toy' has no attention: give one of none, jsd, soft, hidden" in str(caught.value)
    with pytest.raises(UserError, match="task='toy' has no attention"):
        with_options(toy(), objective="mixed")


def test_options_can_be_sent_to_another_process_and_be_told_apart():
    given = toy("--horizon", "7")
    again = pickle.loads(pickle.dumps(given))
    assert again == given
    assert hash(again) == hash(given)
    assert {given: "a"}[again] == "a"
    assert with_options(given, horizon=8) != given
    with pytest.raises(FrozenInstanceError):
        given.task_options.horizon = 3


def test_an_option_is_read_and_changed_by_name_wherever_it_belongs():
    given = toy("--horizon", "7", "--seed", "3")
    assert (value_of(given, "horizon"), value_of(given, "seed")) == (7, 3)
    assert with_options(given, horizon=8, seed=4) == toy("--horizon", "8", "--seed", "4")
    assert narrowed(StudentConfig, given, horizon=9) == toy("--horizon", "9", "--seed", "3", kind=StudentConfig)
    assert (default_of(given, "horizon"), default_of(given, "seed"), default_of(given, "dataset")) == (4, 0, MISSING)
    for wrong in (lambda: with_options(given, horizn=8), lambda: with_options(CompareConfig(), horizon=8)):
        with pytest.raises((TypeError, KeyError)):
            wrong()
    with pytest.raises(KeyError):
        value_of(given, "horizn")


def test_a_task_may_not_have_an_option_of_the_commands_else_one_would_hide_the_other():
    @dataclass(frozen=True, kw_only=True)
    class Twice(TaskOptions):
        seed: int = 0
        """Hidden."""

    with pytest.raises(TypeError, match="both have an option seed"):
        options_in(DistillConfig, Twice)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", NEEDED, ids=lambda kind: kind.__name__)
def test_no_registered_task_hides_an_option_and_all_of_its_own_have_defaults(kind, task):
    assert "task_options" not in options_in(kind, options_of(task))
    assert options_of(task)() == options_of(task)()


@pytest.mark.parametrize("config", NEEDED, ids=lambda config: config.__name__)
def test_logged_parameters_are_flat_and_make_the_same_options_again(config):
    given = parse(config, NEEDED[config])
    params = as_params(given)
    assert "task_options" not in params
    assert params.keys() == options_in(config, ClassificationOptions).keys()
    logged = {name: str(value) for name, value in params.items() if value not in (None, "")}
    assert options_from(config, ClassificationOptions, {**logged, "layers": "0,5", "parameters": "7"}) == given


def test_a_run_of_an_earlier_release_is_read_by_the_names_it_logged():
    old = {"dataset": "d", "text_column": "review", "labelled": "20", "alpha": "0.5", "student": "", "gone": "1"}
    found = options_from(StudentConfig, ClassificationOptions, old)
    assert found == StudentConfig(dataset="d", labelled=20, task_options=ClassificationOptions(text_column="review"))
    with pytest.raises(UserError, match=r"^labelled='many' is not understood"):
        options_from(StudentConfig, ClassificationOptions, {**old, "labelled": "many"})
    with pytest.raises(UserError, match=r"^dataset is missing"):
        options_from(StudentConfig, ClassificationOptions, {})


@pytest.mark.parametrize("kind", [MainConfig, CascadeConfig])
def test_who_gives_seeds_can_give_no_seed_that_is_then_not_used(kind):
    assert "seed" not in options_in(kind)
    assert "unknown option --seed: did you mean --seeds?" in refusal(kind, "--seed", "3")
    given = parse(kind, ["--seeds", "5,3"])
    assert "seed" not in as_params(given)
    assert narrowed(TeacherConfig, given).seed == 5
    assert narrowed(DistillConfig, given, seed=3).seed == 3


def test_the_teachers_own_epochs_and_learning_rate_are_options_of_the_commands_that_train_one():
    training = {config for config in NEEDED if "teacher_epochs" in HINTS[config]}
    assert training == {
        MainConfig,
        StudyConfig,
        CascadeConfig,
    }
    given = parse(MainConfig, ["--teacher_epochs", "5", "--teacher_learning_rate", "2e-5"])
    assert (given.teacher_epochs, given.teacher_learning_rate) == (5, 2e-5)
    assert (given.epochs, given.learning_rate) == (3, 1.5e-4)
