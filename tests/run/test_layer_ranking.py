"""Layers are ranked on validation, once, and alike for all seeds and arms, and a configured student is its file."""

import json
from dataclasses import replace

import pytest

from kd.base.types import UserError
from kd.config import StudentConfig, TeacherConfig, narrowed
from kd.models.layers import layer_stack
from kd.run import student, teacher
from kd.run.data import load_rows
from tests.architectures import built
from tests.tiny import bert, saved_bert, tokenizer


@pytest.fixture
def config(tmp_path):
    """Eighty rows, and a teacher whose second layer does nothing."""
    lines = [f"{('bad', 'good')[i % 3 % 2]} film {chr(97 + i % 26)} {i},{('bad', 'good')[i % 2]}" for i in range(80)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    model = bert(layers=4)
    layer = model.get_submodule(layer_stack(model))[1]
    for part in (layer.attention.output.dense, layer.output.dense):
        for weight in part.parameters():
            weight.data.zero_()
    model.save_pretrained(tmp_path / "weights")
    tokenizer().save_pretrained(tmp_path / "weights")
    return StudentConfig(
        dataset=str(tmp_path / "rows.csv"),
        teacher=str(tmp_path / "weights"),
        student_layers="3",
        initialisation="importance",
    )


def saved_by_place(folder):
    """Save a decoder whose attention is divided by the layer's number."""
    model, words = built("GPT-2, scaled by layer"), tokenizer()
    words.model_input_names = ["input_ids", "attention_mask"]
    model.save_pretrained(folder)
    words.save_pretrained(folder)


@pytest.fixture
def measured(monkeypatch):
    """The features of each measurement."""
    calls = []
    real = student.measure
    monkeypatch.setattr(student, "measure", lambda *given: calls.append(list(given[2])) or real(*given))
    return calls


def started(config, seed=0):
    config = replace(config, seed=seed)
    rows = load_rows(config)
    return student.initialise(config, rows, student.find_teacher(config, rows))


def test_the_layer_that_does_nothing_is_left_out_and_the_run_says_which_were_kept(config, measured):
    assert started(config).identity["layers"] == [0, 2, 3]
    assert measured == [list(range(8))]  # validation is a tenth of the rows


def test_all_seeds_start_from_the_same_layers_and_measure_once(config, measured):
    """An arm is its layers: seeds with layers of their own would be arms of their own."""
    first, second = started(config, 0), started(config, 1)
    assert first.identity == second.identity
    assert len(measured) == 1


def test_another_teacher_or_other_validation_rows_are_measured_anew(config, measured):
    started(config)
    started(replace(config, split_seed=5))
    saved_bert(__import__("pathlib").Path(config.teacher), seed=7)
    started(config)
    assert len(measured) == 3


def test_of_many_rows_as_many_as_said_are_taken_and_the_table_tells(config, measured, monkeypatch, capsys):
    monkeypatch.setattr(student, "RANKED_ON", 5)
    started(config)
    assert len(measured[0]) == 5
    out = capsys.readouterr().out
    assert "5 features" in out
    assert "loss without it" in out


def configured(config, tmp_path, **settings):
    path = tmp_path / "small.json"
    path.write_text(json.dumps({"num_hidden_layers": 2, "hidden_size": 12, "num_attention_heads": 3, **settings}))
    return replace(config, student_layers="", initialisation=None, student_config=str(path))


def test_a_configured_student_is_random_of_its_seed_and_its_identity_is_its_shape(config, tmp_path):
    one = configured(config, tmp_path)
    first, again, other = started(one), started(one), started(one, seed=1)
    assert first.model.config.hidden_size == 12
    assert "2 layers x 12 (small.json)" in first.words
    assert first.identity == again.identity == other.identity
    weights = [start.model.state_dict()["classifier.weight"] for start in (first, again, other)]
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])
    wider = started(configured(config, tmp_path, intermediate_size=7))
    assert wider.identity != first.identity
    assert json.loads(json.dumps(wider.identity)) == wider.identity


def test_positions_that_do_not_suffice_are_told(config, tmp_path):
    with pytest.raises(UserError, match=r"student_config.*: max_length=128 is more than its 20 positions"):
        started(configured(config, tmp_path, max_position_embeddings=20))


def untrained(config):
    rows = load_rows(config)
    return rows, teacher.plan(narrowed(TeacherConfig, config), rows)


@pytest.mark.parametrize(
    "changes", [{"student_layers": "9"}, {"student_layers": "0,9", "initialisation": None}, {"student_layers": "x"}]
)
def test_a_student_that_cannot_be_cut_is_refused_before_its_teacher_is_trained(config, changes):
    with pytest.raises(UserError, match=r"^student_layers="):
        student.require_shape(replace(config, **changes), *untrained(config))


@pytest.mark.parametrize("layers", ["0,2", "1,2"])
def test_layers_that_work_by_their_place_are_refused_before_their_teacher_is_trained(config, layers):
    """A scale by the layer's number: the copy would compute something else, silently."""
    saved_by_place(config.teacher)
    with pytest.raises(UserError, match=r"^student_layers: layers .* would compute something else"):
        student.require_shape(replace(config, student_layers=layers, initialisation=None), *untrained(config))


def test_a_shape_that_can_be_made_passes_without_measuring(config, tmp_path, measured):
    given = untrained(config)
    student.require_shape(config, *given)
    student.require_shape(configured(config, tmp_path), *given)
    with pytest.raises(UserError, match=r"^student_config"):
        student.require_shape(configured(config, tmp_path, num_attention_heads=5), *given)
    assert measured == []
