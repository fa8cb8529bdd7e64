"""Entry point `student`; see `python -m entrypoints.student --help`."""

from kd.commands import start
from kd.config import StudentConfig

if __name__ == "__main__":
    start("student", StudentConfig)
