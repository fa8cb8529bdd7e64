"""Train a student on the labels alone: the control of every distilled student."""

from kd import tracking
from kd.config import StudentConfig
from kd.run.data import describe, rows_of
from kd.run.execute import Where, train
from kd.run.register import register_alone
from kd.run.student import plan


def run(config: StudentConfig) -> None:
    """Train, evaluate, log, profile and register a student without a teacher."""
    with tracking.session(config.experiment) as experiment:
        rows = rows_of(config)
        describe(config, rows)
        outcome = train(plan(config, rows), config, Where(experiment))
        register_alone(outcome, config, rows)
