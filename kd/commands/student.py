"""Train a student on the labels alone: the control of every distilled student."""

from kd import tracking
from kd.config import StudentConfig
from kd.run.data import describe, parts_of, rows_of
from kd.run.execute import Where, train
from kd.run.register import register_alone
from kd.run.student import plan


def run(config: StudentConfig) -> None:
    """Train, evaluate, log, profile and register a student without a teacher."""
    with tracking.session(config.experiment) as experiment:
        parts = parts_of(config)
        for one in parts:
            rows = rows_of(one)
            describe(one, rows)
            outcome = train(plan(one, rows), one, Where(experiment, reuse=len(parts) > 1))
            register_alone(outcome, one, rows)
