"""Entry point `teacher`; see `python -m entrypoints.teacher --help`."""

from kd.config import TeacherConfig
from kd.stages import start

if __name__ == "__main__":
    start("teacher", TeacherConfig)
