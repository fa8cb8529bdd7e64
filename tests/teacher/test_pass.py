"""A teacher's outputs are those of each row alone: padding, batches and order leave no trace."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import DataCollatorWithPadding, DistilBertConfig, DistilBertForSequenceClassification

from kd.base.types import Batch, UserError
from kd.teacher import run
from kd.teacher.run import TeacherPass, top_log_probs
from tests.tiny import bert, tokenizer

TEXTS = ["good", "the film was very bad", "a fine story", "poor plot", "it was not good", "very very very good book"]
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
EVERYTHING = ("outputs", "hidden.0", "hidden.3", "attention.1", "attention.3", "relation.3")


@pytest.fixture(scope="module")
def rows():
    made = dict(tokenizer()(TEXTS))
    made["labels"] = [0] * len(TEXTS)
    made["feature"] = list(range(len(TEXTS)))
    made["length"] = [len(ids) for ids in made["input_ids"]]
    return Dataset.from_dict(made)


def collate_on(side):
    def collate(batch):
        words = tokenizer()
        words.padding_side = side
        inputs = DataCollatorWithPadding(words)([{name: row[name] for name in INPUTS if name in row} for row in batch])
        labels = torch.tensor([row["labels"] for row in batch])
        return Batch(dict(inputs), {"labels": labels}, np.array([row["feature"] for row in batch]))

    return collate


def masks(batch):
    labelled = batch.truth["labels"] != -100
    tokens = batch.inputs["attention_mask"].bool()
    return {"target": labelled, "positions": torch.ones_like(labelled), "tokens": tokens}


TASK = SimpleNamespace(masks=masks, outputs=lambda raw, batch: {"logits": raw.logits})


def asked(work, order):
    found = {}
    for part in work(np.array(order)):
        for name, each in part.items():
            found.setdefault(name, []).extend(each)
    return found


def alone(row):
    """Logits, hidden states, attention maps and the last layer's queries, keys and values of one row."""
    model = bert().eval()
    model.set_attn_implementation("eager")
    inputs = {key: torch.tensor([row[key]]) for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        out = model(**inputs, output_hidden_states=True, output_attentions=True)
        attention = model.bert.encoder.layer[3].attention.self
        qkv = [joint(out.hidden_states[3]) for joint in (attention.query, attention.key, attention.value)]
    return {
        "outputs.logits": out.logits,
        "hidden.0": out.hidden_states[1][0],
        "hidden.3": out.hidden_states[4][0],
        "attention.1": out.attentions[1][0],
        "attention.3": out.attentions[3][0],
        "relation.3": torch.cat(qkv),
    }


@pytest.mark.parametrize("tokens", [1, 20, 8192])
@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 1, 0], [2, 2]], ids=str)
def test_each_row_is_answered_as_if_it_were_alone(rows, tokens, order):
    work = TeacherPass(bert(dropout=0.5), rows, collate_on("right"), TASK, EVERYTHING, tokens=tokens)
    found = asked(work, order)
    assert found.keys() == {"outputs.logits", *EVERYTHING[1:]}
    for place, row in enumerate(order):
        for name, own in alone(rows[row]).items():
            torch.testing.assert_close(
                found[name][place], own, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: name + text
            )
    length = rows[order[0]]["length"]
    assert found["attention.1"][0].shape == (2, length, length)
    assert found["relation.3"][0].shape == (3, length, 16)


