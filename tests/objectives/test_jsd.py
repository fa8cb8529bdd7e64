"""The generalised Jensen-Shannon divergence against scipy's divergences in float64."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax
from scipy.stats import entropy

from kd.objectives.distributions import generalised_jsd, soft_kl


def draw(seed, shape=(7, 5)):
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


ALL = torch.ones(7, dtype=torch.bool)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_it_is_the_papers_formula_with_the_teacher_as_p(temperature, beta):
    student, teacher = draw(1), draw(2)
    p, q = (softmax(each.double().numpy() / temperature, axis=-1) for each in (teacher, student))
    m = beta * p + (1 - beta) * q
    expected = beta * entropy(p, m, axis=-1) + (1 - beta) * entropy(q, m, axis=-1)
    total, count = generalised_jsd(student, teacher, ALL, temperature, beta)
    assert total.item() == pytest.approx(temperature**2 * expected.sum(), rel=1e-5)
    assert count == 7


def test_at_one_half_it_is_scipys_jensen_shannon_divergence():
    student, teacher = draw(1), draw(2)
    p, q = (softmax(each.double().numpy(), axis=-1) for each in (teacher, student))
    total, _ = generalised_jsd(student, teacher, ALL, 1.0, 0.5)
    assert total.item() == pytest.approx(np.sum(jensenshannon(p, q, axis=-1) ** 2), rel=1e-5)


def test_its_ends_are_forward_and_reverse_kl_and_are_what_it_tends_to():
    student, teacher = draw(1), draw(2)
    forward, reverse = (generalised_jsd(student, teacher, ALL, 2.0, beta)[0] for beta in (0.0, 1.0))
    assert forward == soft_kl(student, teacher, ALL, 2.0)[0]
    assert reverse == soft_kl(teacher, student, ALL, 2.0)[0]
    near = [generalised_jsd(student.double(), teacher.double(), ALL, 2.0, beta)[0] for beta in (1e-3, 1 - 1e-3)]
    assert near[0] / 1e-3 == pytest.approx(float(forward), rel=0.02)
    assert near[1] / 1e-3 == pytest.approx(float(reverse), rel=0.02)
