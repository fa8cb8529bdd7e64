"""`python -m tests.toys NAME ...`: kd's commands, with the toy tasks among its tasks, also in processes it spawns."""

import sys

import tests.toys.register  # noqa: F401
from kd.commands import COMMANDS, start

if __name__ == "__main__":
    name = sys.argv.pop(1)
    start(name, COMMANDS[name])