def test_padding_on_the_left_is_cut_off_on_the_left(rows):
    """A model that does not count positions, so that padding on the left changes none."""
    model = bert().eval()
    with torch.no_grad():
        model.bert.embeddings.position_embeddings.weight.zero_()
    right, left = (
        asked(TeacherPass(model, rows, collate_on(side), TASK, EVERYTHING), range(6)) for side in ("right", "left")
    )
    for name in EVERYTHING[1:]:  # BERT reads its logits off the first position, whatever stands there
        for one, other in zip(right[name], left[name], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_attention_stays_fused_where_no_maps_are_asked_for(rows):
    model = bert()
    TeacherPass(model, rows, collate_on("right"), TASK, ("outputs", "hidden.1", "relation.1"))
    assert model.config._attn_implementation == "sdpa"
    TeacherPass(model, rows, collate_on("right"), TASK, ("attention.1",))
    assert model.config._attn_implementation == "eager"


def test_no_gradient_is_kept_and_no_hook_stays(rows):
    model = bert()
    work = TeacherPass(model, rows, collate_on("right"), TASK, EVERYTHING)
    found = asked(work, [0, 1])
    assert not any(one.requires_grad for each in found.values() for one in each)
    attention = model.bert.encoder.layer[3].attention.self
    assert not any(joint._forward_hooks for joint in (attention.query, attention.key, attention.value))
    assert not torch.is_inference_mode_enabled()


def test_inference_mode_does_not_leak_to_who_asks(rows):
    for _ in TeacherPass(bert(), rows, collate_on("right"), TASK, tokens=1)(np.arange(3)):
        assert not torch.is_inference_mode_enabled()
        assert torch.is_grad_enabled()


def test_a_forward_that_does_not_fit_is_halved_and_that_is_remembered(rows):
    model, sizes = bert(), []

    def limited(module, given, named):
        sizes.append(len(named["input_ids"]))
        if len(named["input_ids"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    hook = model.register_forward_pre_hook(limited, with_kwargs=True)
    work = TeacherPass(model, rows, collate_on("right"), TASK)
    first = asked(work, range(6))
    failed = sum(size > 2 for size in sizes)
    assert failed
    asked(work, range(6))
    assert sum(size > 2 for size in sizes) == failed
    hook.remove()
    for one, other in zip(first["outputs.logits"], asked(work, range(6))["outputs.logits"], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_row_that_does_not_fit_alone_is_an_error(rows):
    model = bert()

    def none(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    model.register_forward_pre_hook(none)
    with pytest.raises(torch.OutOfMemoryError):
        asked(TeacherPass(model, rows, collate_on("right"), TASK), range(6))


def test_a_layer_that_there_is_not_is_refused_before_anything_runs(rows):
    with pytest.raises(UserError, match=r"layer 4 \(0-based\).*4 layers"):
        TeacherPass(bert(), rows, collate_on("right"), TASK, ("outputs", "hidden.4"))


def test_other_models_name_their_projections_otherwise(rows):
    config = DistilBertConfig(vocab_size=200, dim=16, n_heads=2, n_layers=2, hidden_dim=32, num_labels=2)

    def collate(batch):
        made = collate_on("right")(batch)
        return replace(made, inputs={key: value for key, value in made.inputs.items() if key != "token_type_ids"})

    model = DistilBertForSequenceClassification(config)
    found = asked(TeacherPass(model, rows, collate, TASK, ("relation.1",)), [1])
    assert found["relation.1"][0].shape == (3, rows[1]["length"], 16)


def test_a_model_without_queries_of_its_own_is_refused_by_those_who_need_them(rows):
    model = bert()
    model.bert.encoder.layer[2].attention.self.fused = model.bert.encoder.layer[2].attention.self._modules.pop("query")
    with pytest.raises(UserError, match="queries, keys and values"):
        TeacherPass(model, rows, collate_on("right"), TASK, ("relation.1",))


def token_head(model, options):
    """Logits a token, from the last hidden state."""
    draw = torch.randn(16, options, generator=torch.Generator().manual_seed(0))
    forward = model.forward

    def each_token(**given):
        out = forward(**given, output_hidden_states=True)
        return SimpleNamespace(logits=out.hidden_states[-1] @ draw)

    model.forward = each_token
    return model


def said(batch):
    """The second half of each feature's tokens: where a task of tokens has something to say."""
    mask = batch.inputs["attention_mask"].bool()
    return mask & (mask.cumsum(1) > mask.sum(1, keepdim=True) // 2)


TOKENS = SimpleNamespace(
    masks=lambda batch: {**masks(batch), "positions": batch.inputs["attention_mask"].bool()},
    outputs=lambda raw, batch: {"logits": raw.logits[batch.inputs["attention_mask"].bool()]},
)
SOME = SimpleNamespace(
    masks=lambda batch: {**masks(batch), "positions": said(batch)},
    outputs=lambda raw, batch: {"tags": raw.logits[said(batch)], "start": raw.logits[said(batch)][:, 0]},
)


def test_logits_of_every_token_are_kept_without_padding(rows):
    work = TeacherPass(token_head(bert(), 7), rows, collate_on("right"), TOKENS)
    found = asked(work, range(6))["outputs.logits"]
    assert [one.shape for one in found] == [(length, 7) for length in rows["length"]]
    single = asked(work, [3])["outputs.logits"][0]
    torch.testing.assert_close(found[3], single, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("tokens", [1, 8192])
def test_valid_positions_alone_are_kept_each_with_its_own_feature_however_many_it_has(rows, side, tokens):
    """Counts differ from feature to feature: a split at the wrong place gives one feature's outputs to the next."""
    model = token_head(bert(), 7)
    with torch.no_grad():
        model.bert.embeddings.position_embeddings.weight.zero_()
    work = TeacherPass(model, rows, collate_on(side), SOME, tokens=tokens)
    order = [5, 0, 2, 0, 1]
    found = asked(work, order)
    assert found.keys() == {"outputs.tags", "outputs.start"}
    lengths = [rows["length"][row] for row in order]
    counts = [length - length // 2 for length in lengths]
    assert len({*counts}) > 2
    assert [one.shape for one in found["outputs.tags"]] == [(count, 7) for count in counts]
    assert [one.shape for one in found["outputs.start"]] == [(count,) for count in counts]
    whole = TeacherPass(model, rows, collate_on("right"), TOKENS, tokens=1)
    for tags, start, every, count in zip(
        found["outputs.tags"], found["outputs.start"], asked(whole, order)["outputs.logits"], counts, strict=True
    ):
        torch.testing.assert_close(tags, every[-count:], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(start, every[-count:, 0], rtol=1e-4, atol=1e-5)


def test_a_feature_without_a_valid_position_has_outputs_of_none(rows):
    masked = SimpleNamespace(
        masks=lambda batch: {**masks(batch), "positions": said(batch) & (torch.tensor(batch.features) != 2)[:, None]},
        outputs=lambda raw, batch: {"tags": raw.logits[masked.masks(batch)["positions"]]},
    )
    found = asked(TeacherPass(token_head(bert(), 7), rows, collate_on("right"), masked), range(6))["outputs.tags"]
    assert [len(one) == 0 for one in found] == [feature == 2 for feature in range(6)]


def test_one_number_a_position_is_no_distribution_however_many_positions_a_forward_has(rows, monkeypatch):
    """The number of positions would be taken for that of options, and all but 64 positions be lost."""
    monkeypatch.setattr(run, "MANY_OPTIONS", 8)
    found = asked(TeacherPass(token_head(bert(), 7), rows, collate_on("right"), SOME), range(6))
    assert found.keys() == {"outputs.tags", "outputs.start"}


def test_of_many_options_the_most_probable_are_kept_and_the_rest_is_weighed(rows, monkeypatch):
    monkeypatch.setattr(run, "MANY_OPTIONS", 100)
    work = TeacherPass(token_head(bert(), 100), rows, collate_on("right"), TOKENS)
    found = asked(work, range(6))
    length = rows[1]["length"]
    shapes = {name: tuple(each[1].shape) for name, each in found.items()}
    assert shapes == {
        "outputs.logits.values": (length, 64),
        "outputs.logits.indices": (length, 64),
        "outputs.logits.tail": (length, 8),
    }
    kept = found["outputs.logits.values"][1].exp().sum(-1) + found["outputs.logits.tail"][1][:, -1].exp()
    torch.testing.assert_close(kept, torch.ones(length))


@pytest.mark.parametrize("point", range(1, 9))
def test_the_tail_is_the_sum_of_powers_of_what_is_left_out(point):
    logits = 3 * torch.randn(5, 200, generator=torch.Generator().manual_seed(4))
    top = top_log_probs(logits, 10)
    rest = logits.double().softmax(-1).scatter(-1, top.indices, 0.0)
    own = (rest.pow(point / 8) * (rest > 0)).sum(-1).log()
    torch.testing.assert_close(top.tail[:, point - 1].double(), own, rtol=1e-4, atol=1e-4)
    assert math.isclose(float(top.values.exp().sum(-1)[0] + rest.sum(-1)[0]), 1.0, rel_tol=1e-5)
