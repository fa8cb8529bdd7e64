"""Hard targets: the teacher's decision as the label."""

import pytest
import torch
import torch.nn.functional as F

from kd.objectives import OBJECTIVES
from kd.objectives.hard import hard_cross_entropy


def draw(shape, seed):
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(7, 4), (3, 5, 9)])
def test_it_is_cross_entropy_on_the_teachers_decision(shape):
    student, teacher = draw(shape, 1), draw(shape, 2)
    mask = torch.rand(shape[:-1], generator=torch.Generator().manual_seed(3)) < 0.5
    total, count = hard_cross_entropy(student, teacher, mask)
    expected = F.cross_entropy(student[mask], teacher[mask].argmax(-1), reduction="sum")
    torch.testing.assert_close(total, expected)
    assert count == mask.sum()


def test_how_sure_the_teacher_is_plays_no_part():
    student, teacher, mask = draw((6, 4), 1), draw((6, 4), 2), torch.ones(6, dtype=torch.bool)
    sure, unsure = (hard_cross_entropy(student, size * teacher, mask)[0] for size in (100.0, 0.01))
    assert torch.equal(sure, unsure)


def test_the_temperature_plays_no_part():
    assert OBJECTIVES["hard"](1.0) == OBJECTIVES["hard"](8.0)
