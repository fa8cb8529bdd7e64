"""How like its teacher a student is inside: layers (CKA) and what decisions rest on (integrated gradients)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kd.base.console import say
from kd.base.types import CALLER_ONLY, EncodedRows
from kd.config import FitOptions
from kd.evaluation.attribution import LEAST_TOKENS, Explanation, agreement, completeness_error, explain
from kd.evaluation.similarity import cka, mean_states, same_depth
from kd.models.load import fit_together, load_tokenizer
from kd.models.students import random_like
from kd.run.encode import encode, sample
from kd.run.plan import Plan

MOST_ROWS = 512
ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Reader:
    """A model and the validation rows as it reads them."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    rows: EncodedRows
    collate: Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]]


def inside(plan: Plan, config: FitOptions) -> dict[str, float]:
    """Compare student and teacher on validation rows that `split_seed` chooses; empty for a teacher."""
    if plan.guide is None or plan.teacher is None:
        return {}
    theirs = load_tokenizer(plan.teacher.folder, "teacher")
    fit_together(plan.guide, theirs, "teacher", config.max_length)
    teacher = plan.guide.to(plan.model.device).eval()
    plan.model.eval()
    pair = [_reader(plan, config, *each) for each in ((plan.model, plan.tokenizer), (teacher, theirs))]
    return {**_alike(plan, config, *pair), **(_explained(plan, config, *pair) if plan.explained else {})}


def _reader(plan: Plan, config: FitOptions, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Reader:
    rows = encode(config, plan.rows, "validation", tokenizer)
    return Reader(model, tokenizer, rows, plan.rows.task.collate(tokenizer))


def _alike(plan: Plan, config: FitOptions, student: Reader, teacher: Reader) -> dict[str, float]:
    """Return `fidelity/cka`, the mean over the student's layers, each with the teacher's at the same depth."""
    chosen = sample(len(student.rows), MOST_ROWS, config.split_seed)
    masks = plan.rows.task.masks
    ours, theirs = (
        mean_states(one.model, one.rows, chosen, one.collate, masks, ROWS_AT_ONCE) for one in (student, teacher)
    )
    if ours is None or theirs is None:
        return {}
    pairs = enumerate(same_depth(len(ours), len(theirs)))
    found = [cka(ours[layer], theirs[other]) for layer, other in pairs]
    known = [value for value in found if value is not None]
    return {"fidelity/cka": float(np.mean(known))} if len(known) == len(found) else {}


def _explained(plan: Plan, config: FitOptions, student: Reader, teacher: Reader) -> dict[str, float]:
    """Return the figures `fidelity/attribution_...`, each also for a student with random weights (`..._floor`)."""
    same = student.tokenizer.get_vocab() == teacher.tokenizer.get_vocab()
    examples = _examples(plan, config, student, teacher) if same else None
    if examples is None:
        say("Attributions are not compared: student and teacher do not read the same tokens")
        return {}
    if not examples:
        say(f"Attributions are not compared: no validation row has {LEAST_TOKENS} tokens besides special ones")
        return {}
    floor = random_like(student.model, config.seed).to(student.model.device).eval()
    explanations: list[list[Explanation]] = [[], [], []]
    for position in examples:
        ours, theirs = (_batch(one, position) for one in (student, teacher))
        with torch.inference_mode():
            decided = plan.rows.task.decided(teacher.model(**_inputs(theirs, teacher.model.device)))
        decided = decided.clone()  # a tensor of inference mode takes no part in gradients
        for kept, model, batch in zip(
            explanations, (student.model, teacher.model, floor), (ours, theirs, ours), strict=True
        ):
            content = plan.rows.task.content(batch, student.tokenizer)
            assert content is not None
            kept.append(explain(model, batch, content, decided, plan.rows.task.evidence))
    return _figures(*explanations)


def _figures(student: list[Explanation], teacher: list[Explanation], floor: list[Explanation]) -> dict[str, float]:
    found = agreement(student, teacher)
    found |= {f"{name}_floor": value for name, value in agreement(floor, teacher).items()}
    errors = [completeness_error(each) for each in (student, teacher)]
    if known := [error for error in errors if error is not None]:
        found["completeness_error"] = max(known)
    found["examples"] = float(len(student))
    return {f"fidelity/attribution_{name}": value for name, value in found.items()}


def _examples(plan: Plan, config: FitOptions, student: Reader, teacher: Reader) -> list[int] | None:
    """Return rows with enough content tokens, chosen by `split_seed`; None where the two read them differently."""
    chosen: list[int] = []
    for position in np.random.default_rng(config.split_seed).permutation(len(student.rows)).tolist():
        ours, theirs = (_batch(one, position) for one in (student, teacher))
        content, other = (plan.rows.task.content(batch, one.tokenizer)
                          for batch, one in ((ours, student), (theirs, teacher)))  # fmt: skip
        if content is None or other is None or not torch.equal(ours[content.key], theirs[other.key]):
            return None
        if int(content.mask.sum()) >= LEAST_TOKENS:
            chosen.append(position)
        if len(chosen) == plan.explained:
            break
    return chosen


def _batch(reader: Reader, position: int) -> dict[str, torch.Tensor]:
    return reader.collate(reader.rows.__getitems__([position]))


def _inputs(batch: dict[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    return {name: value.to(device) for name, value in batch.items() if name not in CALLER_ONLY}
