"""Fine-tune pretrained weights: the teacher."""

from kd import tracking
from kd.base.console import say
from kd.config import TeacherConfig
from kd.run.data import describe, rows_of
from kd.run.execute import Where, train
from kd.run.register import register_alone
from kd.run.teacher import plan


def run(config: TeacherConfig) -> None:
    """Train, evaluate, log, profile and register a teacher."""
    with tracking.session(config.experiment) as experiment:
        rows = rows_of(config)
        describe(config, rows)
        outcome = train(plan(config, rows), config, Where(experiment))
        if good := register_alone(outcome, config, rows):
            say(f"Give it to student and distill as teacher={good}")
