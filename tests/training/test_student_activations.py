"""A student that is looked into while it trains learns as it should, resumes exactly, and ends without a trace."""

import json
import multiprocessing
import os
import socket
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from kd.base.types import Objective, Setting, Shape, Stopped, StudentOutputs, TeacherOutputs
from kd.objectives import OBJECTIVES
from kd.serving import package
from kd.teacher.run import TeacherPass
from kd.training.activations import PROJECTIONS, looked_into
from kd.training.loop import fit, last_checkpoint
from tests import tiny
from tests.tiny import bert
from tests.training.test_loop import (
    RECIPE,
    TASK,
    Reports,
    collate,
    difference,
    encoded,
    job,
    task_loss,
    terminate,
    trained,
    validation_loss,
    weights,
)

PAIRS = ((0, 1), (1, 3))
WIDE = Setting(2.0, 0.5, Shape(2, 16, 2), Shape(4, 24, 2), PAIRS, PAIRS)
NAMES = ("soft", "hidden", "attention", "relation", "cosine", "patient")


def terms(*names):
    return tuple(OBJECTIVES[name](WIDE) for name in names)


def told(*names):
    """What the wider teacher says, as tensors padded to the batch."""
    contents = Objective(terms(*names)).contents
    work = TeacherPass(bert(seed=1, width=24), encoded(), collate, TASK, contents)

    def teacher(features, device=None):
        found = {}
        for part in work(features):
            for name, each in part.items():
                found.setdefault(name, []).extend(each)
        layers = {"hidden": {}, "attention": {}, "relation": {}}
        logits = torch.cat(found.pop("outputs.logits"))
        for name, each in found.items():
            longest = [max(one.shape[axis] for one in each) for axis in range(each[0].dim())]
            whole = torch.zeros(len(each), *longest)
            for row, one in zip(whole, each, strict=True):
                row[tuple(map(slice, one.shape))] = one
            kind, _, layer = name.partition(".")
            layers[kind][int(layer)] = whole
        return TeacherOutputs({"logits": logits}, **layers)

    return teacher


@pytest.fixture(scope="module")
def teacher():
    return told(*NAMES)


def test_what_the_terms_see_is_what_the_student_computes_and_their_weighted_sum_is_minimised(tmp_path, teacher):
    """The oracle is plain PyTorch on the whole batch at once."""
    names, parts = ("hidden", "attention", "relation"), {"hidden": 0.2, "attention": 3.0}
    model = bert(layers=2, seed=7, dropout=0.0)
    work = job(
        tmp_path,
        model=bert(layers=2, seed=7, dropout=0.0),
        terms=terms(*names),
        teacher=teacher,
        alpha=0.3,
        weights=parts,
        report=(reports := Reports()),
    )
    with torch.random.fork_rng():
        torch.manual_seed(RECIPE.seed)
        join = torch.nn.Linear(16, 24, bias=False)
    batch = collate(list(encoded()))
    joints = [getattr(model.bert.encoder.layer[1].attention.self, name) for name in ("query", "key", "value")]
    model.set_attn_implementation("eager")
    out = model(**batch.inputs, output_hidden_states=True, output_attentions=True)
    seen = StudentOutputs(
        {"logits": out.logits},
        hidden={i: join(out.hidden_states[i + 1]) for i in (0, 1)},
        attention=dict(enumerate(out.attentions)),
        relation={1: torch.stack([joint(out.hidden_states[1]) for joint in joints], 1)},
    )
    tokens = batch.inputs["attention_mask"].bool()
    losses = {term.name: term(seen, teacher(batch.features), tokens) for term in terms(*names)}
    task, labelled = task_loss(out, batch)
    means = {name: total / count for name, (total, count) in losses.items()}
    total = 0.3 * sum(parts.get(name, 1.0) * mean for name, mean in means.items()) + 0.7 * task / labelled
    total.backward()

    fit(work, replace(RECIPE, batch_size=24, epochs=1))
    first = reports.training[1]
    for name, mean in means.items():
        assert first[f"train/loss_{name}"] == pytest.approx(mean.item(), rel=1e-4), name
    assert first["train/loss"] == pytest.approx(total.item(), abs=2e-4)
    norm = torch.cat([value.grad.flatten() for value in (*model.parameters(), join.weight)]).norm()
    assert first["train/grad_norm"] == pytest.approx(norm.item(), rel=1e-3)


def test_the_projection_is_trained_and_leaves_no_trace_in_the_student_nor_in_what_is_served(tmp_path, teacher):
    seen = {}

    def watching(model):
        seen.setdefault("first", model.get_submodule(PROJECTIONS)["hidden"].weight.detach().clone())
        seen["last"] = model.get_submodule(PROJECTIONS)["hidden"].weight.detach().clone()
        return validation_loss(model)

    model = bert(layers=2, seed=7)
    fresh, parameters = set(weights(model)), model.num_parameters()
    work = job(tmp_path / "a", model=model, terms=terms("hidden", "cosine"), teacher=teacher, validate=watching)
    fit(work, RECIPE)
    assert seen["last"].shape == (24, 16)
    assert (seen["first"] - seen["last"]).abs().max() > 1e-4
    assert set(weights(model)) == fresh
    assert model.num_parameters() == parameters
    assert not hasattr(model, PROJECTIONS)
    assert not model._forward_hooks
    package.save(tmp_path / "served", model, tiny.tokenizer(), {})
    assert not [name for name in load_file(tmp_path / "served" / "model.safetensors") if PROJECTIONS in name]


def test_a_stopped_training_leaves_no_trace_either(tmp_path, teacher):
    model = bert(layers=2, seed=7)
    work = job(tmp_path, model=model, terms=terms("hidden"), teacher=teacher, report=Reports(2, terminate))
    with pytest.raises(Stopped):
        fit(work, RECIPE)
    assert not hasattr(model, PROJECTIONS)


