"""`python -m tests.toys NAME ...`: kd's commands, with the toy tasks among its tasks."""

import sys
from typing import Literal

import kd.base.types

kd.base.types.TaskName = Literal["classification", "series", "tags", "echo"]

import kd.config  # noqa: E402
from kd.commands import start  # noqa: E402
from kd.tasks import TASKS  # noqa: E402
from tests.toys.echo import Echo  # noqa: E402
from tests.toys.series import Series  # noqa: E402
from tests.toys.tags import Tags  # noqa: E402

TASKS |= {"series": Series, "tags": Tags, "echo": Echo}

if __name__ == "__main__":
    stage = sys.argv.pop(1)
    start(stage, getattr(kd.config, f"{stage.capitalize()}Config"))
