"""The command that trains a missing control trains exactly the same student."""

import shlex
from dataclasses import asdict, fields

from kd.commands.distill import _control_command
from kd.config import DistillConfig, StudentConfig
from kd.config.commandline import parse


def test_the_printed_command_gives_every_option_of_the_distilled_student_to_its_control():
    asked = DistillConfig(
        dataset="my data/it's.csv", student_layers="0,5", epochs=7, learning_rate=3e-4, seed=4, alpha=0.9, patience=0
    )
    words = shlex.split(_control_command(asked, "models:/kd-t/3", "an experiment"))
    assert words[:3] == ["python", "-m", "entrypoints.student"]
    control = asdict(parse(StudentConfig, words[3:]))
    expected = {field.name: getattr(asked, field.name) for field in fields(StudentConfig)}
    assert control == {**expected, "teacher": "models:/kd-t/3", "experiment": "an experiment"}
