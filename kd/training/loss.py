"""The loss of a training step: the teacher's terms and the task's own loss, as means over the whole step."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from kd.base.task import Task
from kd.base.types import Batch, MaskName, Objective, ObjectiveTerm, StudentOutputs, TeacherOutputs

SILENT_SHARE = 0.01
"""A term below this share of the total over the whole training is warned about."""
TASK = "task"
"""Name of the task's own loss among the terms."""


class StepLoss:
    """alpha x weighted sum of the teacher's terms + (1 - alpha) x task loss, each a mean over the step.

    A step may be several micro-batches on several ranks: `begin` counts each term's positions over all of them, so that
    the value does not depend on how the step is split. A feature without a target has the teacher's terms alone, with
    weight 1: then a term's mean is over all features, weighted alpha where there is a target and 1 elsewhere, and the
    task's mean is weighted by the share of features with a target.
    """

    def __init__(self, task: Task, objective: Objective, transfer: bool) -> None:
        """Minimise `objective`; `transfer`: whether features without a target take part."""
        self.task = task
        self.terms = objective.terms
        alpha = objective.alpha if self.terms else 0.0
        own = {term.name: objective.weights.get(term.name, 1.0) for term in self.terms}
        self.weights = {name: alpha * weight for name, weight in own.items()} | {TASK: 1 - alpha}
        self.added = {name: (1 - alpha) * weight for name, weight in own.items() if transfer and alpha < 1}
        self.transfer = transfer
        self.mask_of: dict[str, MaskName] = {TASK: "target", **{term.name: term.mask for term in self.terms}}
        self.counts: dict[str, torch.Tensor] = {}
        self.share: torch.Tensor | None = None
        self.means: dict[str, torch.Tensor] = {}
        self.parts: dict[str, torch.Tensor] = {}
        self.shares: dict[str, float] = {}

    def begin(
        self, batches: Sequence[Batch], total: Callable[[torch.Tensor], torch.Tensor], stopping: bool
    ) -> torch.Tensor:
        """Count the step's valid positions over its micro-batches and, by `total`, over the ranks.

        Returns:
            How many ranks are `stopping`.
        """
        masks = [self.task.masks(batch) for batch in batches if not _is_filler(batch)]
        zero = next(iter(batches[0].inputs.values())).new_zeros((), dtype=torch.int64)
        found = [torch.stack([zero, *(each[mask].sum() for each in masks)]).sum() for mask in self.mask_of.values()]
        known = [_labelled(each) for each in masks] if self.transfer else []
        having = torch.stack([zero, *(each.sum() for each in known)]).sum()
        ranks = total(torch.stack([*found, having, zero + sum(map(len, known)), zero + int(stopping)]))
        *counts, labels, features, stops = ranks.unbind()
        self.counts = dict(zip(self.mask_of, counts, strict=True))
        self.share = labels / features if self.transfer else None
        return stops

    def __call__(
        self, raw: Any, layers: Mapping[str, StudentOutputs], batch: Batch, teacher: TeacherOutputs | None
    ) -> torch.Tensor:
        """Return a micro-batch's part of the step's loss.

        Args:
            raw: the model's output.
            layers: the student's layers that each term compares, by the term's name.
            batch: on the same device.
            teacher: the teacher's outputs; None where there are no terms.
        """
        sums, alone = {TASK: self.task.loss(raw, batch)[0]}, {}
        if teacher is not None:
            masks = self.task.masks(batch)
            said = StudentOutputs(self.task.outputs(raw, batch))
            for term in self.terms:
                student = layers.get(term.name, said)
                sums[term.name] = term(student, teacher, _valid(term, masks))[0]
                if term.name in self.added:
                    alone[term.name] = term(student, teacher, _valid(term, masks, ~_labelled(masks)))[0]
        real = 0.0 if _is_filler(batch) else 1.0  # it counts nothing, but DDP needs a gradient of all weights
        total = torch.zeros((), device=sums[TASK].device)
        for name, value in sums.items():
            count = self.counts[name].clamp(min=1)
            mean = real * value / count
            part = self.weights[name] * mean
            if name in alone:
                part = part + self.added[name] * (real * alone[name] / count)
            elif name == TASK and self.share is not None:
                part = part * self.share
            total = total + part
            self.means[name] = self.means.get(name, 0.0) + mean.detach()
            self.parts[name] = self.parts.get(name, 0.0) + part.detach()
        return total

    def reported(self, steps: int, total: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, float]:
        """Return each term's mean over the steps since the last report, as `loss_<term>`."""
        found = {f"loss_{name}": float(total(value)) / max(steps, 1) for name, value in self.means.items()}
        for name, value in self.parts.items():
            self.shares[name] = self.shares.get(name, 0.0) + float(total(value))
        self.means.clear()
        self.parts.clear()
        return found

    def warnings(self) -> tuple[str, ...]:
        """Return a warning for each term that is a negligible part of the total."""
        whole = sum(self.shares.values())
        return tuple(
            f"the loss term {name!r} made up {share / whole:.2%} of the total: at this weight it teaches little"
            for name, share in self.shares.items()
            if whole > 0 and 0 < share / whole < SILENT_SHARE
        )


def _valid(
    term: ObjectiveTerm, masks: Mapping[MaskName, torch.Tensor], chosen: torch.Tensor | None = None
) -> torch.Tensor:
    """Return where a term counts, in the shape of what it compares; only in `chosen` features where they are given."""
    mask = masks[term.mask]
    if chosen is not None:
        mask = mask & chosen.reshape(-1, *[1] * (mask.dim() - 1))
    if term.mask == "positions" and mask.dim() > 1:
        return mask[masks["positions"]]  # outputs are at valid positions alone
    return mask


def _labelled(masks: Mapping[MaskName, torch.Tensor]) -> torch.Tensor:
    """Return which features of a batch have a target, `(batch,)`."""
    return masks["target"].reshape(len(masks["target"]), -1).any(dim=1)


def _is_filler(batch: Batch) -> bool:
    """Whether a batch is a placeholder, for a rank that has no features left."""
    return bool(batch.features[0] < 0)
