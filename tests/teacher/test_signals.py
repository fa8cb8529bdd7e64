"""The teacher's cache: it runs at most once, and what is read back is what it said about these very rows."""

import gc
import logging
import mmap
from pathlib import Path

import numpy as np
import pytest
import torch

from kd.base.hashing import fingerprint
from kd.teacher.cache import index, reader
from kd.teacher.signal import Caching, Wanted, teacher_signal
from tests.teacher.teachers import BOTH, LENGTHS, ROWS, Teacher, outputs, wanted


def mapped(values):
    """Whether an array is a view of a file."""
    if isinstance(values, memoryview):
        return isinstance(values.obj, mmap.mmap)
    return isinstance(values, np.ndarray) and mapped(values.base)


def never():
    raise AssertionError("the teacher ran although its outputs are in the cache")


def expected(rows, name, contents=("logits",), seed=0):
    return [outputs(row, contents, seed)[name] for row in rows]


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(index, "SHARD_ROWS", 7)


def open_cache(contents=("logits",), teacher=None, mode="on", **more):
    teacher = teacher or Teacher(contents)
    return teacher_signal(wanted(contents, **more), lambda: teacher, Caching(mode)), teacher


def test_a_second_run_reads_from_disk_what_the_first_computed(small):
    first, teacher = open_cache()
    assert (first.computed, sorted(teacher.asked)) == (ROWS, list(range(ROWS)))
    second = teacher_signal(wanted(), never)
    assert (second.computed, second.cached) == (0, True)
    for signal in (first, second):
        np.testing.assert_array_equal(signal.all_logits(), torch.stack(expected(range(ROWS), "logits")))


@pytest.mark.parametrize("order", [[0, 1, 2], [40, 0, 3, 3], [5], list(range(ROWS))[::-1]])
@pytest.mark.parametrize("mode", ["on", "off"])
def test_rows_are_looked_up_by_position_in_any_order(small, mode, order):
    signal, _ = open_cache(BOTH, mode=mode)
    found = signal(torch.tensor(order))
    torch.testing.assert_close(found.logits, torch.stack(expected(order, "logits", BOTH)), rtol=0, atol=0)
    longest = max(LENGTHS[order])
    assert found.hidden[1].shape == (len(order), longest, 300)
    assert found.attention[0].shape == (len(order), 2, longest, longest)
    for place, row in enumerate(order):
        n = LENGTHS[row]
        own = outputs(row, BOTH)
        torch.testing.assert_close(found.hidden[1][place, :n], own["hidden.1"], rtol=2**-11, atol=1e-6)
        torch.testing.assert_close(found.attention[0][place, :, :n, :n], own["attention.0"], rtol=2**-11, atol=1e-6)
        assert not found.hidden[1][place, n:].any()
        assert not found.attention[0][place, :, n:].any()
        assert not found.attention[0][place, :, :, n:].any()
    for tensor in (found.logits, found.hidden[1], found.attention[0]):
        assert tensor.dtype == torch.float32
        assert not tensor.requires_grad


def test_where_the_tokenizer_pads_on_the_left_so_is_what_is_read(small):
    signal, _ = open_cache(BOTH, left=True)
    short, long = int(LENGTHS.argmin()), int(LENGTHS.argmax())
    found = signal(torch.tensor([short, long])).hidden[1][0]
    torch.testing.assert_close(found[-LENGTHS[short] :], outputs(short, BOTH)["hidden.1"], rtol=2**-11, atol=1e-6)
    assert not found[: -LENGTHS[short]].any()


def test_a_row_that_there_is_not_is_an_error_and_not_some_other_row():
    signal, _ = open_cache()
    with pytest.raises(IndexError):
        signal(torch.tensor([ROWS]))


def test_writing_into_a_batch_does_not_change_the_cache():
    signal, _ = open_cache()
    signal(torch.tensor([0])).logits.fill_(99)
    torch.testing.assert_close(signal(torch.tensor([0])).logits, torch.stack(expected([0], "logits")))


def test_outputs_of_the_online_teacher_can_be_learned_from():
    class Inferring(Teacher):
        def __call__(self, rows):
            for part in super().__call__(rows):
                with torch.inference_mode():
                    made = {name: [one * 2 for one in each] for name, each in part.items()}
                yield made

    signal, _ = open_cache(BOTH, Inferring(BOTH), mode="off")
    leaf = torch.ones(3, requires_grad=True)
    found = signal(torch.tensor([1, 2]))
    ((leaf * found.logits).sum() + (found.hidden[1] * leaf[0]).sum()).backward()
    assert leaf.grad.all()


def test_a_cache_of_another_number_of_rows_is_not_read():
    open_cache()
    teacher = Teacher()
    teacher.lengths = LENGTHS[:5]
    signal = teacher_signal(Wanted("key", 5, about={"split": ""}), lambda: teacher)
    assert (signal.computed, len(signal.all_logits())) == (5, 5)


def test_another_key_never_reads_this_one():
    open_cache()
    signal, other = open_cache(key="other", teacher=Teacher(seed=1))
    assert sorted(other.asked) == list(range(ROWS))
    np.testing.assert_array_equal(signal.all_logits(), torch.stack(expected(range(ROWS), "logits", seed=1)))
    np.testing.assert_array_equal(
        teacher_signal(wanted(), never).all_logits(), torch.stack(expected(range(ROWS), "logits"))
    )


