"""Entry point `teacher`; see `python -m entrypoints.teacher --help`."""

from kd.commands import start

if __name__ == "__main__":
    start("teacher")
