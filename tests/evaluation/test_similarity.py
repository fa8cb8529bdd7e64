"""CKA says what its definition says, about the layers and tokens it names."""

import numpy as np
import pytest
import torch

from kd.evaluation.similarity import cka, mean_states
from tests.evaluation.test_predict import TEXTS, collate, encoded
from tests.tiny import bert


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def by_hand(ours, theirs):
    """Song et al.'s estimate of HSIC, term by term, and CKA from it."""

    def hsic(one, other):
        n = len(one)
        k, other_k = one @ one.T, other @ other.T
        np.fill_diagonal(k, 0)
        np.fill_diagonal(other_k, 0)
        ones = np.ones(n)
        first = np.trace(k @ other_k)
        second = (ones @ k @ ones) * (ones @ other_k @ ones) / ((n - 1) * (n - 2))
        third = 2 / (n - 2) * (ones @ k @ other_k @ ones)
        return (first + second - third) / (n * (n - 3))

    return hsic(ours, theirs) / np.sqrt(hsic(ours, ours) * hsic(theirs, theirs))


def test_cka_is_the_ratio_of_the_unbiased_estimates():
    ours = draw(9, 4)
    theirs = ours[:, :3] + draw(9, 3, seed=1)
    assert cka(ours, theirs) == pytest.approx(by_hand(ours, theirs))


def test_states_that_are_rotated_scaled_and_moved_are_the_same():
    ours = draw(40, 60)
    turn = np.linalg.qr(draw(60, 60, seed=1))[0]
    assert cka(ours, 3 * ours @ turn + 7) == pytest.approx(1.0)
    assert cka(ours, ours[::-1]) < 0.5  # of other rows


def test_unrelated_states_are_not_alike_however_wide_they_are():
    """The plain estimate gives 0.6 here."""
    values = [cka(draw(60, 100, seed=2 * i), draw(60, 100, seed=2 * i + 1)) for i in range(30)]
    assert abs(np.mean(values)) < 0.05


def test_it_is_the_same_both_ways_and_within_its_range():
    ours, theirs = draw(12, 5), draw(12, 30, seed=1)
    assert cka(ours, theirs) == pytest.approx(cka(theirs, ours))
    assert -1 <= cka(ours, theirs) <= 1


@pytest.mark.parametrize("ours", [np.ones((9, 4)), np.ones((9, 4), dtype=np.float32) * 0.1])
def test_states_that_are_the_same_for_all_rows_have_no_cka(ours):
    assert cka(ours, draw(9, 4)) is None


def test_too_few_rows_have_no_cka():
    assert cka(draw(3, 4), draw(3, 4, seed=1)) is None


@pytest.fixture(scope="module")
def rows():
    return encoded()


@pytest.fixture
def model():
    return bert(dropout=0.5)


def masks(batch):
    return {"tokens": batch.inputs["attention_mask"].bool()}


def states(model, rows, positions, batch_size=4):
    return mean_states(model.eval(), rows, positions, collate, masks, batch_size)


def test_states_are_means_over_valid_tokens_of_every_layer_and_of_no_embedding(model, rows):
    got = states(model, rows, [1, 0])
    assert got.shape == (4, 2, 16)
    for place, row in enumerate((1, 0)):
        batch = {key: torch.tensor([rows[row][key]]) for key in ("input_ids", "attention_mask")}
        with torch.no_grad():
            hidden = model(**batch, output_hidden_states=True).hidden_states[1:]
        expected = np.stack([layer[0].mean(dim=0).numpy() for layer in hidden])
        np.testing.assert_allclose(got[:, place], expected, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_padding_and_order_change_no_state(model, rows, batch_size):
    everything = states(model, rows, range(len(TEXTS)), batch_size)
    np.testing.assert_allclose(states(model, rows, [4, 2])[:, [1, 0]], everything[:, [2, 4]], atol=1e-5)
    assert not np.allclose(everything[:, 2], everything[:, 4], atol=1e-3)


def test_a_model_that_gives_no_hidden_states_has_none(rows):
    class Mute(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))

        def forward(self, **_):
            return type("Output", (), {"logits": self.weight})

    assert states(Mute(), rows, [0, 1]) is None
