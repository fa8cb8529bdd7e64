"""Arms of a sweep have the costs of their architecture, of one measurement, and its doubt."""

from kd.analysis.statistics import Interval
from kd.analysis.table import Arm, Table
from kd.base.types import RunRecord
from kd.sweep.compared import ARCHITECTURE, _with_costs

BUSY = {"kd.quiet": "false", ARCHITECTURE: "small"}
MEASURED = RunRecord("a", "", metrics={"profile/latency_ms_p50": 31.0, "profile/latency_ms_p99": 40.0}, tags=BUSY)
OTHER = RunRecord("b", "", metrics={"test/accuracy": 0.8}, tags={ARCHITECTURE: "small"})


def with_costs(*arms):
    whole = Table("classification", "d", "test", "digest", "accuracy", True, "", arms)
    return _with_costs(whole, {"a": MEASURED, "b": OTHER}, {"small": MEASURED}).arms


def arm(run_id, figures):
    return Arm(run_id, run_id, "student", Interval(0.8, None, None, 1), figures=figures, run_ids=(run_id,))


def test_an_arm_that_was_not_measured_has_its_architectures_costs_and_their_doubt():
    (found,) = with_costs(arm("b", {"cost/train_s": 3.0}))
    assert found.figures == {"cost/train_s": 3.0, **MEASURED.metrics}
    assert found.busy == ("a",)


def test_an_arm_with_figures_of_its_own_takes_none_of_another_measurement():
    own = {"profile/latency_ms_p50": 7.0}
    (found,) = with_costs(arm("b", own))
    assert (found.figures, found.busy) == (own, ())
