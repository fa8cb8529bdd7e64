"""A design becomes exactly the cells it asks for, each with its control, and what it cannot mean is told at once."""

import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import ClassVar

import pytest

from kd.base.types import UserError
from kd.config import DistillConfig, TaskOptions, options_in
from kd.sweep.design import REFUSED, cells, control_of, load_design, read_design
from kd.tasks import options_of

FORECASTS = {"few_days", "forecast_ladder"}
"""Designs of forecasts; the others are of texts."""
STUDIES = sorted((Path(__file__).parents[2] / "studies").glob("*.yaml"))


def read(**given):
    return read_design(given, "design='d.yaml'", "d")


def test_every_combination_is_a_cell_and_every_cell_has_its_control_once():
    found = cells(read(axes={"objective": ["soft", "hard"], "student_layers": [1, 2], "seed": [0, 1]}))
    assert len(found) == 2 * 2 * 2 + 2 * 2
    for cell in found:
        control = {**cell, "objective": "none"}
        assert found.count(cell) == 1
        assert control in found
        assert found.index(control) <= found.index(cell)


def test_a_control_has_nothing_of_an_objective_so_all_alphas_share_it():
    found = cells(read(base={"objective": "soft"}, axes={"alpha": [0, 0.5, 1], "temperature": [1, 4], "seed": [3]}))
    assert found[0] == {"objective": "none", "seed": 3}
    assert sum(cell.get("objective") == "none" for cell in found) == 1
    assert len(found) == 1 + 2 * 2  # alpha 0 is the control


def test_an_axis_without_effect_under_an_objective_does_not_train_the_same_cell_twice():
    found = cells(read(axes={"objective": ["soft", "hard"], "temperature": [1, 4], "seed": [0]}))
    assert [(cell["objective"], cell.get("temperature")) for cell in found] == [
        ("none", None),
        ("soft", 1.0),
        ("soft", 4.0),
        ("hard", None),
    ]


def test_a_design_of_controls_alone_has_no_other_cells():
    assert cells(read(axes={"objective": ["none"], "seed": [0, 1]})) == [
        {"objective": "none", "seed": 0},
        {"objective": "none", "seed": 1},
    ]


def test_whole_seeds_are_done_first_so_a_study_broken_off_is_still_a_comparison():
    seeds = [cell["seed"] for cell in cells(read(axes={"objective": ["soft", "hard"], "seed": [2, 0, 1]}))]
    assert seeds == [2, 2, 2, 0, 0, 0, 1, 1, 1]


