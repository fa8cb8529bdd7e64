"""Compare the inside of student and teacher: their layers (CKA) and their explanations (integrated gradients)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from transformers import PreTrainedModel

from kd.base.console import say
from kd.base.hashing import fingerprint
from kd.base.task import Explainable, Processor
from kd.base.types import Batch, Features
from kd.config import FitOptions
from kd.evaluation.attribution import LEAST_TOKENS, Explanation, agreement, completeness_error, explain
from kd.evaluation.similarity import cka, mean_states
from kd.models.layers import spaced
from kd.models.students import random_like
from kd.run.encode import encoder, sample
from kd.run.plan import Plan

MOST_FEATURES = 512
AT_ONCE = 64
_STATES: dict[tuple[object, ...], np.ndarray | None] = {}
"""The last teacher's layers, which all students of a command are compared with."""


@dataclass(frozen=True)
class Prepared:
    """A model and the validation split as its features."""

    model: PreTrainedModel
    processor: Processor
    features: Features
    collate: Callable[[list[dict[str, Any]]], Batch]

    def batch(self, position: int) -> Batch:
        """Return a batch of one feature."""
        return self.collate(self.features.__getitems__([position]))


def inside(plan: Plan, config: FitOptions) -> dict[str, float]:
    """Compare student and teacher on validation features that `split_seed` chooses; empty for a teacher."""
    if plan.teacher is None:
        return {}
    task, theirs = plan.rows.task, plan.teacher
    theirs.model.to(plan.model.device).eval()
    plan.model.eval()
    student = Prepared(plan.model, plan.processor, plan.features("validation"), task.collate(plan.processor))
    features = encoder(config, plan.rows, theirs.processor)("validation")
    teacher = Prepared(theirs.model, theirs.processor, features, task.collate(theirs.processor))
    figures = _alike(plan, config, student, teacher)
    return figures | (_explained(plan, config, student, teacher) if plan.explained else {})


def _alike(plan: Plan, config: FitOptions, student: Prepared, teacher: Prepared) -> dict[str, float]:
    """Return `fidelity/cka`, the mean over the student's layers, each with the teacher's at the same depth.

    Features are matched by number: where the two models make different numbers of them, there is no figure.
    """
    if len(student.features) != len(teacher.features):
        return {}
    chosen = sample(len(student.features), MOST_FEATURES, config.split_seed)
    masks = plan.rows.task.masks
    ours = mean_states(student.model, student.features, chosen, student.collate, masks, AT_ONCE)
    assert plan.teacher is not None
    fed = fingerprint(plan.rows.task.serving())  # such as the length at which texts are cut
    key = (plan.teacher.located.digest, plan.rows.digest("validation"), fed, tuple(chosen))
    if key not in _STATES:
        _STATES.clear()
        _STATES[key] = mean_states(teacher.model, teacher.features, chosen, teacher.collate, masks, AT_ONCE)
    theirs = _STATES[key]
    if ours is None or theirs is None:
        return {}
    found = [cka(ours[mine], theirs[its]) for mine, its in spaced(len(ours), len(theirs))]
    known = [value for value in found if value is not None]
    return {"fidelity/cka": float(np.mean(known))} if len(known) == len(found) else {}


def _explained(plan: Plan, config: FitOptions, student: Prepared, teacher: Prepared) -> dict[str, float]:
    """Return figures `fidelity/attribution_...`, each also for a student with random weights (`..._floor`).

    They are of examples with enough content tokens that `split_seed` chooses; absent where the models' tokens differ.
    """
    task, device = cast(Explainable, plan.rows.task), student.model.device
    floor = random_like(student.model, config.seed).to(device).eval()
    order = np.random.default_rng(config.split_seed).permutation(len(student.features)).tolist()
    same = student.processor.get_vocab() == teacher.processor.get_vocab()
    explanations: list[list[Explanation]] = [[], [], []]
    for position in order if same else ():
        ours, theirs = (one.batch(position).to(device) for one in (student, teacher))
        content = task.explained(ours, student.processor)
        same = torch.equal(ours.inputs[content.key], theirs.inputs[content.key])
        if not same:
            break
        if int(content.mask.sum()) < LEAST_TOKENS:
            continue
        with torch.inference_mode():
            decided = task.decided(teacher.model(**theirs.inputs))
        decided = decided.clone()  # autograd refuses a tensor of inference mode
        sides = ((student.model, ours), (teacher.model, theirs), (floor, ours))
        for kept, (model, batch) in zip(explanations, sides, strict=True):
            kept.append(explain(model, batch, content, decided, task.evidence))
        if len(explanations[0]) == plan.explained:
            break
    if not same:
        say("Attributions are not compared: student and teacher do not read the same tokens")
        return {}
    of_student, of_teacher, of_floor = explanations
    if not of_student:
        say(f"Attributions are not compared: no validation row has {LEAST_TOKENS} tokens besides special ones")
        return {}
    found = {**agreement(of_student, of_teacher), "examples": float(len(of_student))}
    found |= {f"{name}_floor": value for name, value in agreement(of_floor, of_teacher).items()}
    errors = map(completeness_error, (of_student, of_teacher))
    if known := [error for error in errors if error is not None]:
        found["completeness_error"] = max(known)
    return {f"fidelity/attribution_{name}": value for name, value in found.items()}
