"""What is read back is what was written, within what half precision promises."""

import numpy as np
import pytest
import torch

from kd.teacher.cache import index, shard
from kd.teacher.signal import _in_a_row

GENERATOR = torch.Generator().manual_seed(0)


def ragged(sizes, spread=0.0):
    """Rows whose values lie up to 10^spread apart."""
    return [
        torch.randn(size, 5, generator=GENERATOR) * 10 ** (spread * torch.randn(size, 5, generator=GENERATOR))
        for size in sizes
    ]


def unpacked(packed):
    """All rows, as they are read."""
    every = np.arange(len(packed.shapes))
    return [row.numpy() for piece in packed.take(every, every) for row in piece.whole]


def there_and_back(rows, half):
    return unpacked(shard.pack(rows, half))


def test_float32_comes_back_bit_for_bit():
    rows = [*ragged([3, 1, 7], spread=3), torch.tensor([[float("nan"), float("inf"), -float("inf"), 0, 1e-38]])]
    for row, back in zip(rows, there_and_back(rows, half=False), strict=True):
        np.testing.assert_array_equal(back, row.numpy())


@pytest.mark.parametrize("size", [1e-30, 1e-6, 1.0, 3e4, 7e4, 1e6])
def test_half_precision_keeps_its_bound_for_large_small_and_mixed_values(size):
    rows = [size * row for row in ragged([4, 1, 60], spread=1.5)]
    packed = shard.pack(rows, half=True)
    whole = packed.values.dtype == np.float32
    assert whole == (max(row.abs().max() for row in rows) >= 2**24)
    for row, back in zip(rows, unpacked(packed), strict=True):
        bound = 2.0**-11 * row.abs() + 2.0**-40 * row.abs().max()
        assert (np.abs(back - row.numpy()) <= bound.numpy() * (1 + 1e-6)).all()
        assert back.dtype == np.float32


def test_what_bf16_said_is_not_rounded_again():
    rows = [row.bfloat16() for row in ragged([9, 30])]
    for row, back in zip(rows, there_and_back(rows, half=True), strict=True):
        np.testing.assert_array_equal(back, row.float().numpy())


@pytest.mark.parametrize("filling", [0.0, float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_no_number_does_not_spoil_its_row(filling):
    row = torch.randn(50, generator=GENERATOR)
    row[7] = filling
    back = there_and_back([row, torch.full((3,), filling)], half=True)
    np.testing.assert_allclose(back[0], row.numpy(), rtol=2**-11)
    np.testing.assert_array_equal(back[1], np.full(3, filling, dtype=np.float32))


def test_a_row_with_one_enormous_value_keeps_its_small_ones():
    row = torch.tensor([1.25, -3.1, torch.finfo(torch.float32).min])
    np.testing.assert_array_equal(there_and_back([row], half=True)[0], row.numpy())


def test_parts_in_half_and_in_full_precision_join_without_loss():
    small, large = ragged([3, 2]), [row * 1e9 for row in ragged([4])]
    parts = [shard.pack(small, half=True), shard.pack(large, half=True)]
    joined = unpacked(shard.joined(parts))
    for part, back in zip([*unpacked(parts[0]), *unpacked(parts[1])], joined, strict=True):
        np.testing.assert_array_equal(part, back)


def test_whole_numbers_stay_whole_numbers():
    rows = [torch.arange(4), torch.tensor([2**31 - 1])]
    back = there_and_back(rows, half=False)
    assert [one.tolist() for one in back] == [[0, 1, 2, 3], [2**31 - 1]]


@pytest.mark.parametrize("half", [False, True])
def test_a_row_without_values_stands_between_its_neighbours_and_moves_none(half):
    rows = [torch.zeros(0, 5), *ragged([3]), torch.zeros(0, 5), torch.zeros(0, 5), *ragged([2]), torch.zeros(0, 5)]
    back = there_and_back(rows, half)
    assert [one.shape for one in back] == [tuple(row.shape) for row in rows]
    for row, own in zip(rows, back, strict=True):
        np.testing.assert_allclose(own, row.numpy(), rtol=2**-11)
    order = np.array([4, 0, 1, 2])
    found = _in_a_row(list(shard.pack(rows, half).take(order, np.arange(len(order)))))
    np.testing.assert_allclose(found, torch.cat([rows[place] for place in order]), rtol=2**-11)


@pytest.mark.parametrize(("values", "half"), [(77, False), (1024, False), (1025, True)])
def test_logits_of_few_classes_are_not_rounded_and_large_contents_are(values, half, tmp_path):
    class Teacher:
        lengths = np.array([3, 4])

        def __call__(self, rows):
            yield {"outputs.logits": [torch.zeros(1, values) for _ in rows]}

    assert index.plan(tmp_path, Teacher(), {}).half == {"outputs.logits": half}


def test_a_file_opens_in_the_common_library_too(tmp_path):
    from safetensors.numpy import load_file

    path = shard.write(tmp_path, "000000", {"logits": np.arange(6, dtype=np.float32).reshape(2, 3)}, {"key": "k"})
    np.testing.assert_array_equal(load_file(path)["logits"], shard.mapped(path)[0]["logits"])
    assert shard.notes_of(path) == {"key": "k"}
    assert shard.looks_whole(path)