def test_logits_kept_among_other_outputs_are_not_computed_again():
    open_cache(BOTH)
    signal = teacher_signal(wanted(), never)
    assert signal.cached
    assert not signal(torch.tensor([3])).hidden


def test_logits_alone_do_not_stand_for_hidden_states():
    open_cache()
    signal, teacher = open_cache(BOTH)
    assert sorted(teacher.asked) == list(range(ROWS))
    assert signal(torch.tensor([3])).hidden[1].shape == (1, LENGTHS[3], 300)


def test_rows_lie_longest_first_so_a_batch_of_like_length_touches_few_shards(small):
    _, teacher = open_cache()
    lengths = LENGTHS[teacher.asked]
    assert (np.diff(lengths) <= 0).all()


def test_shards_are_cut_by_size_too_so_the_writers_memory_has_a_bound(monkeypatch, kd_home):
    monkeypatch.setattr(index, "SHARD_BYTES", 20_000)
    open_cache(BOTH)
    files = [path for path in kd_home.rglob("*.safetensors") if not path.name.startswith("index")]
    assert len(files) > 5
    assert max(path.stat().st_size for path in files) < 22_000


def test_reading_maps_files_and_keeps_few_open_whatever_the_number_of_shards(monkeypatch, kd_home):
    """Memory must not grow with the rows, nor file descriptors with the shards."""
    monkeypatch.setattr(index, "SHARD_ROWS", 1)
    monkeypatch.setattr(reader, "OPEN_SHARDS", 3)
    signal, _ = open_cache(BOTH)
    assert mapped(signal._reader.index.places)
    assert all(mapped(content.blocks[0]) for content in signal._reader._open(0).values())
    signal(torch.arange(ROWS))
    maps = Path("/proc/self/maps")
    if maps.exists():
        gc.collect()
        mine = {line.split()[-1] for line in maps.read_text().splitlines() if str(kd_home) in line}
        assert len(mine) <= 3 + 1  # and the index


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the system does not tell")
def test_pages_that_were_read_do_not_stay_in_this_processs_memory(monkeypatch, kd_home):
    """Else it would grow to the size of the cache, and look like a leak."""
    signal, _ = open_cache(BOTH)
    shard = next(path for path in kd_home.rglob("*.safetensors") if not path.name.startswith("index"))

    def resident():
        lines = iter(Path("/proc/self/smaps").read_text().splitlines())
        parts = [
            line
            for line in lines
            if line.endswith(str(shard))
            for line in [next(one for one in lines if one.startswith("Rss"))]
        ]
        return sum(int(part.split()[1]) for part in parts)

    signal(torch.arange(ROWS))
    assert resident() > 0
    monkeypatch.setattr(reader, "TOUCHED", 0)
    signal(torch.arange(ROWS))
    assert resident() == 0


PARTS = {"teacher": "a", "rows": "b", "max_length": "128", "precision": "fp32"}


@pytest.mark.parametrize("part", PARTS)
def test_every_part_of_the_key_counts(part):
    assert fingerprint({**PARTS, part: "other"}) != fingerprint(PARTS)


def test_the_key_depends_on_neither_order_nor_where_one_part_ends():
    assert fingerprint(dict(reversed(PARTS.items()))) == fingerprint(PARTS)
    assert fingerprint({"a": "bc", "b": ""}) != fingerprint({"a": "b", "b": "c"})


def test_without_a_cache_nothing_is_written_nothing_read_and_it_is_said_once(kd_home, caplog):
    open_cache(mode="on")
    before = {path: path.stat().st_mtime_ns for path in kd_home.rglob("*")}
    other = Teacher(seed=5)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            signal, _ = open_cache(teacher=other, mode="off")
    assert not signal.cached
    np.testing.assert_array_equal(signal.all_logits(), torch.stack(expected(range(ROWS), "logits", seed=5)))
    assert {path: path.stat().st_mtime_ns for path in kd_home.rglob("*")} == before
    assert caplog.text.count("\n") == 1


@pytest.mark.parametrize(("mode", "cached"), [("auto", False), ("on", True)])
def test_past_its_budget_the_teacher_runs_on_every_batch_unless_the_cache_is_insisted_on(mode, cached, kd_home, caplog):
    teacher = Teacher(BOTH)
    with caplog.at_level(logging.WARNING):
        signal = teacher_signal(wanted(BOTH), lambda: teacher, Caching(mode, budget_gib=1e-4))
    assert signal.cached is cached
    assert ("cache_budget_gib=0.0001" in caplog.text) is not cached
    assert bool([*kd_home.rglob("*.safetensors")]) is cached
    assert signal(torch.tensor([2])).hidden[1].shape == (1, LENGTHS[2], 300)


def test_the_size_is_known_before_the_teacher_has_run(kd_home):
    teacher = Teacher(BOTH)
    size = index.plan(teacher, {}).size
    assert not teacher.asked
    open_cache(BOTH)
    written = [path.stat().st_size for path in kd_home.rglob("*.safetensors") if path.name[:5] != "index"]
    assert size == pytest.approx(sum(written) - 1000 * len(written), rel=0.1)
