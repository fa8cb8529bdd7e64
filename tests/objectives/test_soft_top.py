"""The soft loss against the teacher's most probable options and the mass of the rest."""

import pytest
import torch

from kd.objectives.distributions import soft_kl
from kd.objectives.hard import hard_cross_entropy
from kd.teacher.run import top_log_probs

OPTIONS = 500
EXACT = [8.0, 4.0, 2.0, 8 / 5, 1.0]
"""Temperatures at which the rest's mass is known."""


def draw(seed, spread=2.0, shape=(6, 4)):
    return spread * torch.randn((*shape, OPTIONS), generator=torch.Generator().manual_seed(seed))


def mask(shape=(6, 4)):
    return torch.rand(shape, generator=torch.Generator().manual_seed(5)) < 0.7


def summed(student, teacher, where, temperature):
    """KL with all options but the teacher's top as one, in float64."""
    s, t = (each.double() / temperature for each in (student, teacher))
    p, q = t.softmax(-1), s.softmax(-1)
    top = teacher.topk(20, dim=-1).indices
    p_top, q_top = p.gather(-1, top), q.gather(-1, top)
    p_rest, q_rest = 1 - p_top.sum(-1), 1 - q_top.sum(-1)
    kl = (p_top * (p_top / q_top).log()).sum(-1) + p_rest * (p_rest / q_rest).log()
    return (temperature**2 * kl)[where].sum()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.3, 2.0, 5.0, 20.0])
def test_with_all_options_kept_it_is_the_loss_itself_at_any_temperature(temperature):
    student, teacher = draw(1), draw(2)
    ours, count = soft_kl(student, top_log_probs(teacher, OPTIONS), mask(), temperature)
    exact, same = soft_kl(student, teacher, mask(), temperature)
    torch.testing.assert_close(ours, exact, rtol=1e-4, atol=1e-4)
    assert count == same


@pytest.mark.parametrize("temperature", EXACT)
def test_the_rest_counts_as_one_option_of_its_true_mass(temperature):
    student, teacher = draw(1), draw(2)
    ours, _ = soft_kl(student, top_log_probs(teacher, 20), mask(), temperature)
    torch.testing.assert_close(ours.double(), summed(student, teacher, mask(), temperature), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("temperature", "within"),
    [(1.05, 0.02), (1.2, 0.02), (1.8, 0.02), (3.0, 0.02), (6.0, 0.02), (12.0, 0.1), (50.0, 0.1)],
)
def test_between_the_known_points_the_rests_mass_is_near(temperature, within):
    student, teacher = draw(1), draw(2)
    ours, _ = soft_kl(student, top_log_probs(teacher, 20), mask(), temperature)
    torch.testing.assert_close(ours.double(), summed(student, teacher, mask(), temperature), rtol=within, atol=1e-3)


@pytest.mark.parametrize("temperature", EXACT)
def test_what_is_missing_is_the_rests_mass_times_the_divergence_within_it(temperature):
    student, teacher, where = draw(1), draw(2), mask()
    ours, _ = soft_kl(student, top_log_probs(teacher, 20), where, temperature)
    exact, _ = soft_kl(student, teacher, where, temperature)
    top = teacher.topk(20, dim=-1).indices
    s, t = ((each.double() / temperature).scatter(-1, top, -torch.inf) for each in (student, teacher))
    rest = t.logsumexp(-1).sub((teacher.double() / temperature).logsumexp(-1)).exp()
    log_p, log_q = t.log_softmax(-1), s.log_softmax(-1)
    within = (log_p.exp() * (log_p - log_q)).nan_to_num(0).sum(-1)
    missing = (temperature**2 * rest * within)[where].sum()
    torch.testing.assert_close(ours.double() + missing, exact.double(), rtol=1e-4, atol=1e-3)
    assert missing > 0


def test_a_student_that_agrees_loses_nothing_and_the_more_is_kept_the_nearer_it_is():
    student, teacher, where = draw(1), draw(2), mask()
    same, _ = soft_kl(teacher, top_log_probs(teacher, 20), where, 2.0)
    assert same.abs() < 1e-4
    losses = [soft_kl(student, top_log_probs(teacher, k), where, 2.0)[0] for k in (5, 50, 200, OPTIONS)]
    assert losses == sorted(losses)


@pytest.mark.parametrize("k", [20, OPTIONS])
@pytest.mark.parametrize("filling", [float("nan"), float("inf"), 1e30])
def test_what_stands_at_masked_positions_reaches_neither_loss_nor_gradient(k, filling):
    student, teacher, where = draw(1), draw(2), mask()
    clean, _ = soft_kl(student, top_log_probs(teacher, k), where, 2.0)
    leaf = student.masked_fill(~where.unsqueeze(-1), filling).requires_grad_()
    loss, _ = soft_kl(leaf, top_log_probs(teacher, k), where, 2.0)
    loss.backward()
    assert loss == clean
    assert leaf.grad.isfinite().all()
    assert not leaf.grad[~where].any()


@pytest.mark.parametrize("k", [20, OPTIONS])
def test_a_teacher_that_is_certain_gives_no_nan(k):
    teacher = torch.full((2, OPTIONS), -1e4)
    teacher[:, 3] = 1e4
    leaf = draw(1, shape=(2,)).requires_grad_()
    loss, _ = soft_kl(leaf, top_log_probs(teacher, k), torch.ones(2, dtype=torch.bool), 2.0)
    exact, _ = soft_kl(leaf, teacher, torch.ones(2, dtype=torch.bool), 2.0)
    loss.backward()
    torch.testing.assert_close(loss, exact, rtol=1e-4, atol=1e-4)
    assert leaf.grad.isfinite().all()


def test_no_gradient_reaches_the_teacher_and_its_decision_is_its_first_option():
    teacher = draw(2)
    top = top_log_probs(teacher, 7)
    assert (top.values.diff() <= 0).all()
    for each in (top.values, top.tail):
        each.requires_grad_()
    student = draw(1).requires_grad_()
    soft_kl(student, top, mask(), 2.0)[0].backward()
    assert top.values.grad is None
    assert top.tail.grad is None
    assert hard_cross_entropy(student, top, mask())[0] == hard_cross_entropy(student, teacher, mask())[0]
