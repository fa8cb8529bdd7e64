"""What a search draws is what its space allows, and a mistake in a space is one plain line before any work."""

import json
import random
import subprocess
import sys
import warnings
from dataclasses import fields, replace
from itertools import product

import optuna
import pytest

from kd.base.types import UserError
from kd.config import DistillConfig
from kd.config.layers import parse_layers
from kd.space.parameters import Parameter, as_json, check_space, draw, for_control, grid, within
from kd.space.reading import load_space, read_space
from kd.space.values import SEARCHABLE
from kd.tasks import TASKS, task_named

BASE = DistillConfig(dataset="d")
NAMED = "space='my.yaml'"
BUILTIN = {"default": {"epochs": {"type": "int", "low": 2, "high": 5}}, "shape": {}}
EXAMPLE = """
learning_rate: {type: float, low: 5e-5, high: 5.0e-4, log: true}
epochs: {type: int, low: 2, high: 5}
batch_size: {type: categorical, choices: [16, "32"]}
objective: {type: categorical, choices: [soft, hard]}
temperature: {type: float, low: 1, high: "8", log: true, when: {objective: soft}}
"""
SMALL = {
    "objective": {"type": "categorical", "choices": ["none", "soft", "hard"]},
    "alpha": {"type": "float", "low": 0.1, "high": 0.3, "step": 0.1, "when": {"objective": ["soft", "hard"]}},
    "temperature": {"type": "int", "low": 1, "high": 4, "step": 2, "when": {"objective": "soft"}},
    "student_layers": {"type": "categorical", "choices": [2, "0, 5"]},
    "initialisation": {"type": "categorical", "choices": ["first", "last"], "when": {"student_layers": 2}},
    "patience": {"type": "int", "low": 3, "high": 3},
}
"""A finite space with conditions, and a condition's parameter that exists under a condition itself."""