def test_excluded_combinations_are_left_out_and_nothing_else_is():
    axes = {"objective": ["soft", "hard"], "student_layers": [1, 2, 4], "seed": [0]}
    exclude = [{"objective": "hard", "student_layers": [1, 4]}]
    whole, found = (cells(read(axes=axes, exclude=each)) for each in ([], exclude))
    left_out = [cell for cell in whole if cell not in found]
    assert [(cell["objective"], cell["student_layers"]) for cell in left_out] == [("hard", "1"), ("hard", "4")]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "axes is missing"),
        ({"axis": {}}, "unknown key 'axis': did you mean axes"),
        ({"axes": {"objektive": ["soft"]}}, "unknown option 'objektive': did you mean objective"),
        ({"axes": {"dataset": ["a", "b"]}}, "given on the command line"),
        ({"axes": {"alpha": 0.5}}, "give a list"),
        ({"axes": {"alpha": []}}, "give a list"),
        ({"axes": {"alpha": ["much"]}}, "alpha='much': give a finite number"),
        ({"axes": {"alpha": [0.5, 0.5]}}, "twice"),
        ({"axes": {"seed": [0.5]}}, "a whole number"),
        ({"base": {"objective": "sotf"}, "axes": {"seed": [0]}}, "objective='sotf': give one of none, soft, hard"),
        ({"axes": {"alpha": [0.5]}, "base": {"alpha": 0.1}}, "in base and in axes"),
        ({"axes": {"alpha": [0.5]}, "base": [1]}, "base is"),
        ({"axes": {"guide": ["me"]}}, "guide='me': give one of teacher, control"),
        ({"axes": {"seed": [0]}, "base": {"guide": "control"}}, "unknown option 'guide'"),
        (
            {"axes": {"attribution_examples": [8, 16]}},
            "attribution_examples cannot be in axes: it changes the evaluation",
        ),
        (
            {"axes": {"split_seed": [0, 1]}},
            "split_seed cannot be in axes: it chooses the rows that are read and scored",
        ),
        ({"axes": {"test_file": ["a", "b"]}}, "test_file cannot be in axes: it chooses the rows"),
        ({"base": {"task": "classification"}, "axes": {"seed": [0]}}, "task cannot be in base: it chooses the rows"),
        ({"axes": {"resume": ["never"]}}, "resume cannot be in axes: it changes where or how a training is kept"),
        ({"axes": {"size_budget_mib": [1]}}, "size_budget_mib cannot be in axes"),
        ({"axes": {"workers": [1, 2]}}, "unknown option 'workers'"),
        ({"axes": {"teacher": [""]}}, "teacher='': give weights to fine-tune, or a finished teacher"),
        ({"axes": {"student": [3]}}, "student=3: give text"),
        ({"axes": {"transfer_balance": [1]}}, "transfer_balance=1: give true or false"),
        ({"axes": {"labelled": [0.5]}}, "labelled=0.5: give a whole number"),
        ({"axes": {"alpha": [0.5]}, "title": ["a"]}, "title is ['a']: give text"),
        ({"axes": {"alpha": [0.5]}, "title": 1.5}, "title is 1.5: give text"),
        ({"axes": {"alpha": ["0x1"]}}, "alpha='0x1': give a finite number"),
        ({"axes": {"seed": ["1_0"]}}, "seed='1_0': give a whole number"),
        ({"axes": {"seed": [1e300]}}, "seed=1e+300: give a whole number"),
        ({"axes": {"alpha": [0.5]}, "exclude": {"alpha": 0.5}}, "give a list of mappings"),
        ({"axes": {"alpha": [0.5]}, "exclude": [{"seed": 1}]}, "which is no axis"),
        ({"axes": {"alpha": [0.5]}, "exclude": [{"alpha": 1}]}, "never the case"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_meant_is_told_in_one_line_that_names_the_file(given, said):
    with pytest.raises(UserError) as told:
        read(**given)
    assert str(told.value).startswith("design='d.yaml'")
    assert said in str(told.value)
    assert "\n" not in str(told.value)


def test_what_changes_no_training_may_be_in_the_base():
    design = read(axes={"objective": ["soft"]}, base={"attribution_examples": 16})
    assert design.base == {"attribution_examples": 16}
    assert len(cells(design)) == 2


def test_any_option_that_changes_a_training_is_an_axis_and_every_option_is_an_axis_or_refused_with_a_reason():
    known = options_in(DistillConfig)
    assert set(REFUSED) <= set(known)
    for option in set(known) - set(REFUSED):
        given = {"teacher": "models:/t/1", "student_layers": 2, "initialisation": "first"}
        value = given.get(option, known[option].default)
        assert read(axes={option: [value]}).axes


def test_teachers_and_students_of_several_shapes_stand_in_one_design_each_with_the_control_of_its_own_teacher():
    teachers, shapes = ["builtin:minilm-l6", "models:/t/1"], ["wide.json", "narrow.json", ""]
    found = cells(read(axes={"teacher": teachers, "student_config": shapes, "seed": [0]}))
    controls = [cell for cell in found if cell["objective"] == "none"]
    assert len(controls) == len(found) - len(controls) == 2 * 3
    assert {(cell["teacher"], cell["student_config"]) for cell in controls} == set(product(teachers, shapes))


def test_an_axis_may_leave_an_option_as_it_is_by_default_so_that_axes_which_exclude_each_other_can_be_crossed():
    found = cells(read(axes={"initialisation": [None, "first"], "student_layers": ["", 2], "seed": [0]}))
    assert {(cell["initialisation"], cell["student_layers"]) for cell in found} == set(
        product([None, "first"], ["", "2"])
    )


def test_the_options_of_a_task_are_axes_and_their_types_are_checked():
    @dataclass(frozen=True, kw_only=True)
    class Own(TaskOptions):
        horizon: int = 4
        quantile: float | None = None

        objectives: ClassVar = ("mse",)

    axes = {"horizon": [2, 4], "quantile": [None, "0.5"]}
    with pytest.raises(UserError, match=r"'sotf': give one of none, mse, or a weighted sum such as mse:0\.5$"):
        read_design({"axes": {"objective": ["sotf"]}}, "d", "d", Own)
    assert read_design({"axes": axes}, "d", "d", Own).axes == {"horizon": (2, 4), "quantile": (None, 0.5)}
    with pytest.raises(UserError, match="horizon='far': give a whole number"):
        read_design({"axes": {"horizon": ["far"]}}, "d", "d", Own)


def test_thousands_of_seeds_and_hundreds_of_sizes_are_read_in_seconds():
    began = time.process_time()
    exclude = [{"epoch_rows": list(range(1, 250)), "seed": [5]}]
    found = cells(read(axes={"epoch_rows": list(range(1, 501)), "seed": list(range(200))}, exclude=exclude))
    assert len(found) == 2 * (500 * 200 - 249)
    assert time.process_time() - began < 30  # quadratic, it takes hours


def test_more_combinations_than_can_ever_be_trained_are_refused_at_once_and_not_unfolded():
    axes = {"epoch_rows": list(range(1, 501)), "seed": list(range(2000)), "alpha": [0.1, 0.5]}
    began = time.process_time()
    with pytest.raises(UserError, match="crosses 2,000,000 combinations: give fewer values, at most 100,000"):
        cells(read(axes=axes))
    assert time.process_time() - began < 5


def test_excluding_everything_is_refused():
    with pytest.raises(UserError, match="leaves no cell"):
        cells(read(axes={"objective": ["soft"]}, exclude=[{"objective": "soft"}]))


def test_labels_belong_to_the_control_and_text_without_labels_does_not():
    axes = {"objective": ["soft"], "labelled": [5, 9], "transfer": ["", "rest"], "seed": [0]}
    controls = [cell for cell in cells(read(axes=axes)) if cell["objective"] == "none"]
    assert controls == [{"objective": "none", "labelled": count, "seed": 0} for count in (5, 9)]


def test_with_text_alone_to_learn_from_alpha_0_is_not_the_control():
    axes = {"alpha": [0, 1], "transfer": ["", "rest"], "seed": [0]}
    found = [cell for cell in cells(read(axes=axes)) if cell.get("objective") != "none"]
    assert [(cell["alpha"], cell["transfer"]) for cell in found] == [(0, "rest"), (1, ""), (1, "rest")]


def test_filters_of_text_play_no_part_where_there_is_none():
    axes = {"objective": ["soft"], "transfer": ["", "rest"], "transfer_balance": [False, True], "seed": [0]}
    found = [cell for cell in cells(read(axes=axes)) if cell["objective"] != "none"]
    assert len(found) == 1 + 2


def test_self_training_has_the_control_that_teaches_it():
    found = cells(read(axes={"objective": ["hard"], "guide": ["teacher", "control"], "labelled": [5], "seed": [0]}))
    assert [cell.get("guide") for cell in found] == [None, "teacher", "control"]
    assert {str(control_of(cell)) for cell in found} == {str(found[0])}


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(UserError, match=r"design='no\.yaml' is no file"):
        load_design("no.yaml")


def test_a_design_that_comes_with_kd_is_found_from_any_folder_and_never_hides_one_that_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_design("studies/quick.yaml") == load_design(str(STUDIES[0].with_name("quick.yaml")))
    for absent in ("quick.yaml", "studies/none.yaml", "studies/../README.md", "studies/" + "x" * 300):
        with pytest.raises(UserError, match=r"studies/quick\.yaml"):
            load_design(absent)
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "quick.yaml").write_text("title: mine\naxes: {seed: [0]}")
    assert load_design("studies/quick.yaml").title == "mine"


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_designs_that_are_shipped_have_controls_and_enough_seeds_for_a_claim(path):
    own = options_of("forecasting" if path.stem in FORECASTS else "classification")
    found = cells(load_design(str(path), own))
    distilled = [cell for cell in found if cell.get("objective") != "none"]
    assert distilled
    assert len(distilled) < len(found)
    assert len({cell["seed"] for cell in found}) >= 3


def test_the_shipped_designs_are_there():
    assert {path.stem for path in STUDIES} >= FORECASTS | {
        "quick",
        "home_pc",
        "alpha_temperature",
        "layer_init",
        "compression",
        "few_labels",
    }
