"""Fine-tune pretrained weights: the teacher."""

from kd import tracking
from kd.base.console import say
from kd.config import TeacherConfig
from kd.run.data import describe, parts_of, rows_of
from kd.run.execute import Where, train
from kd.run.register import register_alone
from kd.run.teacher import plan


def run(config: TeacherConfig) -> None:
    """Train, evaluate, log, profile and register a teacher."""
    with tracking.session(config.experiment) as experiment:
        parts = parts_of(config)
        for one in parts:
            rows = rows_of(one)
            describe(one, rows)
            outcome = train(plan(one, rows), one, Where(experiment, reuse=len(parts) > 1))
            if good := register_alone(outcome, one, rows):
                say(f"Give it to student and distill as teacher={good}")