@pytest.fixture(autouse=True)
def strict():
    """Optuna warns of ranges and values it mends silently; none may be left to it."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def small():
    return read_space(SMALL, NAMED)


def trials(number, seed=0):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [study.ask() for _ in range(number)]


def refusal(call, *arguments):
    with pytest.raises(UserError) as caught:
        call(*arguments)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


def loaded(tmp_path, text):
    path = tmp_path / "my.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_space(str(path), BUILTIN)


# Reading


def test_the_example_is_read_with_text_as_numbers_where_yaml_leaves_them_text(tmp_path):
    assert loaded(tmp_path, EXAMPLE) == (
        Parameter("learning_rate", "float", low=5e-5, high=5e-4, log=True),
        Parameter("epochs", "int", low=2, high=5),
        Parameter("batch_size", "categorical", choices=(16, 32)),
        Parameter("objective", "categorical", choices=("soft", "hard")),
        Parameter("temperature", "float", low=1.0, high=8.0, log=True, when={"objective": ("soft",)}),
    )


def test_a_built_in_space_is_found_by_name():
    assert load_space("default", BUILTIN) == (Parameter("epochs", "int", low=2, high=5),)


def test_every_searchable_option_is_one_of_distill_and_can_be_read():
    assert set(SEARCHABLE) <= {field.name for field in fields(DistillConfig)}
    words = {"objective": "soft", "student_layers": 2, "initialisation": "last", "match": "0:2,1:5"}
    space = read_space({n: {"type": "categorical", "choices": [words.get(n, 1)]} for n in SEARCHABLE}, NAMED)
    assert [one.name for one in space] == list(SEARCHABLE)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "empty"),
        ("# nothing", "empty"),
        ("{}", "empty"),
        ("- alpha", "must have lines"),
        ("alpha", "must have lines"),
        ("false", "must have lines"),
        ("&a [*a]", "*a lies within"),
        ("alpha: {", "no YAML"),
        ("alpha: !!python/object/apply:os.system [echo]", "the tag"),
        ("alpha: !!int ''", "the tag"),
        ("[" * 5000, "more than 20 levels"),
        ("alpha: {type: float, low: 010, high: 1}", "line 1, column 27: '010' is no plain decimal"),
        ("alpha: {type: categorical, choices: ['0x1']}", "choices has '0x1'"),
        ("alpha: &a {type: float, low: 0, high: 1}\nbeta: {<<: *a}", "line 2, column 8: << (a merge key)"),
        ("--- {}\n--- {}", "no YAML"),
        (b"\xff\xfea\x00", "UTF-8"),
        ("epochs: {type: int, low: 1, high: 2}\nepochs: {type: int, low: 3, high: 4}", "'epochs'"),
        ("epochs: {type: int, low: 1, low: 2, high: 3}", "line 1, column 29: 'low' is given a second time"),
        ("epochs: {type: int, low: 1, high: 2}\nalpha: {when: {objective: a,\n objective: b}}", "'objective'"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_file_that_holds_no_space_is_refused_by_its_name(tmp_path, content, told):
    text = refusal(loaded, tmp_path, content)
    assert "my.yaml" in text
    assert told in text


def test_a_file_may_use_aliases_without_being_taken_for_repetition(tmp_path):
    space = loaded(tmp_path, "alpha: &a {type: float, low: 0, high: 1}\nbeta: *a")
    assert [(one.name, one.low, one.high) for one in space] == [("alpha", 0.0, 1.0), ("beta", 0.0, 1.0)]


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("shpe", ("did you mean shape?", "default, shape")),
        ("nowhere/s.yaml", ("default, shape", "YAML file")),
        (".", ("cannot be read",)),
        ("a\0b", ("is no file",)),
        ("x" * 5000, ("cannot be read",)),
    ],
)
def test_an_unknown_name_or_unreadable_file_is_told_with_what_there_is(option, told):
    with pytest.raises(UserError) as caught:
        load_space(option, BUILTIN)
    assert "space=" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert all(words in str(caught.value) for words in told)


def numeric(**given):
    return {"type": "float", "low": 0.1, "high": 0.9, **given}


SOFT = {"type": "categorical", "choices": ["soft", "hard"]}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"lerning_rate": numeric()}, ("'lerning_rate'", "did you mean learning_rate?")),
        ({"zzz": numeric()}, ("'zzz'", "known: learning_rate, epochs")),
        ({7: numeric()}, ("7", "known:")),
        ({"seed": numeric()}, ("'seed'",)),
        ({"alpha": 0.5}, ("alpha is 0.5", "mapping")),
        ({"alpha": None}, ("alpha is None",)),
        ({"alpha": {"low": 0, "high": 1}}, ("type is missing", "float, int, categorical")),
        ({"alpha": numeric(type="flaot")}, ("'flaot'", "float, int, categorical")),
        ({"alpha": numeric(type=["float"])}, ("['float']",)),
        ({"alpha": numeric(hihg=1)}, ("'hihg'", "did you mean high?")),
        ({"alpha": numeric(choices=[1])}, ("'choices'", "known: type, low, high, log, step, when")),
        ({"objective": {**SOFT, "low": 1}}, ("'low'", "type, choices, when")),
        ({"alpha": {"type": "float", "high": 1}}, ("low is missing",)),
        ({"alpha": {"type": "float", "low": 1}}, ("high is missing",)),
        ({"alpha": numeric(low=0.95)}, ("low=0.95", "high=0.9")),
        ({"alpha": numeric(low=0, log=True)}, ("low=0.0", "low > 0")),
        ({"alpha": numeric(low=-1, log=True)}, ("low=-1.0", "low > 0")),
        ({"alpha": numeric(step=0.1, log=True)}, ("log", "step=0.1")),
        ({"alpha": numeric(step=0)}, ("step=0.0", "> 0")),
        ({"alpha": numeric(step=-0.1)}, ("step=-0.1", "> 0")),
        ({"alpha": numeric(log="true")}, ("log='true'", "true or false")),
        ({"alpha": numeric(log=1)}, ("log=1", "true or false")),
        ({"alpha": numeric(low="one")}, ("low='one'", "a finite number")),
        ({"alpha": numeric(low=True)}, ("low=True", "a finite number")),
        ({"alpha": numeric(low=None)}, ("low=None", "a finite number")),
        ({"alpha": numeric(low=[1])}, ("low=[1]", "a finite number")),
        ({"alpha": numeric(low=float("nan"))}, ("low=nan", "a finite number")),
        ({"alpha": numeric(high=float("inf"))}, ("high=inf", "a finite number")),
        ({"alpha": numeric(high="inf")}, ("high='inf'", "a finite number")),
        ({"alpha": numeric(high=10**400)}, ("high=1000", "a finite number")),
        ({"patience": {"type": "int", "low": 1, "high": 1e300}}, ("high=1e+300", "a whole number")),
        ({"alpha": numeric(step=None)}, ("step=None", "a finite number")),
        ({"epochs": {"type": "int", "low": 1.5, "high": 3}}, ("low=1.5", "a whole number")),
        ({"epochs": {"type": "int", "low": 1, "high": 3, "step": 0.5}}, ("step=0.5", "a whole number")),
        ({"epochs": {"type": "float", "low": 1, "high": 3}}, ("type='float'", "a whole number")),
        ({"objective": numeric()}, ("type='float'", "none, soft, hard")),
        ({"student_layers": {"type": "int", "low": 1, "high": 4}}, ("type='int'", "categorical")),
        ({"objective": {"type": "categorical"}}, ("choices is missing",)),
        ({"objective": {"type": "categorical", "choices": []}}, ("choices=[]",)),
        ({"objective": {"type": "categorical", "choices": "soft"}}, ("choices='soft'", "list")),
        ({"objective": {"type": "categorical", "choices": ["sfot"]}}, ("'sfot'", "none, soft, hard")),
        ({"objective": {"type": "categorical", "choices": [True]}}, ("True", "none, soft, hard")),
        ({"batch_size": {"type": "categorical", "choices": [16, "16"]}}, ("'16' twice",)),
        ({"batch_size": {"type": "categorical", "choices": [16.5]}}, ("16.5", "a whole number")),
        ({"batch_size": {"type": "categorical", "choices": [True]}}, ("True", "a whole number")),
        ({"batch_size": {"type": "categorical", "choices": [[16]]}}, ("[16]",)),
        ({"batch_size": {"type": "categorical", "choices": [{"a": 1}]}}, ("{'a': 1}",)),
        ({"alpha": {"type": "categorical", "choices": [float("nan")]}}, ("nan", "a finite number")),
        ({"student_layers": {"type": "categorical", "choices": [2, "2"]}}, ("'2' twice",)),
        ({"student_layers": {"type": "categorical", "choices": [2, 0, 5]}}, ("has 0", "in quotes")),
        ({"student_layers": {"type": "categorical", "choices": ["5,0"]}}, ("'5,0'", "rising")),
        ({"alpha": numeric(when={"objective": "soft"}), "objective": SOFT}, ("'objective'", "no parameter above it")),
        ({"objective": SOFT, "alpha": numeric(when={"objectiv": "soft"})}, ("did you mean objective?",)),
        ({"objective": SOFT, "alpha": numeric(when={"objective": "none"})}, ("objective='none'", "soft, hard")),
        ({"objective": SOFT, "alpha": numeric(when={"objective": True})}, ("True", "none, soft, hard")),
        ({"objective": SOFT, "alpha": numeric(when={"objective": []})}, ("no value of objective",)),
        ({"objective": SOFT, "alpha": numeric(when={"objective": [["soft"]]})}, ("['soft']",)),
        ({"objective": SOFT, "alpha": numeric(when="objective")}, ("when='objective'",)),
        ({"objective": SOFT, "alpha": numeric(when=None)}, ("when=None",)),
        ({"temperature": numeric(), "alpha": numeric(when={"temperature": 0.5})}, ("temperature, which is a range",)),
    ],
    ids=str,
)
def test_a_mistake_in_a_space_is_told_with_space_parameter_value_and_what_is_allowed(given, told):
    text = refusal(read_space, given, NAMED)
    assert text.startswith(NAMED)
    assert all(words in text for words in told), text


def test_a_number_that_python_cannot_show_is_refused_all_the_same(tmp_path):
    for digits in ("0x" + "f" * 6000, "9" * 6000):
        text = refusal(loaded, tmp_path, f"alpha: {{type: float, low: {digits}, high: 1}}")
        assert f"line 1, column 27: '{digits[:20]}" in text


def test_conditions_that_never_hold_together_are_refused_for_the_parameter_would_silently_not_be_searched():
    conditions = {"objective": "hard", "batch_size": 16}
    given = {
        "objective": SOFT,
        "batch_size": {"type": "categorical", "choices": [16, 32], "when": {"objective": "soft"}},
        "alpha": numeric(when=conditions),
    }
    assert "alpha: its conditions (when) are never met" in refusal(read_space, given, NAMED)
    conditions["objective"] = "soft"
    assert len(read_space(given, NAMED)) == 3


def test_layers_are_read_as_the_student_reads_them():
    texts = [
        ",".join(one) for size in (1, 2, 3) for one in product(("", "0", "1", "4", " 5 ", "05", "x", "-1"), repeat=size)
    ]
    read = 0
    for text in texts:
        given = {"student_layers": {"type": "categorical", "choices": [text]}}
        try:
            wanted = parse_layers(text)
        except UserError:
            refusal(read_space, given, NAMED)
        else:
            assert parse_layers(read_space(given, NAMED)[0].choices[0]) == wanted
            read += 1
    assert 20 < read < len(texts)


def test_an_objective_and_a_map_have_one_spelling_so_that_conditions_on_them_hold():
    given = {
        "objective": {"type": "categorical", "choices": ["soft", "hidden:0.10,soft"]},
        "match": {"type": "categorical", "choices": ["1:3, 0:1"], "when": {"objective": ["soft:1,hidden:0.1"]}},
    }
    space = read_space(given, NAMED)
    assert space[0].choices == ("soft", "soft,hidden:0.1")
    assert space[1].choices == ("0:1,1:3",)
    assert space[1].when == {"objective": ("soft,hidden:0.1",)}
    given["objective"]["choices"].append("soft:1,hidden:0.1")
    assert "twice" in refusal(read_space, given, NAMED)


# Checking


@pytest.mark.parametrize("name", ["default", "shape"])
@pytest.mark.parametrize("task", TASKS)
def test_built_in_spaces_pass_their_own_checks_and_search_what_is_said(task, name):
    spaces = task_named(task).spaces
    space = load_space(name, spaces)
    check_space(space, BASE, f"space={name!r}")
    assert ("student_layers" in [one.name for one in space]) == (name == "shape")
    assert {"learning_rate", "alpha"} <= {one.name for one in space}
    assert task != "classification" or "objective" in {one.name for one in space}
    for trial in trials(50):
        replace(BASE, **draw(space, trial))


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("alpha", 0.5, 1.5), ("learning_rate", 0, 1), ("warmup_ratio", 0, 1), ("temperature", -1, 1)],
)
def test_a_bound_that_the_option_refuses_is_told_with_the_space_before_any_trial(name, low, high):
    space = read_space({name: {"type": "float", "low": low, "high": high}}, NAMED)
    text = refusal(check_space, space, BASE, NAMED)
    assert text.startswith(NAMED)
    assert f"{name}=" in text


def test_a_choice_that_the_option_refuses_is_told_even_where_it_exists_under_a_condition_only():
    given = {"objective": SOFT, "alpha": {"type": "categorical", "choices": [0.5, 2], "when": {"objective": "hard"}}}
    assert "alpha=2.0" in refusal(check_space, read_space(given, NAMED), BASE, NAMED)


def test_choices_that_exclude_each_other_are_told_unless_a_condition_keeps_them_apart():
    given = {name: dict(one) for name, one in SMALL.items()}
    check_space(read_space(given, NAMED), BASE, NAMED)
    del given["initialisation"]["when"]
    assert "'0,5'" in refusal(check_space, read_space(given, NAMED), BASE, NAMED)


def test_a_space_that_contradicts_the_rest_of_the_options_is_told():
    space = read_space({"initialisation": SMALL["initialisation"] | {"when": {}}}, NAMED)
    check_space(space, BASE, NAMED)
    assert "'0,5'" in refusal(check_space, space, replace(BASE, student_layers="0,5"), NAMED)


def test_an_option_that_is_given_and_searched_is_refused_for_one_of_the_two_would_be_ignored():
    text = refusal(check_space, small(), replace(BASE, alpha=0.25), NAMED)
    assert "alpha=0.25" in text
    assert NAMED in text
    check_space(small(), replace(BASE, learning_rate=0.25), NAMED)


# Drawing


def holds(space, point):
    """Whether a point has exactly the parameters it should, with values they can have."""
    expected = []
    for one in space:
        if all(point.get(parent) in values for parent, values in one.when.items()):
            expected.append(one.name)
            value = point[one.name]
            assert value in one.choices if one.choices else one.low <= value <= one.high
            assert type(value) is type(getattr(BASE, one.name)) or one.name == "initialisation"
    return list(point) == expected


@pytest.mark.parametrize("space", [read_space(SMALL, NAMED), load_space("shape", task_named("classification").spaces)])
def test_200_draws_stay_within_and_have_a_parameter_only_under_its_conditions(space):
    points = [draw(space, trial) for trial in trials(200)]
    assert all(holds(space, point) for point in points)
    assert {"temperature" in point for point in points} == {True, False}


def test_a_fixed_trial_gives_its_own_values_with_the_options_types():
    fixed = {"objective": "soft", "alpha": 0.2, "temperature": 3, "student_layers": "0,5", "patience": 3}
    point = draw(small(), optuna.trial.FixedTrial(fixed))
    assert point == fixed
    assert type(point["temperature"]) is float


def test_a_log_range_is_drawn_by_its_logarithm():
    space = read_space({"learning_rate": {"type": "float", "low": 1e-6, "high": 1, "log": True}}, NAMED)
    below = sum(draw(space, trial)["learning_rate"] < 1e-3 for trial in trials(200))
    assert 70 < below < 130


def keys(points):
    return {tuple(sorted(point.items())) for point in points}


def test_the_grid_is_every_draw_of_a_finite_space_once_float_for_float():
    points = grid(small(), NAMED)
    # none: 1; soft: 3 alphas by 2 temperatures; hard: 3 alphas; times (2 layers with 2 initialisations, or "0,5")
    assert len(points) == (1 + 3 * 2 + 3) * (2 + 1)
    assert len(keys(points)) == len(points)
    assert keys(points) == keys(draw(small(), trial) for trial in trials(600))
    assert all(holds(small(), point) for point in points)


def test_points_of_a_grid_can_be_enqueued_and_come_back_unchanged():
    study = optuna.create_study()
    points = grid(small(), NAMED)
    for point in points:
        study.enqueue_trial(point)
    assert [draw(small(), study.ask()) for _ in points] == points


def test_a_range_whose_step_does_not_reach_high_ends_at_the_last_value_it_reaches():
    space = read_space({"alpha": numeric(low=0.1, high=0.75, step=0.2)}, NAMED)
    assert [point["alpha"] for point in grid(space, NAMED)] == [0.1, 0.3, 0.5, 0.7]
    assert {draw(space, trial)["alpha"] for trial in trials(100)} == {0.1, 0.3, 0.5, 0.7}


@pytest.mark.parametrize(
    ("description", "told"),
    [
        ({"type": "float", "low": 0.1, "high": 1}, "step, or type categorical"),
        ({"type": "float", "low": 0.1, "high": 1, "log": True}, "no log"),
        ({"type": "int", "low": 1, "high": 3}, "step, or type categorical"),
    ],
)
def test_a_grid_over_a_range_without_step_is_refused_with_what_to_give(description, told):
    text = refusal(grid, read_space({"temperature": description}, NAMED), NAMED)
    assert NAMED in text
    assert "temperature" in text
    assert told in text


def test_a_grid_of_too_many_points_is_refused_without_making_them():
    fine = {"type": "float", "low": 0.5, "high": 1, "step": 1e-300}
    assert "10,000" in refusal(grid, read_space({"alpha": fine, "temperature": fine}, NAMED), NAMED)
    just = {"type": "int", "low": 1, "high": 100, "step": 1}
    assert len(grid(read_space({"epochs": just, "patience": just}, NAMED), NAMED)) == 10_000
    assert "10,000" in refusal(grid, read_space({"epochs": just, "patience": {**just, "low": 0}}, NAMED), NAMED)


def test_the_control_is_searched_without_the_teachers_parameters_and_what_hangs_on_them():
    given = {
        **SMALL,
        "batch_size": {"type": "categorical", "choices": [16, 32], "when": {"objective": "hard"}},
        "epochs": {"type": "int", "low": 1, "high": 2, "when": {"batch_size": 16}},
    }
    left = for_control(read_space(given, NAMED))
    assert [one.name for one in left] == ["student_layers", "initialisation", "patience"]
    assert for_control(left) == left
    assert for_control(read_space({"objective": SOFT}, NAMED)) == ()


# Starting from elsewhere, and writing down


def test_every_point_of_a_space_is_kept_whole_also_as_the_text_that_was_logged():
    for point in grid(small(), NAMED):
        assert within(small(), point) == (point, [])
        assert within(small(), {name: str(value) for name, value in point.items()}) == (point, [])
    shape = load_space("shape", task_named("classification").spaces)
    for trial in trials(50):
        point = draw(shape, trial)
        assert within(shape, {name: str(value) for name, value in point.items()}) == (point, [])
        assert within(shape, trial.params) == (point, [])


@pytest.mark.parametrize(
    ("params", "kept", "unfit"),
    [
        ({"objective": "hard", "alpha": "0.2", "temperature": "2.0", "seed": "1"}, ("objective", "alpha"), ()),
        ({"objective": "hard", "alpha": "0.25"}, ("objective",), ("alpha='0.25' is between the steps",)),
        ({"objective": "hard", "alpha": "0.4"}, ("objective",), ("alpha='0.4' is outside",)),
        ({"objective": "hard", "alpha": "nan"}, ("objective",), ("alpha='nan' is not a finite number",)),
        ({"objective": "hard", "alpha": 0.1 + 0.2}, ("objective", "alpha"), ()),
        ({"objective": "mxied", "alpha": 0.1}, (), ("objective='mxied' is not", "alpha=0.1 depends on objective")),
        (
            {"objective": "mixed", "alpha": 0.1},
            (),
            ("objective='mixed' is not among", "alpha=0.1 depends on objective"),
        ),
        ({"alpha": 0.1}, (), ("alpha=0.1 depends on objective",)),
        ({"student_layers": "", "initialisation": "None"}, (), ("student_layers=''", "initialisation='None'")),
        ({"student_layers": "3"}, (), ("student_layers='3' is not among 2, 0,5",)),
        ({"student_layers": "0,5", "initialisation": "None"}, ("student_layers",), ()),
        ({"patience": "3.5"}, (), ("patience='3.5' is not a whole number",)),
        ({"patience": True}, (), ("patience=True is not a whole number",)),
        ({"patience": 4}, (), ("patience=4 is outside 3 to 3",)),
        ({}, (), ()),
    ],
    ids=str,
)
def test_what_a_space_cannot_hold_is_left_out_and_told(params, kept, unfit):
    found, told = within(small(), params)
    assert tuple(found) == kept
    assert len(told) == len(unfit)
    assert all(text.startswith(start) for text, start in zip(told, unfit, strict=True)), told


def test_what_hangs_on_an_option_that_does_not_exist_is_no_misfit_but_on_an_unknown_one_it_is():
    chain = {
        "objective": SOFT,
        "batch_size": {"type": "categorical", "choices": [16, 32], "when": {"objective": "soft"}},
        "alpha": numeric(when={"batch_size": 16}),
    }
    space = read_space(chain, NAMED)
    assert within(space, {"objective": "hard", "batch_size": "16", "alpha": "0.5"}) == ({"objective": "hard"}, [])
    kept, unfit = within(space, {"objective": "soft", "batch_size": "64", "alpha": "0.5"})
    assert kept == {"objective": "soft"}
    assert [text.split("=")[0] for text in unfit] == ["batch_size", "alpha"]


def test_what_is_kept_is_drawn_as_it_is_for_optuna_takes_values_out_of_range_with_a_warning_only():
    study = optuna.create_study()
    kept, _ = within(small(), {"objective": "soft", "alpha": 0.1 + 0.2, "temperature": "3", "patience": "9"})
    study.enqueue_trial(kept)
    point = draw(small(), study.ask())
    assert {name: point[name] for name in kept} == kept == {"objective": "soft", "alpha": 0.3, "temperature": 3.0}


def test_equal_spaces_have_one_text_whatever_the_order_of_keys_and_the_spelling_of_numbers():
    one = {"objective": SOFT, "alpha": numeric(low=0, when={"objective": ["hard", "soft"]})}
    other = {"objective": dict(reversed(SOFT.items())), "alpha": dict(reversed(one["alpha"].items()))}
    other["alpha"] |= {"low": "0.0", "log": False, "when": {"objective": ("soft", "hard", "soft")}}
    assert as_json(read_space(one, NAMED)) == as_json(read_space(other, NAMED))
    ways = [{"objective": "soft", "batch_size": 16}, {"batch_size": 16, "objective": "soft"}]
    sizes = {"type": "categorical", "choices": [16, 32]}
    both = [read_space({"objective": SOFT, "batch_size": sizes, "alpha": numeric(when=way)}, NAMED) for way in ways]
    assert as_json(both[0]) == as_json(both[1])
    other["alpha"]["high"] = 0.8
    assert as_json(read_space(one, NAMED)) != as_json(read_space(other, NAMED))


def random_space(rng):
    """A space as a user may write it: any parameters, in any order, each with conditions on choices before it."""
    words = {
        "objective": ["none", "soft", "soft:0.5, hidden"],
        "match": ["last", "spaced", "1:5,0:2"],
        "initialisation": ["first", "odd", "random"],
        "student_layers": [1, "2", "0,5", "3,"],
    }
    given, before = {}, {}
    for name in rng.sample(SEARCHABLE, rng.randint(1, 6)):
        whole = name in ("epochs", "batch_size", "gradient_accumulation", "patience")
        if name in words or rng.random() < 0.3:
            choices = words.get(name) or rng.sample([1, 2, "3", 4.0], 3)
            description = {"type": "categorical", "choices": rng.sample(choices, rng.randint(1, 3))}
        else:
            kind = "int" if whole or rng.random() < 0.3 else "float"
            low = rng.randint(1, 5) if kind == "int" else round(rng.uniform(0.01, 1), rng.randint(1, 3)) or 0.1
            step = rng.randint(1, 3) if kind == "int" else rng.choice([0.1, 0.03, 0.7, 1e-1])
            description = {"type": kind, "low": low, "high": low + step * rng.randint(0, 5)}
            description |= rng.choice([{}, {"log": True}, {"step": step}])
        if before and rng.random() < 0.5:
            parent = rng.choice(sorted(before))
            description["when"] = {parent: rng.sample(before[parent], rng.randint(1, len(before[parent])))}
        given[name] = description
        if "choices" in description:
            before[name] = description["choices"]
    return given


def test_random_spaces_keep_all_promises_at_once():
    rng = random.Random(7)
    gridded = conditional = 0
    for number in range(150):
        given = random_space(rng)
        space = read_space(given, NAMED)
        text = as_json(space)
        assert as_json(read_space(json.loads(text), NAMED)) == text
        assert read_space(json.loads(text), NAMED) == space
        conditional += any(one.when for one in space)
        points = [draw(space, trial) for trial in trials(20, seed=number)]
        assert all(holds(space, point) for point in points)
        assert all(within(space, {n: str(v) for n, v in point.items()}) == (point, []) for point in points)
        try:
            every = keys(grid(space, NAMED))
        except UserError:
            assert any(not one.choices and one.step is None and one.low < one.high for one in space)
        else:
            gridded += 1
            assert keys(points) <= every
    assert gridded > 20
    assert conditional > 40


def test_a_space_is_read_without_optuna_torch_or_mlflow():
    code = "import sys, kd.space.reading; print(sorted({'optuna', 'torch', 'mlflow', 'transformers'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
