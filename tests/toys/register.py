"""Importing this adds the toys to kd's tasks, for this process."""

from kd.tasks import TASKS, TaskEntry
from tests.toys.options import EchoOptions, SeriesOptions, TagsOptions

TOYS = {
    "series": TaskEntry(SeriesOptions, "tests.toys.series:Series"),
    "tags": TaskEntry(TagsOptions, "tests.toys.tags:Tags"),
    "echo": TaskEntry(EchoOptions, "tests.toys.echo:Echo"),
}
TASKS |= TOYS
