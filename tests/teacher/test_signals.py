"""The teacher's cache: it runs at most once, and what is read back is what it said about these very rows."""

import gc
import logging
import mmap
from pathlib import Path

import numpy as np
import pytest
import torch

from kd.base.hashing import fingerprint
from kd.base.types import UserError
from kd.teacher.cache import index, reader
from kd.teacher.run import top_log_probs
from kd.teacher.signal import Wanted, teacher_signal
from tests.teacher.teachers import BOTH, LENGTHS, POSITIONS, ROWS, Teacher, at_positions, outputs, wanted


def mapped(values):
    """Whether an array is a view of a file."""
    if isinstance(values, memoryview):
        return isinstance(values.obj, mmap.mmap)
    return isinstance(values, np.ndarray) and mapped(values.base)


def never():
    raise AssertionError("the teacher ran although its outputs are in the cache")


def expected(rows, contents=("outputs",), seed=0):
    """Logits `(rows, 3)`, in float32."""
    return torch.cat([outputs(row, contents, seed)["outputs.logits"] for row in rows])


def all_logits(signal):
    (name, values), *others = signal.all_outputs().items()
    assert (name, others) == ("logits", [])
    return values


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(index, "SHARD_ROWS", 7)


def open_cache(contents=("outputs",), teacher=None, mode="on", **more):
    teacher = teacher or Teacher(contents)
    return teacher_signal(wanted(contents, **more), lambda: teacher, mode), teacher


def test_a_second_run_reads_from_disk_what_the_first_computed(small):
    first, teacher = open_cache()
    assert (first.computed, sorted(teacher.asked)) == (ROWS, list(range(ROWS)))
    second = teacher_signal(wanted(), never)
    assert second.computed == 0
    assert second.reader is not None
    for signal in (first, second):
        np.testing.assert_array_equal(all_logits(signal), expected(range(ROWS)))


@pytest.mark.parametrize("order", [[0, 1, 2], [40, 0, 3, 3], [5], list(range(ROWS))[::-1]])
@pytest.mark.parametrize("mode", ["on", "off"])
def test_rows_are_looked_up_by_position_in_any_order(small, mode, order):
    signal, _ = open_cache(BOTH, mode=mode)
    found = signal(np.array(order))
    torch.testing.assert_close(found.outputs["logits"], expected(order, BOTH), rtol=0, atol=0)
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
    for tensor in (found.outputs["logits"], found.hidden[1], found.attention[0]):
        assert tensor.dtype == torch.float32
        assert not tensor.requires_grad


def ragged(mode):
    """A signal of two outputs at as many positions a feature as `POSITIONS` says."""
    return open_cache(teacher=Teacher(answer=at_positions), mode=mode)


@pytest.mark.parametrize("half", [False, True], ids=["float32", "half"])
@pytest.mark.parametrize("order", [[0, 1, 2], [40, 0, 3, 3], [5], list(range(ROWS))[::-1]])
@pytest.mark.parametrize("mode", ["on", "off"])
def test_outputs_of_unequal_numbers_of_positions_come_back_in_the_features_order_also_where_some_have_none(
    small, mode, order, half, monkeypatch
):
    """Else a student would be compared with what the teacher says of another position."""
    monkeypatch.setattr(index, "SMALL", 0 if half else 1024)
    signal, _ = ragged(mode)
    assert (signal.reader is not None) is (mode == "on")
    assert {0, 1, 2, 3} == {*POSITIONS}
    found = signal(np.array(order)).outputs
    own = [at_positions(row, ()) for row in order]
    bound = {"rtol": 2**-11, "atol": 1e-6} if half and mode == "on" else {"rtol": 0, "atol": 0}
    for name in ("start", "tags"):
        torch.testing.assert_close(found[name], torch.cat([one[f"outputs.{name}"] for one in own]), **bound)
        assert found[name].dtype == torch.float32
    assert found.keys() == {"start", "tags"}
    assert found["tags"].shape == (POSITIONS[order].sum(), 5)


@pytest.mark.parametrize("mode", ["on", "off"])
def test_features_without_any_valid_position_have_outputs_of_none_and_not_an_error(small, mode):
    signal, _ = ragged(mode)
    found = signal(np.flatnonzero(POSITIONS == 0)).outputs
    assert found["start"].shape == (0,)
    assert found["tags"].shape == (0, 5)


def test_all_outputs_are_those_of_every_feature_in_order(small):
    signal, _ = ragged("on")
    own = [at_positions(row, ()) for row in range(ROWS)]
    found = signal.all_outputs()
    for name in ("start", "tags"):
        np.testing.assert_array_equal(found[name], torch.cat([one[f"outputs.{name}"] for one in own]))


@pytest.mark.parametrize("mode", ["on", "off"])
def test_the_most_probable_of_many_options_are_read_as_one_output_and_cannot_be_had_all_at_once(small, mode):
    """What is kept apart belongs together: another feature's indices would name other options."""

    def answer(row, contents, seed):
        top = top_log_probs(at_positions(row, ())["outputs.tags"], 2)
        parts = {"values": top.values, "indices": top.indices, "tail": top.tail}
        return {f"outputs.words.{name}": part for name, part in parts.items()}

    signal, _ = open_cache(teacher=Teacher(answer=answer), mode=mode)
    order = [7, 2, 30, 2]
    found = signal(np.array(order)).outputs
    own = top_log_probs(torch.cat([at_positions(row, ())["outputs.tags"] for row in order]), 2)
    assert found.keys() == {"words"}
    assert torch.equal(found["words"].indices, own.indices)
    torch.testing.assert_close(found["words"].values, own.values)
    torch.testing.assert_close(found["words"].tail, own.tail)
    with pytest.raises(UserError, match="too many options"):
        signal.all_outputs()


