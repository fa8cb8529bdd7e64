"""Train a student on the labels alone: the control of every distilled student."""

from kd import tracking
from kd.config import StudentConfig
from kd.run.register import each_part
from kd.run.student import plan


def run(config: StudentConfig) -> None:
    """Train, evaluate, log, profile and register a student without a teacher."""
    with tracking.session(config.experiment) as experiment:
        for _ in each_part(config, plan, experiment):
            pass  # nothing more is to be said of one
