"""Decoupled distillation against its definition, in float64."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy

from kd.objectives.distributions import OTHERS, TARGET, decoupled_kl, soft_kl
from kd.teacher.run import top_log_probs

ALL = torch.ones(6, dtype=torch.bool)


def draw(seed, options=5):
    return 2 * torch.randn((6, options), generator=torch.Generator().manual_seed(seed))


def parts(student, teacher, temperature):
    """TCKD, NCKD and the teacher's probability of its choice, at each position."""
    p, q = (softmax(each.double().numpy() / temperature, axis=-1) for each in (teacher, student))
    found = []
    for one, other in zip(p, q, strict=True):
        best = one.argmax()
        rest, other_rest = np.delete(one, best), np.delete(other, best)
        binary = entropy([one[best], 1 - one[best]], [other[best], 1 - other[best]])
        found.append((binary, entropy(rest / rest.sum(), other_rest / other_rest.sum()), one[best]))
    return np.array(found).T


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_it_is_the_weighted_sum_of_both_parts_about_the_teachers_choice(temperature):
    student, teacher = draw(1), draw(2)
    tckd, nckd, _ = parts(student, teacher, temperature)
    expected = temperature**2 * (TARGET * tckd + OTHERS * nckd).sum()
    assert decoupled_kl(student, teacher, ALL, temperature)[0].item() == pytest.approx(expected, rel=1e-5)


def test_its_parts_make_up_the_plain_divergence_as_the_paper_derives():
    student, teacher = draw(1), draw(2)
    tckd, nckd, sure = parts(student, teacher, 2.0)
    plain = soft_kl(student, teacher, ALL, 2.0)[0].item()
    assert plain == pytest.approx(4 * (tckd + (1 - sure) * nckd).sum(), rel=1e-5)


def test_between_two_options_only_the_first_part_is_left():
    student, teacher = draw(1, options=2), draw(2, options=2)
    assert decoupled_kl(student, teacher, ALL, 2.0)[0] == pytest.approx(float(soft_kl(student, teacher, ALL, 2.0)[0]))


def test_of_many_options_the_rest_counts_as_one_that_is_not_the_teachers_choice():
    student, teacher = draw(1, options=40), draw(2, options=40)
    top = teacher.topk(3, dim=-1).indices
    summed = []
    for each in (student, teacher):
        p = each.double().softmax(-1)
        summed.append(torch.cat([p.gather(-1, top), 1 - p.gather(-1, top).sum(-1, keepdim=True)], -1).log())
    assert summed[1][:, 3].exp().max() > summed[1][:, 0].exp().min()  # the rest outweighs a choice somewhere
    best_first = [entropy(np.delete(p, 0) / (1 - p[0]), np.delete(q, 0) / (1 - q[0])) for p, q in pairs(summed)]
    binary = [entropy([p[0], 1 - p[0]], [q[0], 1 - q[0]]) for p, q in pairs(summed)]
    total, _ = decoupled_kl(student, top_log_probs(teacher, 3), ALL, 1.0)
    assert total.item() == pytest.approx(TARGET * sum(binary) + OTHERS * sum(best_first), rel=1e-4)


def pairs(summed):
    return zip(summed[1].exp().numpy(), summed[0].exp().numpy(), strict=True)
