"""Squared error of a task's numbers, and the mean over several outputs, in float64."""

import numpy as np
import pytest
import torch

from kd.objectives.base import mean_term
from kd.objectives.mse import squared_error
from kd.teacher.run import top_log_probs


def draw(seed, *shape):
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(7,), (7, 4), (7, 4, 2)], ids=str)
def test_it_is_the_mean_over_a_positions_numbers_and_the_sum_over_valid_positions(shape):
    student, teacher = draw(1, *shape), draw(2, *shape)
    mask = torch.tensor([1, 0, 1, 1, 0, 1, 1]).bool()
    total, count = squared_error(student, teacher, mask)
    ours, theirs = (each.double().numpy()[mask.numpy()].reshape(5, -1) for each in (student, teacher))
    assert total.item() == pytest.approx(np.square(ours - theirs).mean(axis=1).sum(), rel=1e-5)
    assert count == 5


def test_its_mean_over_all_positions_is_the_librarys():
    student, teacher = draw(1, 6, 5), draw(2, 6, 5)
    total, count = squared_error(student, teacher, torch.ones(6, dtype=torch.bool))
    torch.testing.assert_close(total / count, torch.nn.functional.mse_loss(student, teacher))


def test_a_number_more_in_each_position_does_not_make_the_term_weigh_more():
    student, teacher, mask = draw(1, 6, 1), draw(2, 6, 1), torch.ones(6, dtype=torch.bool)
    once, thrice = (squared_error(s.repeat(1, n), t.repeat(1, n), mask)[0] for s, t, n in
                    ((student, teacher, 1), (student, teacher, 3)))  # fmt: skip
    torch.testing.assert_close(once, thrice)


def test_a_distribution_is_not_taken_for_numbers():
    logits = draw(1, 3, 9)
    with pytest.raises(AssertionError):
        squared_error(logits, top_log_probs(logits, 2), torch.ones(3, dtype=torch.bool))


def test_several_terms_over_the_same_positions_are_averaged_and_counted_once():
    """Summed or counted twice, a task of two outputs would have another alpha than a task of one."""
    total, count = mean_term([(torch.tensor(6.0), torch.tensor(4)), (torch.tensor(2.0), torch.tensor(4))])
    assert (total.item(), count.item()) == (4.0, 4)
    alone = (torch.tensor(5.0), torch.tensor(3))
    assert tuple(each.item() for each in mean_term([alone])) == (5.0, 3)


def test_a_gradient_flows_through_each_of_several_terms():
    parts = [torch.tensor(1.0, requires_grad=True), torch.tensor(2.0, requires_grad=True)]
    mean_term((part * 3, torch.tensor(2)) for part in parts)[0].backward()
    assert [part.grad.item() for part in parts] == [1.5, 1.5]
