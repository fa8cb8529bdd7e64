"""Gates are what their file says: none is halved, dropped or read in another base without a word."""

import pytest

from kd.base.types import UserError
from kd.config import GateOptions, PromoteConfig
from kd.registry.candidates import thresholds


def gates(tmp_path, text, **own):
    path = tmp_path / "g.yaml"
    path.write_text(text, encoding="utf-8")
    return thresholds(PromoteConfig(model="m", gates=str(path), **own))


def test_a_file_is_read_and_an_option_outranks_it(tmp_path):
    text = "metric: macro_f1\nmin_metric: 0.5\nallowed_drop: 1e-2\nsize_budget_mib: 100\n"
    text += "max_group_ratio: 1.2\nratio_by: sex\n"
    wanted = GateOptions(
        metric="macro_f1", min_metric=0.5, allowed_drop=0.01, size_budget_mib=100, max_group_ratio=1.2, ratio_by="sex"
    )
    assert gates(tmp_path, text) == wanted
    assert gates(tmp_path, text, min_metric=0.0).min_metric == 0.0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("min_metric: 0.9\nmax_ece: 0.1\nmin_metric: 0.1\n", "line 3, column 1: 'min_metric' is given a second time"),
        ("latency_budget_ms: 010\n", "line 1, column 20: '010' is no plain decimal number"),
        ("latency_budget_ms: 1_0\n", "'1_0' is no plain decimal number"),
        ("latency_budget_ms: 1:30\n", "'1:30' is no plain decimal number"),
        ("min_metric: .nan\n", "'.nan' is no plain decimal number"),
        ("min_metric: null\n", "min_metric is nothing: give a number, such as 0.01, or leave the line out"),
        ("min_metric:\n", "min_metric is nothing"),
        ("min_metric: '0.9'\n", "min_metric is '0.9': give a number"),
        ("allowed_drop: true\n", "allowed_drop is True"),
        ("min_metric: [0.9]\n", "min_metric is [0.9]"),
        ("min_metric: 1" + 400 * "0" + "\n", "a number past 2**53"),
        ("min_metric: 2020-99-99\n", "min_metric is '2020-99-99'"),
        ("metric: null\n", "metric=None is no metric's name"),
        ("ratio_by: 3\n", "ratio_by=3 is no column's name"),
        ("max_group_ratio: 0.5\n", "max_group_ratio=0.5 is out of range"),
        ("max_ece: 2\n", "max_ece=2 is out of range"),
        ("alowed_drop: 0.1\n", "did you mean allowed_drop"),
        ("1: 0.1\n", "unknown gate 1"),
        ("- 1\n", "must have lines"),
        ("", "must have lines"),
        ("a: [\n", "is no YAML"),
    ],
)  # fmt: skip
def test_a_gate_that_could_be_taken_otherwise_is_refused_with_the_file_and_what_is_wrong(tmp_path, text, told):
    with pytest.raises(UserError) as caught:
        gates(tmp_path, text)
    assert str(caught.value).startswith(f"gates='{tmp_path}/g.yaml'")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
