"""Models are measured in turn, a busy machine is noticed and tried again, and a run has one measurement's figures."""

import math
from types import SimpleNamespace
from typing import ClassVar

import pytest

from kd.base.types import RunRecord, UserError
from kd.config import MeasureConfig
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

    def remove_tags(self, names):
        self.written.append(("removed", *names))

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


def test_what_a_model_fits_is_said_of_its_newest_figures_and_by_the_devices_that_are_asked_for_now(
    monkeypatch, tmp_path
):
    """A model that was small enough when it was measured before would else be said to fit for ever."""
    old = {"kd.fits_device.phone": "true: ...", "kd.fits_ram_mib": "true", "kd.quiet": "true"}
    monkeypatch.setattr(sitting.tracking, "record", lambda run_id: RunRecord(run_id, "", tags=old))
    (tmp_path / "d.yaml").write_text("board: {ram_mib: 600, storage_mib: 9}\nwatch: {ram_mib: 599, storage_mib: 9}\n")
    asked = MeasureConfig(model="models:/m/1", devices=str(tmp_path / "d.yaml"), ram_budget_mib=700)
    run = FakeRun()
    found = sitting.log(run, Measured({"profile/ram_peak_mib": 600.0, "model/size_mib": 8.5}, {}, ""), asked)
    said = {
        "board": "peak RAM 600 of 600 MiB, model 8.5 of 9 MiB",
        "watch": "peak RAM 600 of 599 MiB, model 8.5 of 9 MiB",
    }
    assert run.written[0] == ("removed", "kd.fits_device.phone", "kd.fits_ram_mib")
    assert run.written[2] == {
        "kd.fits_ram_mib": "true",
        "kd.fits_device.board": f"true: {said['board']}",
        "kd.fits_device.watch": f"false: {said['watch']}",
    }
    assert found == {"ram_mib budget": True, f"board, {said['board']}": True, f"watch, {said['watch']}": False}


def test_devices_are_not_judged_by_figures_that_were_not_measured(tmp_path):
    (tmp_path / "d.yaml").write_text("board: {ram_mib: 600, storage_mib: 9}\n")
    asked, run = MeasureConfig(model="models:/m/1", devices=str(tmp_path / "d.yaml")), FakeRun()
    assert sitting.judge(run, {"model/size_mib": 1.0}, asked) == {}
    assert run.written == [{}]


def test_a_figure_that_the_newest_measurement_of_a_run_lacks_reads_as_absent():
    data = SimpleNamespace(params={}, tags={}, metrics={"profile/latency_ms_p99": math.nan, "test/loss": math.nan})
    info = SimpleNamespace(run_id="r", run_name="n", artifact_uri="", start_time=0)
    assert _record(SimpleNamespace(info=info, data=data)).metrics.keys() == {"test/loss"}


def test_a_run_that_has_figures_has_their_tags_too_wherever_it_was_killed(monkeypatch):
    monkeypatch.setattr(sitting.tracking, "record", lambda run_id: RunRecord(run_id, ""))
    run = FakeRun()
    sitting.log(run, Measured({"profile/latency_ms_p50": 1.0}, {"kd.quiet": "true"}, ""), None)
    assert run.written[-1] == {"profile/latency_ms_p50": 1.0}
