"""Fine-tune pretrained weights: the teacher."""

from kd import tracking
from kd.base.console import say
from kd.config import TeacherConfig
from kd.run.register import each_part
from kd.run.teacher import plan


def run(config: TeacherConfig) -> None:
    """Train, evaluate, log, profile and register a teacher."""
    with tracking.session(config.experiment) as experiment:
        for _, _, good in each_part(config, plan, experiment):
            if good:
                say(f"Give it to student and distill as teacher={good}")
