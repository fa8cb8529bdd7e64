"""Time-LLM as published, and without the mistakes that its first implementation had."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AlbertConfig, BertConfig, DistilBertConfig, GPT2Config, LlamaConfig, OPTConfig

from kd.models.forecast import ForecasterConfig, TimeLLM, made, read
from kd.models.layers import layer_stack
from kd.models.students import build_student, require_kept, require_same

WORDS, WIDTH, LAYERS = 50, 16, 3
SHAPE = {"vocab_size": WORDS, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 2}
BACKBONES = {
    "bert": BertConfig(**SHAPE, intermediate_size=32),
    "albert": AlbertConfig(**SHAPE, embedding_size=8, intermediate_size=32),
    "distilbert": DistilBertConfig(vocab_size=WORDS, dim=WIDTH, n_layers=LAYERS, n_heads=2, hidden_dim=32),
    "gpt2": GPT2Config(vocab_size=WORDS, n_embd=WIDTH, n_layer=LAYERS, n_head=2, bos_token_id=0, eos_token_id=0),
    "opt": OPTConfig(**SHAPE, ffn_dim=32, word_embed_proj_dim=WIDTH),
    "llama": LlamaConfig(**SHAPE, intermediate_size=32),
}
every_backbone = pytest.mark.parametrize("kind", BACKBONES)


def model_of(kind="bert", **settings) -> TimeLLM:
    config = BACKBONES[kind]
    given = {
        "kind": "time-llm",
        "num_hidden_layers": LAYERS,
        "hidden_size": WIDTH,
        "num_attention_heads": 2,
        "patch_length": 4,
        "patch_stride": 2,
        "patch_width": 6,
        "head_width": 8,
        "key_width": 4,
        "heads": 2,
        "prototypes": 7,
        "around": "random",
        "prompt": "full",
        "backbone": {**config.to_dict(), "model_type": config.model_type},
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = made(ForecasterConfig(**(given | settings)))
    model.scaled_by(150.0, [60.0, *[2.0] * (model.config.channels - 1)])
    return model.eval()


def windows(count=3, channels=1):
    return 80 + 100 * torch.rand(count, 12, channels, generator=torch.Generator().manual_seed(1))


def prompts(*lengths, longest=None):
    ids = torch.randint(1, WORDS, (len(lengths), longest or max(lengths)), generator=torch.Generator().manual_seed(2))
    for row, length in zip(ids, lengths, strict=True):
        row[length:] = 0
    return {"prompt_ids": ids, "prompt_length": torch.tensor(lengths)}


@every_backbone
def test_the_length_of_other_prompts_in_a_batch_changes_no_forecast_so_padding_is_masked(kind):
    model, given = model_of(kind), windows()
    whole = model(given, **prompts(3, 9, 6), output_hidden_states=True)
    for place, length in enumerate((3, 9, 6)):
        ids = prompts(3, 9, 6)["prompt_ids"][place : place + 1]
        for kept in (length, 9):
            tokens = {"prompt_ids": ids[:, :kept], "prompt_length": torch.tensor([length])}
            alone = model(given[place : place + 1], **tokens, output_hidden_states=True)
            torch.testing.assert_close(alone.forecast[0], whole.forecast[place], rtol=1e-4, atol=1e-3)
            for one, other in zip(alone.hidden_states, whole.hidden_states, strict=True):
                torch.testing.assert_close(one[0], other[place], rtol=1e-4, atol=1e-4)


@every_backbone
def test_the_prompt_is_read_and_what_lies_in_its_padding_is_not(kind):
    model, given, tokens = model_of(kind), windows(), prompts(3, 9, 6)
    said = model(given, **tokens).forecast
    padded = tokens["prompt_ids"].clone()
    padded[0, 3:] = 5
    length = tokens["prompt_length"]
    torch.testing.assert_close(model(given, prompt_ids=padded, prompt_length=length).forecast, said)
    other = tokens["prompt_ids"].clone()
    other[:, 0] = 7
    assert (model(given, prompt_ids=other, prompt_length=length).forecast - said).abs().max() > 1e-4


@every_backbone
def test_all_layers_are_given_at_the_patches_so_that_prompts_of_other_lengths_can_be_compared(kind):
    model = model_of(kind)
    said = model(windows(), **prompts(3, 9, 6), output_hidden_states=True)
    assert len(said.hidden_states) == LAYERS + 1
    assert {one.shape for one in said.hidden_states[1:]} == {(3, model.config.patches, WIDTH)}
    assert model(windows()).hidden_states is None


def test_patches_are_those_of_the_published_padding():
    for history, length, stride, count in ((12, 4, 2, 6), (512, 16, 8, 64), (12, 12, 6, 2), (12, 1, 1, 13)):
        config = ForecasterConfig(history=history, patch_length=length, patch_stride=stride)
        padded = torch.nn.functional.pad(torch.zeros(1, history), (0, stride))
        assert config.patches == padded.unfold(1, length, stride).shape[1] == count


def test_a_window_is_normalised_by_itself_so_a_shift_or_a_stretch_of_it_is_one_of_the_forecast():
    model, given = model_of(prompt="none"), windows()
    said = model(given).forecast
    torch.testing.assert_close(model(given + 30).forecast, said + 30, rtol=1e-3, atol=1e-2)
    middle = given.mean(dim=1, keepdim=True)
    stretched = model(middle + 2 * (given - middle)).forecast
    torch.testing.assert_close(stretched, middle[..., 0] + 2 * (said - middle[..., 0]), rtol=1e-3, atol=1e-1)


def test_a_constant_window_is_forecast_to_go_on_and_is_no_division_by_nothing():
    said = model_of(prompt="none")(torch.full((2, 12, 1), 100.0)).forecast
    assert said.isfinite().all()
    assert (said - 100).abs().max() < 2


def test_a_forecast_has_no_dropout_and_neither_has_a_backbone_that_does_not_learn():
    model, given = model_of().train(), windows()
    torch.testing.assert_close(model(given, **prompts(3, 9, 6)).forecast, model(given, **prompts(3, 9, 6)).forecast)
    assert not model.backbone.training
    learning = model_of(train_backbone=True).train()
    assert learning.backbone.training
    torch.testing.assert_close(*(learning.eval()(given).forecast for _ in range(2)))


@pytest.mark.parametrize("around", ["random", "pretrained", "attention", "none"])
@pytest.mark.parametrize("learns", [False, True])
def test_the_words_never_learn_the_backbone_does_where_asked_and_all_else_always(around, learns):
    model = model_of(around=around, train_backbone=learns, num_hidden_layers=int(around == "attention") or LAYERS)
    model.train()(windows(), **prompts(3, 9, 6)).forecast.square().mean().backward()
    learnt = {name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert not {name for name in learnt if "word" in name}
    inside = {name for name in learnt if name.startswith("backbone.")}
    assert bool(inside) == (learns if around in ("random", "pretrained") else around == "attention")
    outside = {name for name, _ in model.named_parameters() if not name.startswith("backbone.")}
    assert outside - learnt <= {"key.bias"}  # softmax does not see what all keys have in common
    assert {"mapping.weight", "mapping.bias", "patch.weight", "head.weight"} <= learnt


@pytest.mark.parametrize("prompt", ["full", "none"])
@every_backbone
def test_folding_keeps_all_answers_and_no_matrix_as_large_as_the_vocabulary(kind, prompt, tmp_path):
    model, given = model_of(kind, prompt=prompt), windows()
    tokens = prompts(3, 9, 6) if prompt != "none" else {}
    before, count = model(given, **tokens).forecast, model.num_parameters()
    model.fold()
    torch.testing.assert_close(model(given, **tokens).forecast, before)
    assert count - model.num_parameters() >= 7 * WORDS + 7 - 7 * WIDTH
    large = [name for name, weight in model.named_parameters() if WORDS in weight.shape]
    assert len(large) == (prompt != "none"), large  # the prompt's words are looked up
    model.fold()
    model.save_pretrained(tmp_path)
    again = read(tmp_path).eval()
    torch.testing.assert_close(again(given, **tokens).forecast, before)
    assert (
        again.num_parameters()
        == model.num_parameters()
        == sum(
            value.numel()
            for name, value in load_file(tmp_path / "model.safetensors").items()
            if name not in ("center", "spreads") and name in dict(model.named_parameters())
        )
    )


def test_a_folded_model_can_learn_on_and_so_can_a_student_cut_from_it():
    model = model_of()
    model.fold()
    model.train()(windows(), **prompts(3, 9, 6)).forecast.sum().backward()
    assert model.kept.grad.any()


@every_backbone
def test_a_student_of_some_layers_computes_with_them_what_its_teacher_does_without_the_others(kind):
    model, given = model_of(kind), windows()
    if kind == "albert":
        return  # all its layers share their weights
    assert layer_stack(model).startswith("backbone.")
    student = build_student(model, 2, (0, 2), seed=0).eval()
    require_same(model, student, (0, 2), lambda one: {"forecast": one(given, **prompts(3, 9, 6)).forecast})
    require_kept(student, "student")
    assert student.config.num_hidden_layers == 2


def test_covariates_and_what_is_known_ahead_enter_and_each_is_measured_in_its_own_spread():
    model = model_of(channels=3, known=[2])
    given, ahead = windows(channels=3), torch.rand(3, 6, 1)
    with torch.no_grad():
        model.ahead.weight.normal_()
    said = model(given, ahead).forecast
    for channel in (1, 2):
        other = given.clone()
        other[..., channel] += 1
        assert (model(other, ahead).forecast - said).abs().max() > 1e-4
    assert (model(given, ahead + 1).forecast - said).abs().min() > 0
    model.spreads[1], given[..., 1] = 4.0, 2 * given[..., 1]
    torch.testing.assert_close(model(given, ahead).forecast, said, rtol=1e-4, atol=1e-2)


def test_quantiles_are_forecast_beside_their_median():
    said = model_of(quantiles=[0.1, 0.5, 0.9])(windows())
    assert said.quantiles.shape == (3, 6, 3)
    assert torch.equal(said.forecast, said.quantiles[..., 1])


@pytest.mark.parametrize("around", ["attention", "none"])
def test_without_a_language_model_the_rest_is_the_same(around, tmp_path):
    model = model_of(around=around, num_hidden_layers=int(around == "attention"))
    given, tokens = windows(), prompts(3, 9, 6)
    said = model(given, **tokens, output_hidden_states=True)
    assert len(said.hidden_states) == 1 + (around == "attention")
    whole = {name for name, _ in model_of().named_parameters() if not name.startswith("backbone.")}
    assert {name for name, _ in model.named_parameters() if not name.startswith("backbone.")} == whole
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(read(tmp_path).eval()(given, **tokens).forecast, said.forecast)
    alone = model(given[:1], prompt_ids=tokens["prompt_ids"][:1], prompt_length=tokens["prompt_length"][:1])
    torch.testing.assert_close(alone.forecast[0], said.forecast[0], rtol=1e-4, atol=1e-3)
