"""`python -m tests.toys NAME ...`: kd's commands, with the toy tasks among its tasks, also in processes it spawns."""

import sys

from kd.commands import COMMANDS, start
from kd.tasks import TASKS, TaskEntry
from tests.toys.options import EchoOptions, SeriesOptions, TagsOptions

TASKS |= {
    "series": TaskEntry(SeriesOptions, "tests.toys.series:Series"),
    "tags": TaskEntry(TagsOptions, "tests.toys.tags:Tags"),
    "echo": TaskEntry(EchoOptions, "tests.toys.echo:Echo"),
}

if __name__ == "__main__":
    name = sys.argv.pop(1)
    start(name, COMMANDS[name])
