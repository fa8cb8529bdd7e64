"""Models are measured in turn, a busy machine is noticed and tried again, and a run has one measurement's figures."""

import math
from types import SimpleNamespace
from typing import ClassVar

import pytest

from kd.base.types import RunRecord, UserError
from kd.serving import sitting
from kd.serving.profile import ROUNDS
from kd.serving.seat import Measured
from kd.tracking.runs import _record


class FakeProcess:
    """A process that is in nobody's way: says what it is asked, in the order of all."""

    asked: ClassVar[list[tuple[str, str]]] = []
    disturbed_once: ClassVar[set[str]] = set()

    def __init__(self, uri, errors):
        self.uri, self.tries = uri, 1

    def say(self, word):
        self.asked.append((self.uri, word))
        self.tries += word == "again"

    def ask(self, word):
        self.say(word)
        return self.answer() if word == "finish" else {"quiet": self.tries > 1 or self.uri not in self.disturbed_once}

    def answer(self):
        if self.uri == "gone":
            raise UserError("model='gone': there is no such model")
        return {"metrics": {"profile/latency_ms_p50": float(self.tries)}, "tags": {}, "words": ""}

    def end(self):
        self.asked.append((self.uri, "end"))


@pytest.fixture
def asked(monkeypatch):
    monkeypatch.setattr(sitting, "_Process", FakeProcess)
    monkeypatch.setattr(FakeProcess, "asked", [])
    monkeypatch.setattr(FakeProcess, "disturbed_once", set())
    monkeypatch.setattr(sitting, "_free", lambda: 2**40)
    return FakeProcess.asked


@pytest.fixture
def logged(monkeypatch):
    found = {}
    monkeypatch.setattr(sitting, "log", lambda run, measured, _: found.update({run.run_id: measured.metrics}))
    return found


def test_rounds_of_all_models_take_turns_so_that_a_machine_that_slows_down_slows_all(asked, logged):
    sitting.measure_in_turn({"one": "a", "two": "b"})
    rounds = [uri for uri, word in asked if word == "round"]
    assert rounds == ["a", "b"] * ROUNDS
    assert logged.keys() == {"one", "two"}


def test_only_what_was_disturbed_has_its_rounds_again_and_once(asked, logged, monkeypatch):
    monkeypatch.setattr(FakeProcess, "disturbed_once", {"b"})
    sitting.measure_in_turn({"one": "a", "two": "b"})
    assert [uri for uri, word in asked if word == "again"] == ["b"]
    assert [uri for uri, word in asked if word == "round"].count("b") == 2 * ROUNDS
    assert logged == {"one": {"profile/latency_ms_p50": 1.0}, "two": {"profile/latency_ms_p50": 2.0}}


def test_a_model_that_cannot_be_measured_ends_the_processes_of_all_and_nothing_is_logged(asked, logged):
    with pytest.raises(UserError, match="no such model"):
        sitting.measure_in_turn({"one": "a", "two": "gone"})
    assert [uri for uri, word in asked if word == "end"] == ["a", "gone"]
    assert logged == {}


def test_models_that_do_not_fit_into_memory_together_are_measured_in_several_sittings(asked, logged, monkeypatch):
    monkeypatch.setattr(sitting, "_free", lambda: 8 * 2**30)
    monkeypatch.setattr(sitting.tracking, "size_of", lambda uri: 2**30)
    sitting.measure_in_turn({str(number): str(number) for number in range(3)})
    ends = [uri for uri, word in asked if word == "end"]
    assert ends == ["0", "1", "2"]
    assert asked.index(("1", "end")) < asked.index(("2", "round"))
    assert logged.keys() == {"0", "1", "2"}


def test_a_model_larger_than_memory_is_still_tried_by_itself(monkeypatch):
    monkeypatch.setattr(sitting, "_free", lambda: 2**20)
    monkeypatch.setattr(sitting.tracking, "size_of", lambda uri: 2**40)
    assert sitting._at_once(["a", "b"]) == 1


class FakeRun:
    run_id = "run"

    def __init__(self):
        self.written = []

    def set_tags(self, tags):
        self.written.append(tags)

    def log_metrics(self, metrics):
        self.written.append(metrics)


def test_figures_of_an_earlier_measurement_do_not_stay_beside_those_of_the_newest(monkeypatch):
    former = {"profile/latency_ms_p99": 25.0, "profile/latency_ms_p95": 20.0, "test/accuracy": 0.9}
    monkeypatch.setattr(sitting.tracking, "record", lambda run_id: RunRecord(run_id, "", metrics=former))
    run = FakeRun()
    slow = Measured({"profile/latency_ms_p50": 90.0, "profile/latency_ms_p95": 107.0}, {"kd.quiet": "false"}, "")
    assert sitting.log(run, slow, None) == {}
    *tags, metrics = run.written
    assert {"kd.quiet": "false"} in tags
    assert math.isnan(metrics.pop("profile/latency_ms_p99"))
    assert metrics == slow.metrics


def test_a_figure_that_the_newest_measurement_of_a_run_lacks_reads_as_absent():
    data = SimpleNamespace(params={}, tags={}, metrics={"profile/latency_ms_p99": math.nan, "test/loss": math.nan})
    info = SimpleNamespace(run_id="r", run_name="n", artifact_uri="", start_time=0)
    assert _record(SimpleNamespace(info=info, data=data)).metrics.keys() == {"test/loss"}


def test_a_run_that_has_figures_has_their_tags_too_wherever_it_was_killed(monkeypatch):
    monkeypatch.setattr(sitting.tracking, "record", lambda run_id: RunRecord(run_id, ""))
    run = FakeRun()
    sitting.log(run, Measured({"profile/latency_ms_p50": 1.0}, {"kd.quiet": "true"}, ""), None)
    assert run.written[-1] == {"profile/latency_ms_p50": 1.0}
