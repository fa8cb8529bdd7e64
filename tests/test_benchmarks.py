"""The benchmark compares equal work and writes down what was measured; nothing is timed here."""

import json

import pytest

from benchmarks import training
from benchmarks.peers import ours, trainer
from benchmarks.peers.common import Trio, Workload
from benchmarks.results import Result, render, write
from kd.run.locate import locate
from tests import tiny

TEXTS = ["good film", "the book was bad and the plot very poor", "a fine story", "it was not good"] * 5


@pytest.fixture
def workload(tmp_path):
    tiny.saved_bert(tmp_path / "teacher")
    common = {"batch_size": 8, "learning_rate": 1e-3, "warmup_ratio": 0.1, "weight_decay": 0.01, "max_length": 16}
    labels = [0, 1, 0, 1] * 5
    return Workload(tmp_path, TEXTS, labels, TEXTS, labels, 2, **common, temperature=2.0, alpha=0.5, seed=0)


def trio():
    return Trio(tiny.bert().eval(), tiny.bert(layers=2, seed=1), tiny.tokenizer())


def test_all_contenders_do_equal_work_and_only_the_cache_spares_the_teacher(workload, tmp_path, monkeypatch):
    located = locate(str(tmp_path / "teacher"), "teacher")
    done = {}
    for teacher in ("none", "online", "cold", "warm"):
        monkeypatch.setenv("KD_HOME", str(tmp_path / teacher))
        scratch = str(tmp_path / f"scratch-{teacher}")
        done[teacher] = ours.train(workload, trio(), scratch, teacher=teacher, precision="fp32", located=located)
    for padding in ("max", "batch"):
        done[padding] = trainer.train(workload, trio(), str(tmp_path / padding), padding=padding, precision="fp32")
    assert {(each.steps, each.rows) for each in done.values()} == {(workload.steps, 40)}
    taught = {name: each.teacher_rows for name, each in done.items()}
    assert taught == {"none": 0, "online": 40, "cold": 20, "warm": 0, "max": 40, "batch": 40}


def test_unequal_work_is_refused_instead_of_compared():
    equal = {"a": [{"steps": 6, "rows": 40}] * 2, f"{training.PASS}, fp32": [{"steps": 0, "rows": 0}]}
    training.require_equal(equal)
    with pytest.raises(RuntimeError, match="rows"):
        training.require_equal({**equal, "b": [{"steps": 6, "rows": 40}, {"steps": 6, "rows": 36}]})


def test_a_ratio_is_of_one_turn_so_a_slow_minute_of_the_machine_is_on_both_sides():
    control, cold, bare = (f"{name}, fp32" for name in (training.CONTROL, training.OURS["cold"], training.PASS))
    found = {
        control: [{"wall_s": 4.0}, {"wall_s": 40.0}, {"wall_s": 4.0}],
        bare: [{"wall_s": 1.0}, {"wall_s": 10.0}, {"wall_s": 1.0}],
        cold: [{"wall_s": 6.0}, {"wall_s": 60.0}, {"wall_s": 5.0}],
    }
    (line,) = training.ratios(found)
    assert line.what == pytest.approx({"times": 1.2, "at_most": 1.05})


def test_the_page_is_made_of_the_json_alone_and_leaves_out_what_was_not_measured(tmp_path):
    lines = [
        Result.of(
            "Part", "first", [{"wall_s": 1.0, "steps": 3}, {"wall_s": 9.0, "steps": 3}, {"wall_s": 2.5, "steps": 3}]
        ),
        Result.of("Part", "second", [{"wall_s": 1234.5}], "a note"),
    ]
    write("part", {"date": "2026-01-01"}, lines, tmp_path)
    assert json.loads((tmp_path / "part.json").read_text())["results"][0]["repeats"][1] == {"wall_s": 9.0, "steps": 3}
    page = render(tmp_path)
    assert "| first | 2.5 | 3 | 3 |" in page
    assert "| second | 1234 |  | 1 |" in page
    assert "- second: a note" in page
