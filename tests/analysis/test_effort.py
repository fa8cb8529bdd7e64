"""Who was trained longer is told."""

from kd.analysis.effort import uneven_steps
from tests.report.examples import CONTROL, arm, table


def test_an_arm_that_was_trained_longer_than_its_control_is_told_of_and_one_of_equal_length_is_not():
    compared = table(CONTROL, arm("longer", "distilled", gap=0.1), arm("as long", "distilled", gap=0.1))
    steps = {pair.against: 200 for one in compared.arms for pair in one.pairs}
    steps |= {f"longer-{seed}": 300 for seed in range(3)} | {f"as long-{seed}": 205 for seed in range(3)}
    (told,) = uneven_steps(compared, steps)
    assert told == f"longer had 300 weight updates, {compared.against} 200"
    assert uneven_steps(compared, {}) == []
