"""Terms that compare layers, against loops over their definitions in float64."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine, sqeuclidean
from scipy.special import softmax
from scipy.stats import entropy

from kd.objectives.attention import attention_kl
from kd.objectives.hidden import cosine_distance, hidden_mse, patient_distance
from kd.objectives.relation import relation_heads, relation_kl

MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [0, 1, 1, 1]]).bool()


def draw(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def by_token(distance, student, teacher):
    return sum(distance(student[place].numpy(), teacher[place].numpy()) for place in map(tuple, MASK.nonzero()))


@pytest.mark.parametrize(
    ("term", "distance"),
    [
        (hidden_mse, lambda s, t: sqeuclidean(s, t) / 8),
        (cosine_distance, cosine),
        (patient_distance, lambda s, t: sqeuclidean(s / np.linalg.norm(s), t / np.linalg.norm(t))),
    ],
    ids=["hidden", "cosine", "patient"],
)
def test_hidden_states_are_compared_token_by_token(term, distance):
    student, teacher = draw(1, 3, 4, 8).double(), draw(2, 3, 4, 8).double()
    total, count = term(student, teacher, MASK)
    assert total.item() == pytest.approx(by_token(distance, student, teacher), rel=1e-5)
    assert count == 8


def kl_of_rows(student, teacher, tokens):
    """KL from the teacher's to the student's distribution over valid keys, at each valid query."""
    picked = [each[np.ix_(tokens, tokens)] for each in (teacher, student)]
    return sum(entropy(p, q) for p, q in zip(*picked, strict=True))


@pytest.mark.parametrize("heads", [2, 3], ids=["same heads", "other heads"])
def test_attention_is_the_kl_of_teacher_to_student_by_query_and_head(heads):
    valid = MASK[:, None, None, :]
    student = draw(1, 3, 2, 4, 4).masked_fill(~valid, -1e9).softmax(-1).double()
    teacher = draw(2, 3, heads, 4, 4).masked_fill(~valid, -1e9).softmax(-1).double()
    expected = 0.0
    for row, mask in enumerate(MASK):
        tokens = np.flatnonzero(mask)
        if heads == 2:
            expected += np.mean([kl_of_rows(student[row, h].numpy(), teacher[row, h].numpy(), tokens) for h in (0, 1)])
        else:
            expected += kl_of_rows(student[row].mean(0).numpy(), teacher[row].mean(0).numpy(), tokens)
    total, count = attention_kl(student, teacher, MASK)
    assert total.item() == pytest.approx(expected, rel=1e-5)
    assert count == 8


def relations(vectors, heads):
    """One row's relations `(heads, tokens, tokens)`, of vectors `(tokens, width)`."""
    parts = np.split(vectors, heads, axis=-1)
    return [softmax(part @ part.T / np.sqrt(part.shape[-1]), axis=-1) for part in parts]


@pytest.mark.parametrize(("width", "heads"), [(8, 2), (8, 4), (12, 4)])
def test_relations_are_of_tokens_by_queries_keys_and_values_in_heads_split_anew(width, heads):
    student, teacher = draw(1, 3, 3, 4, 8).double(), draw(2, 3, 3, 4, width).double()
    expected = 0.0
    for row, mask in enumerate(MASK):
        tokens = np.flatnonzero(mask)
        for kind in range(3):
            ours, theirs = (relations(each[row, kind].numpy()[tokens], heads) for each in (student, teacher))
            expected += sum(entropy(p, q, axis=-1).sum() for p, q in zip(theirs, ours, strict=True)) / (3 * heads)
    total, count = relation_kl(student, teacher, MASK, heads)
    assert total.item() == pytest.approx(expected, rel=1e-5)
    assert count == 8


@pytest.mark.parametrize(
    ("widths", "most", "heads"), [((384, 384), 12, 12), ((312, 768), 12, 12), ((128, 384), 12, 8), ((7, 9), 12, 1)]
)
def test_relation_heads_divide_both_widths_whatever_they_are(widths, most, heads):
    assert relation_heads(*widths, most) == heads
