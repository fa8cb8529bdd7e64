"""Entry point `student`; see `python -m entrypoints.student --help`."""

from kd.commands import start

if __name__ == "__main__":
    start("student")
