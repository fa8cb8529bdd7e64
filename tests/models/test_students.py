"""A student starts as exactly the layers it names, in every architecture, and leaves its teacher alone."""

import copy
from dataclasses import dataclass
from itertools import combinations

import pytest
import torch
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    Qwen2Config,
    Qwen2ForSequenceClassification,
)

from kd.base.types import UserError
from kd.models.layers import LAYER_MAPS, layer_map, layer_stack
from kd.models.students import build_student, configured_student, random_like
from tests.tiny import bert

DEPTH, VOCABULARY = 4, 50
COPIED = [name for name in LAYER_MAPS if name != "random"]


def gpt2():
    return GPT2ForSequenceClassification(
        GPT2Config(
            vocab_size=VOCABULARY,
            n_embd=16,
            n_layer=DEPTH,
            n_head=2,
            n_positions=32,
            num_labels=3,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    )


def distilbert():
    return DistilBertForSequenceClassification(
        DistilBertConfig(
            vocab_size=VOCABULARY,
            dim=16,
            n_layers=DEPTH,
            n_heads=2,
            hidden_dim=32,
            max_position_embeddings=32,
            num_labels=3,
        )
    )


DECODER = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "num_labels": 3,
    "pad_token_id": 0,
}


def llama():
    return LlamaForSequenceClassification(LlamaConfig(**DECODER))


def qwen2():
    """A decoder whose configuration lists a kind for each layer."""
    kinds = ["full_attention", "sliding_attention", "full_attention", "sliding_attention"]
    return Qwen2ForSequenceClassification(
        Qwen2Config(**DECODER, layer_types=kinds, use_sliding_window=True, sliding_window=4)
    )


MAKERS = {"bert": lambda: bert(("a", "b", "c"), DEPTH), "distilbert": distilbert, "gpt2": gpt2, "llama": llama,
          "qwen2": qwen2}  # fmt: skip


@dataclass(frozen=True)
class Teacher:
    model: torch.nn.Module
    before: dict[str, torch.Tensor]


@pytest.fixture(scope="module", params=MAKERS)
def teacher(request):
    torch.manual_seed(3)
    model = MAKERS[request.param]().eval()
    with torch.no_grad():  # biases and norms start equal in all layers: tell the layers apart
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return Teacher(model, copy.deepcopy(model.state_dict()))


def layer(model, index):
    return {name: value for name, value in model.get_submodule(f"{layer_stack(model)}.{index}").state_dict().items()}


def outside(model):
    return {name: value for name, value in model.state_dict().items() if not name.startswith(layer_stack(model) + ".")}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", COPIED)
def test_each_strategy_copies_the_layers_it_names_and_all_that_is_outside_them(teacher, name, count):
    indices = layer_map(count, name, DEPTH, moved=lambda: (0.1, 0.5, 0.9, 0.2))
    student = build_student(teacher.model, count, indices, seed=0)
    assert student.config.num_hidden_layers == count
    for place in range(count):
        matches = [index for index in range(DEPTH) if same(layer(student, place), layer(teacher.model, index))]
        assert matches == [indices[place]]
    assert same(outside(student), outside(teacher.model))


