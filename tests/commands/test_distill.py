"""The command that trains a missing control trains exactly the same student."""

import shlex

from kd.commands import read
from kd.commands.distill import _control_command
from kd.config import DistillConfig, StudentConfig, narrowed
from kd.tasks.classification.options import ClassificationOptions


def test_the_printed_command_gives_every_option_of_the_distilled_student_to_its_control():
    asked = DistillConfig(
        dataset="my data/it's.csv",
        task_options=ClassificationOptions(text_column="a b"),
        student_layers="0,5",
        epochs=7,
        learning_rate=3e-4,
        seed=4,
        alpha=0.9,
        patience=0,
    )
    words = shlex.split(_control_command(asked, "models:/kd-t/3", "an experiment"))
    assert words[:4] == ["python", "-m", "kd", "student"]
    expected = narrowed(StudentConfig, asked, teacher="models:/kd-t/3", experiment="an experiment")
    assert read("student", words[4:]) == expected