def test_where_the_tokenizer_pads_on_the_left_so_is_what_is_read(small):
    signal, _ = open_cache(BOTH, left=True)
    short, long = int(LENGTHS.argmin()), int(LENGTHS.argmax())
    found = signal(np.array([short, long])).hidden[1][0]
    torch.testing.assert_close(found[-LENGTHS[short] :], outputs(short, BOTH)["hidden.1"], rtol=2**-11, atol=1e-6)
    assert not found[: -LENGTHS[short]].any()


def test_a_row_that_there_is_not_is_an_error_and_not_some_other_row():
    signal, _ = open_cache()
    with pytest.raises(IndexError):
        signal(np.array([ROWS]))


def test_writing_into_a_batch_does_not_change_the_cache():
    signal, _ = open_cache()
    signal(np.array([0])).outputs["logits"].fill_(99)
    torch.testing.assert_close(signal(np.array([0])).outputs["logits"], expected([0]))


def test_outputs_of_the_online_teacher_can_be_learned_from():
    class Inferring(Teacher):
        def __call__(self, rows):
            for part in super().__call__(rows):
                with torch.inference_mode():
                    made = {name: [one * 2 for one in each] for name, each in part.items()}
                yield made

    signal, _ = open_cache(BOTH, Inferring(BOTH), mode="off")
    leaf = torch.ones(3, requires_grad=True)
    found = signal(np.array([1, 2]))
    ((leaf * found.outputs["logits"]).sum() + (found.hidden[1] * leaf[0]).sum()).backward()
    assert leaf.grad.all()


def test_a_cache_of_another_number_of_rows_is_not_read():
    open_cache()
    teacher = Teacher()
    teacher.lengths = LENGTHS[:5]
    signal = teacher_signal(Wanted("key", 5, about={"split": ""}), lambda: teacher)
    assert (signal.computed, len(all_logits(signal))) == (5, 5)


def test_another_key_never_reads_this_one():
    open_cache()
    signal, other = open_cache(key="other", teacher=Teacher(seed=1))
    assert sorted(other.asked) == list(range(ROWS))
    np.testing.assert_array_equal(all_logits(signal), expected(range(ROWS), seed=1))
    np.testing.assert_array_equal(all_logits(teacher_signal(wanted(), never)), expected(range(ROWS)))


def test_outputs_kept_among_other_contents_are_not_computed_again():
    open_cache(BOTH)
    signal = teacher_signal(wanted(), never)
    assert signal.reader is not None
    assert not signal(np.array([3])).hidden


def test_outputs_alone_do_not_stand_for_hidden_states():
    open_cache()
    signal, teacher = open_cache(BOTH)
    assert sorted(teacher.asked) == list(range(ROWS))
    assert signal(np.array([3])).hidden[1].shape == (1, LENGTHS[3], 300)


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
    assert mapped(signal.reader._index.places)
    assert all(mapped(content.values) for content in signal.reader._open(0).values())
    signal(np.arange(ROWS))
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

    signal(np.arange(ROWS))
    assert resident() > 0
    monkeypatch.setattr(reader, "TOUCHED", 0)
    signal(np.arange(ROWS))
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
    assert signal.reader is None
    np.testing.assert_array_equal(all_logits(signal), expected(range(ROWS), seed=5))
    assert {path: path.stat().st_mtime_ns for path in kd_home.rglob("*")} == before
    assert caplog.text.count("\n") == 1


@pytest.mark.parametrize(("mode", "cached"), [("auto", False), ("on", True)])
def test_past_its_budget_the_teacher_runs_on_every_batch_unless_the_cache_is_insisted_on(mode, cached, kd_home, caplog):
    teacher = Teacher(BOTH)
    with caplog.at_level(logging.WARNING):
        signal = teacher_signal(wanted(BOTH), lambda: teacher, mode, budget_gib=1e-4)
    assert (signal.reader is not None) is cached
    assert ("cache_budget_gib=0.0001" in caplog.text) is not cached
    assert bool([*kd_home.rglob("*.safetensors")]) is cached
    assert signal(np.array([2])).hidden[1].shape == (1, LENGTHS[2], 300)


def test_the_size_is_known_before_the_teacher_has_run(kd_home):
    teacher = Teacher(BOTH)
    size = index.plan(kd_home, teacher, {}).size
    assert not teacher.asked
    open_cache(BOTH)
    written = [path.stat().st_size for path in kd_home.rglob("*.safetensors") if path.name[:5] != "index"]
    assert size == pytest.approx(sum(written) - 1000 * len(written), rel=0.1)


def test_the_size_is_known_before_where_positions_do_not_follow_the_length(kd_home):
    """An estimate of 0 would let a cache past its budget and the disk; a wild one would refuse it."""
    teacher = Teacher(answer=at_positions)
    size = index.plan(kd_home, teacher, {}).size
    values = sum(one.numel() for row in range(ROWS) for one in at_positions(row, ()).values())
    assert size == pytest.approx(4 * values + 4 * ROWS * (1 + 2), rel=0.5)
    assert open_cache(teacher=teacher)[0].reader is not None