def test_all_layers_make_a_student_that_says_what_its_teacher_says(teacher):
    student = build_student(teacher.model, DEPTH, tuple(range(DEPTH)), seed=0).eval()
    ids = torch.randint(3, VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, theirs = (model(input_ids=ids, attention_mask=torch.ones_like(ids)) for model in (student, teacher.model))
    assert torch.equal(ours.logits, theirs.logits)


def test_a_student_runs_and_keeps_its_teachers_labels(teacher):
    student = build_student(teacher.model, 2, (1, 3), seed=0).eval()
    ids = torch.randint(3, VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert student(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.shape == (2, 3)
    assert student.config.id2label == teacher.model.config.id2label
    assert student.dtype == torch.float32


def test_a_student_survives_being_saved_and_loaded(teacher, tmp_path):
    student = build_student(teacher.model, 2, (1, 3), seed=0)
    student.save_pretrained(tmp_path)
    assert same(type(student).from_pretrained(tmp_path).state_dict(), student.state_dict())


def test_training_the_student_leaves_the_teacher_as_it_was(teacher):
    config = teacher.model.config.to_dict()
    student = build_student(teacher.model, 2, (0, 3), seed=0)
    with torch.no_grad():
        for weight in student.state_dict().values():
            weight.zero_()
    assert same(teacher.model.state_dict(), teacher.before)
    assert teacher.model.config.to_dict() == config


def test_random_layers_are_not_the_teachers_but_embeddings_and_head_are(teacher):
    student = build_student(teacher.model, 2, (), seed=0)
    for place in range(2):
        assert not any(same(layer(student, place), layer(teacher.model, index)) for index in range(DEPTH))
    assert same(outside(student), outside(teacher.model))


def test_random_layers_are_those_of_the_seed(teacher):
    one, again, other = (build_student(teacher.model, 2, (), seed).state_dict() for seed in (1, 1, 2))
    assert same(one, again)
    assert not same(one, other)


def test_the_seed_plays_no_part_where_layers_are_copied(teacher):
    assert same(*(build_student(teacher.model, 2, (0, 1), seed).state_dict() for seed in (1, 2)))


@pytest.mark.parametrize("indices", [(), (0, 2)])
def test_building_does_not_disturb_the_global_random_state(teacher, indices):
    """Arm and control would otherwise see their rows in another order."""
    before = torch.random.get_rng_state()
    build_student(teacher.model, 2, indices, seed=5)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_teacher_in_half_precision_gives_a_student_that_trains_in_float32(teacher):
    half = copy.deepcopy(teacher.model).bfloat16()
    student = build_student(half, 2, (0, 3), seed=0)
    assert {value.dtype for value in student.state_dict().values() if value.is_floating_point()} == {torch.float32}


def shares_storage(one, other):
    places = {weight.untyped_storage().data_ptr() for weight in other.state_dict().values()}
    return any(weight.untyped_storage().data_ptr() in places for weight in one.state_dict().values())


def test_strategies_give_students_that_differ_and_share_no_storage(teacher):
    """Two names for the same weights would make a study of initialisations compare an arm with itself."""
    names = [name for name in LAYER_MAPS if name not in ("top-k", "bottom-k")]
    maps = {name: layer_map(2, name, DEPTH, moved=lambda: (0.1, 0.5, 0.9, 0.2)) for name in names}
    students = {name: build_student(teacher.model, 2, indices, seed=0) for name, indices in maps.items()}
    for one, other in combinations(names, 2):
        assert same(students[one].state_dict(), students[other].state_dict()) == (maps[one] == maps[other])
        assert not shares_storage(students[one], students[other])
    assert len({*maps.values()}) >= 5
    assert not any(shares_storage(student, teacher.model) for student in students.values())
    assert same(teacher.model.state_dict(), teacher.before)


SHAPE = {"num_hidden_layers": 3, "hidden_size": 24, "num_attention_heads": 4}


def shaped(model, **more):
    """Settings of a student of another width than any teacher here."""
    heads = {"num_key_value_heads": 2} if hasattr(model.config, "num_key_value_heads") else {}
    return {**SHAPE, **heads, **more}


def test_a_configured_student_has_the_shape_it_was_given_and_the_teachers_words_and_labels(teacher):
    student = configured_student(teacher.model, shaped(teacher.model), seed=0).eval()
    assert [getattr(student.config, name) for name in SHAPE] == list(SHAPE.values())
    assert len(student.get_submodule(layer_stack(student))) == 3
    assert student.get_input_embeddings().weight.shape == (teacher.model.config.vocab_size, 24)
    assert student.config.id2label == teacher.model.config.id2label
    ids = torch.randint(3, VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert student(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.shape == (2, 3)
    assert same(teacher.model.state_dict(), teacher.before)
    assert not shares_storage(student, teacher.model)


def test_a_configured_student_is_that_of_its_seed_and_leaves_the_global_random_state(teacher):
    before = torch.random.get_rng_state()
    settings = shaped(teacher.model)
    one, again, other = (configured_student(teacher.model, settings, seed).state_dict() for seed in (1, 1, 2))
    assert same(one, again)
    assert not same(one, other)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_saved_configuration_may_be_given_as_it_is(teacher):
    saved = {**build_student(teacher.model, 2, (), seed=0).config.to_dict()}
    assert configured_student(teacher.model, saved, seed=0).config.num_hidden_layers == 2


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"hiden_size": 24}, "'hiden_size' is no setting.* did you mean hidden_size"),
        ({"auto_map": {"AutoModel": "x.y"}}, "'auto_map' is no setting"),
        ({"model_type": "other"}, "model_type='other', and the teacher is"),
        ({"vocab_size": 7}, "vocab_size=7, and the student has its teacher's tokenizer of"),
        ({"num_hidden_layers": 0}, "can be built of it"),
        ({"num_attention_heads": 5}, "can be built of it"),
        ({"hidden_size": "wide"}, "can be built of it"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_configuration_that_cannot_be_meant_is_refused_in_one_line(settings, told):
    with pytest.raises(UserError, match=rf"^student_config: .*{told}") as caught:
        configured_student(bert(), {**SHAPE, **settings}, seed=0)
    assert "\n" not in str(caught.value)


def test_a_random_model_of_the_same_shape_has_other_weights(teacher):
    made = random_like(teacher.model, seed=9)
    assert {name: value.shape for name, value in made.state_dict().items()} == {
        name: value.shape for name, value in teacher.before.items()
    }
    assert not any(same(layer(made, index), layer(teacher.model, index)) for index in range(DEPTH))
