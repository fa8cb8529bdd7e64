"""Entry point `student`; see `python -m entrypoints.student --help`."""

from kd.config import StudentConfig
from kd.stages import start

if __name__ == "__main__":
    start("student", StudentConfig)
