"""A student starts as exactly the layers it names, in every architecture, and leaves its teacher alone."""

import copy
from dataclasses import dataclass

import pytest
import torch
from tiny import bert
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

from kd.models.layers import LAYER_MAPS, layer_map, layer_stack
from kd.models.students import build_student

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
    indices = layer_map(count, name, DEPTH)
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
