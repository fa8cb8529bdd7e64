"""Soft targets against an independent computation in float64."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy

from kd.base.types import Setting, Shape, StudentOutputs, TeacherOutputs
from kd.objectives import OBJECTIVES
from kd.objectives.distributions import soft_kl


def draw(shape, seed, size=2.0):
    return size * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 8.0])
@pytest.mark.parametrize("shape", [(7, 4), (3, 5, 9)])
def test_it_is_t_squared_times_kl_of_teacher_to_student_and_not_the_reverse(temperature, shape):
    student, teacher = draw(shape, 1), draw(shape, 2)
    mask = torch.ones(shape[:-1], dtype=torch.bool)
    total, count = soft_kl(student, teacher, mask, temperature)
    p = softmax(teacher.double().numpy() / temperature, axis=-1)
    q = softmax(student.double().numpy() / temperature, axis=-1)
    expected = temperature**2 * entropy(p, q, axis=-1).sum()  # scipy's entropy of two is KL(p || q)
    assert total.item() == pytest.approx(expected, rel=1e-5)
    assert count == np.prod(shape[:-1])
    assert total.item() != pytest.approx(temperature**2 * entropy(q, p, axis=-1).sum(), rel=1e-3)


def gradient_norm(temperature):
    student = draw((64, 10), 1, size=0.01).requires_grad_()
    mask = torch.ones(64, dtype=torch.bool)
    soft_kl(student, draw((64, 10), 2, size=0.01), mask, temperature)[0].backward()
    return student.grad.norm()


@pytest.mark.parametrize("temperature", [2.0, 8.0, 50.0])
def test_the_temperature_does_not_scale_the_gradient(temperature):
    """Hinton, Vinyals and Dean 2015, section 2.1: gradients scale as 1/T^2, so T^2 puts them back."""
    assert gradient_norm(temperature) / gradient_norm(1.0) == pytest.approx(1.0, abs=0.02)


def test_at_high_temperature_it_matches_logits_as_the_paper_says():
    """Same section, equation 4: for T far above the logits it is the squared difference of zero-mean logits / (2 N)."""
    student, teacher = draw((5, 6), 1).double(), draw((5, 6), 2).double()
    centred = (student - student.mean(-1, keepdim=True)) - (teacher - teacher.mean(-1, keepdim=True))
    total, _ = soft_kl(student, teacher, torch.ones(5, dtype=torch.bool), 200.0)
    assert total.item() == pytest.approx((centred**2).sum().item() / (2 * 6), rel=0.05)


def test_a_constant_added_to_all_logits_changes_nothing():
    student, teacher, mask = draw((5, 4), 1), draw((5, 4), 2), torch.ones(5, dtype=torch.bool)
    assert soft_kl(student + 7, teacher - 3, mask, 2.0)[0].item() == pytest.approx(
        soft_kl(student, teacher, mask, 2.0)[0].item(), rel=1e-5
    )


def test_the_term_passes_its_temperature_on():
    student, teacher, mask = draw((5, 4), 1), draw((5, 4), 2), torch.ones(5, dtype=torch.bool)
    for temperature in (1.0, 3.0):
        term = OBJECTIVES["soft"](Setting(temperature, 0.5, Shape(2, 8, 2), Shape(3, 8, 2), (), ()))
        got = term(StudentOutputs({"logits": student}), TeacherOutputs({"logits": teacher}), mask)
        assert got == soft_kl(student, teacher, mask, temperature)
