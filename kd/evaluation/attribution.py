"""Integrated gradients: which tokens a decision depends on, and how far two models agree about it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from kd.base.types import Batch, Content

STEPS = 50
"""Points of the path at which gradients are taken, by Gauss-Legendre quadrature."""
LEAST_TOKENS = 5
"""Fewest content tokens of an example: a fifth of fewer would be less than one token."""
Evidence = Callable[[Any, torch.Tensor], torch.Tensor]
"""(a model's output, decisions `(batch,)`) -> evidence in the output for these decisions, `(batch,)`."""


@dataclass(frozen=True)
class Explanation:
    """The contribution of each content token of one example to the evidence for a decision."""

    values: np.ndarray
    """`(content tokens,)`."""
    change: float
    """Evidence in the example minus that in the blank one."""
    error: float
    """Distance of the sum over all tokens from `change`, >= 0."""


def explain(
    model: PreTrainedModel, batch: Batch, content: Content, decided: torch.Tensor, evidence: Evidence
) -> Explanation:
    """Attribute the evidence for a decision to the tokens of one example.

    Integrated gradients (Sundararajan et al. 2017, equation 1, https://arxiv.org/abs/1703.01365) of the word
    embeddings, along the straight line from the example with blanks for content tokens; special tokens are not
    replaced. A token's value is the sum over its embedding.

    Args:
        model: on the device to be used, in evaluation mode.
        batch: one feature.
        content: its content tokens.
        decided: `(1,)`, the decision to explain.
        evidence: function whose value is attributed.
    """
    from captum.attr import LayerIntegratedGradients  # takes 2 s to import

    inputs = dict(batch.to(model.device).inputs)
    tokens, mask = inputs.pop(content.key), content.mask.to(model.device)
    blank = tokens.masked_fill(mask, content.blank)

    def said(given: torch.Tensor, chosen: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        return evidence(model(**{content.key: given}, **dict(zip(inputs, rest, strict=True))), chosen)

    more = (decided.to(model.device), *inputs.values())
    method = LayerIntegratedGradients(said, model.get_input_embeddings())
    found = method.attribute(tokens, blank, additional_forward_args=more, n_steps=STEPS, internal_batch_size=STEPS)
    with torch.no_grad():
        change = float(said(tokens, *more) - said(blank, *more))
    values = found.detach().double().sum(dim=-1)
    return Explanation(values[mask].cpu().numpy(), change, abs(float(values.sum()) - change))


def agreement(ours: Sequence[Explanation], theirs: Sequence[Explanation]) -> dict[str, float]:
    """Compare two models' explanations of the same decisions; means over examples.

    Returns:
        `pearson`: correlation of the tokens' values, -1 to 1, without examples on which a model's values are all the
        same. `top20`: share of the fifth of tokens with the largest absolute values that both models have in common.
    """
    pairs = [(one.values, other.values) for one, other in zip(ours, theirs, strict=True)]
    varied = [(one, other) for one, other in pairs if np.ptp(one) > 0 and np.ptp(other) > 0]
    found = {"pearson": float(np.mean([np.corrcoef(one, other)[0, 1] for one, other in varied]))} if varied else {}
    if pairs:
        found["top20"] = float(np.mean([len(_top(one) & _top(other)) / len(_top(one)) for one, other in pairs]))
    return found


def completeness_error(explanations: Sequence[Explanation]) -> float | None:
    """Return the relative error of the sums of values over all examples, 0 where they are exact."""
    whole = sum(abs(one.change) for one in explanations)
    return sum(one.error for one in explanations) / whole if whole else None


def _top(values: np.ndarray) -> set[int]:
    """Return the fifth of the positions, rounded down, with the largest absolute values; of equal ones the first."""
    return set(np.argsort(-np.abs(values), kind="stable")[: len(values) // LEAST_TOKENS].tolist())
