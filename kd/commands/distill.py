"""Train a student on the labels and on the teacher's outputs."""

from kd import tracking
from kd.base.console import command, say
from kd.config import DistillConfig, StudentConfig, as_words, narrowed
from kd.run.distill import plan
from kd.run.register import each_part


def run(config: DistillConfig) -> None:
    """Train, evaluate, log, profile and register a distilled student."""
    with tracking.session(config.experiment) as experiment:
        for one, outcome, _ in each_part(config, plan, experiment):
            _point_to_control(one, outcome.run_id, experiment)


def _point_to_control(config: DistillConfig, run_id: str, experiment: str) -> None:
    """Print how to compare the student with its control, and how to train the control where there is no such run."""
    tags = tracking.record(run_id).tags
    if "kd.control_arm" in tags:
        query = f"tags.`kd.arm` = '{tags['kd.control_arm']}' and tags.`kd.seed` = '{config.seed}'"
        if not tracking.runs([experiment], query):
            control = _control_command(config, tags["kd.teacher"], experiment)
            say(f"Its control, the same student without a teacher, is still to be trained: {control}")
    say(f"Compare: {command('compare', '--experiments', experiment)}")


def _control_command(config: DistillConfig, teacher: str, experiment: str) -> str:
    """Return the command that trains the control of a distilled student."""
    control = narrowed(StudentConfig, config, teacher=teacher, experiment=experiment)
    return command("student", *as_words(control))