@pytest.mark.parametrize("every_s", [0.0, float("inf")], ids=["each epoch", "only when stopped"])
def test_a_stopped_and_resumed_training_ends_at_exactly_the_weights_of_an_uninterrupted_one_projection_included(
    tmp_path, teacher, every_s
):
    """SIGTERM in epoch 2 of 3; the resumed process starts from other weights and another projection."""
    names = ("soft", "hidden", "attention", "relation", "patient")
    recipe = replace(RECIPE, epochs=3, checkpoint_every_s=every_s)

    class Watched:
        def __call__(self, model):
            self.last = weights(model)
            return validation_loss(model)

    def made(folder, **changes):
        return job(tmp_path / folder, terms=terms(*names), teacher=teacher, **changes)

    watched = Watched()
    best = trained(made("straight", validate=watched), recipe)
    straight = watched.last
    assert any(PROJECTIONS in name for name in straight)
    with pytest.raises(Stopped):
        trained(made("cut", report=Reports(4, terminate)), recipe)
    assert (last_checkpoint(tmp_path / "cut") / "model.safetensors").exists()
    second = made("cut", model=bert(layers=2, seed=99), validate=watched)
    torch.manual_seed(123)
    assert fit(second, recipe).resumed_step == 5
    assert difference(watched.last, straight) == 0
    assert difference(weights(second.model), best) == 0


def test_the_projection_depends_on_the_seed_alone_and_leaves_the_global_generator_alone():
    found = []
    for noise, seed in ((1, 3), (2, 3), (1, 4)):
        torch.manual_seed(noise)
        before, model = torch.get_rng_state(), bert(layers=2)
        with looked_into(model, terms("hidden"), seed):
            found.append(weights(model)[f"{PROJECTIONS}.hidden.weight"])
        assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def asked_of(model, *names):
    """What the student is called with, and how it attends meanwhile."""
    with looked_into(model, terms(*names), 0) as switches:
        return switches, model.config._attn_implementation, bool(model._forward_hooks)


def test_no_more_is_asked_of_a_student_than_its_objective_needs():
    model = bert(layers=2)
    assert asked_of(model, "soft", "hard", "jsd", "dkd") == ({}, "sdpa", False)
    assert asked_of(model, "hidden") == ({"output_hidden_states": True}, "sdpa", True)
    assert asked_of(model, "relation") == ({}, "sdpa", True)
    switches, attention, _ = asked_of(model, "soft", "attention")
    assert switches == {"output_attentions": True}
    assert attention != "sdpa"
    assert model.config._attn_implementation == "sdpa"


def test_looking_costs_the_student_no_other_dropout_so_a_term_of_no_weight_changes_nothing(tmp_path, teacher):
    """A tiny weight: gradients are clipped together, so it cannot be 0 exactly."""
    alone = trained(job(tmp_path / "a", terms=terms("soft"), teacher=teacher))
    both = job(tmp_path / "b", terms=terms("soft", "hidden"), teacher=teacher, weights={"hidden": 1e-12})
    assert difference(alone, trained(both)) < 1e-4


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_terms_get_float32_whatever_the_precision_of_training(tmp_path, teacher, precision, monkeypatch):
    kinds = set()
    term = OBJECTIVES["hidden"](WIDE)

    class Watching:
        name, mask, needs = term.name, term.mask, term.needs

        def __call__(self, student, said, mask):
            kinds.update(value.dtype for value in student.hidden.values())
            return term(student, said, mask)

    fit(job(tmp_path, terms=(Watching(),), teacher=teacher), replace(RECIPE, precision=precision, epochs=1))
    assert kinds == {torch.float32}


def test_a_term_of_little_weight_is_warned_about_by_its_share(tmp_path, teacher):
    work = job(tmp_path, terms=terms("hidden", "cosine"), teacher=teacher, weights={"cosine": 1e-6})
    assert [warning.split("'")[1] for warning in fit(work, RECIPE).warnings] == ["cosine"]


def train(folder, environment):
    """Train as a rank, the global batch being 8 rows; what came of it goes into a file."""
    os.environ |= environment
    torch.set_num_threads(1)
    rank, ranks = (int(environment.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1)))
    names, reports, last = ("soft", "hidden", "attention", "relation"), Reports(), {}

    def watching(model):
        last["join"] = float(model.get_submodule(PROJECTIONS)["hidden"].weight.double().sum())
        return validation_loss(model)

    made = job(
        folder / "checkpoints",
        terms=terms(*names),
        teacher=told(*names),
        report=reports,
        model=bert(layers=2, seed=7, dropout=0),
        validate=watching,
    )
    fit(made, replace(RECIPE, batch_size=8 // ranks))
    found = [float(value.double().sum()) for value in weights(made.model).values()]
    (folder / f"told.{rank}").write_text(json.dumps({"weights": [*found, last["join"]]}))


def test_two_ranks_learn_what_one_process_learns_projection_included(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["test_student_activations"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    both, alone = tmp_path / "both", tmp_path / "alone"
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "KD_HOME": str(both)}
    given = [(both, {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(2)]
    processes = [context.Process(target=train, args=one) for one in [*given, (alone, {"KD_HOME": str(alone)})]]
    for folder in (both, alone):
        folder.mkdir()
    for each in processes:
        each.start()
    for each in processes:
        each.join(120)
    assert [each.exitcode for each in processes] == [0, 0, 0]
    first, second, one = (json.loads(path.read_text()) for path in (both / "told.0", both / "told.1", alone / "told.0"))
    assert first["weights"] == second["weights"] == pytest.approx(one["weights"], rel=1e-3, abs=1e-4)
